"""Pickling of values without a copy of their large parts."""

import copyreg
import pickle
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from itertools import islice
from mmap import mmap
from types import CodeType
from typing import Any, Final

import cloudpickle

from handoff_actors.errors import VersionMismatch
from handoff_actors.wire.interpreter import PYTHON

PROTOCOL: Final = 5
#: Copying less than this takes no longer than the pickler that does not copy: 3 µs.
BULKY_NBYTES: Final = 256 * 1024
#: The number of members of a container that are looked at.
_MEMBERS: Final = 32
#: Pickles by hand are bytes; numpy, pandas and arrow give their memory out of band by themselves.
_FLAT: Final = frozenset({bytes, bytearray, str})
_SEQUENCES: Final = frozenset({list, tuple})

Piece = bytes | bytearray
#: By type: a function that stands in for `__reduce__` of objects of exactly this type.
Reducers = Mapping[type, Callable[[Any], Any]]

#: Gives the position of an object among the parts that are left out of a pickle; None for what stays in it.
PositionOf = Callable[[object], int | None]

#: Only this much of a pickle is searched for code; code that comes later shows when the pickle is loaded.
_SEARCHED_NBYTES: Final = 2**20


def pickled(value: Any, reducers: Reducers | None = None) -> tuple[list[Piece], list[pickle.PickleBuffer]]:
    """Return the pickle, in pieces that follow one another, and its out-of-band buffers.

    Neither may be used once the value has changed. Raises the errors of cloudpickle, or of the value itself.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        pieces = _plain(value, buffers, reducers)
    except Exception:  # noqa: BLE001 - a user's __reduce__ raises what it likes, and cloudpickle may know better
        pieces = None
    if pieces is None or _names_what_travels_by_value(pieces):
        buffers.clear()
        pieces = []
        _ValuePickler(_Pieces(pieces), buffers, reducers or {}).dump(value)
    return pieces, buffers


def pickled_without(value: Any, position_of: PositionOf) -> tuple[list[Piece], list[pickle.PickleBuffer]]:
    """Do the same without the parts for which `position_of` gives a position: `unpickled` puts them in again.

    `position_of` is asked for every object in the value, and for every buffer, as a `PickleBuffer`.
    """
    pieces: list[Piece] = []
    buffers: list[pickle.PickleBuffer] = []
    _PartPickler(_Pieces(pieces), buffers, position_of).dump(value)
    return pieces, buffers


def unpickled(data: bytes | memoryview | mmap, buffers: Iterable[Any], parts: Sequence[Any]) -> Any:
    """Unpickle a value that was pickled without these parts. Raises the errors of unpickling."""
    return _PartUnpickler(data, buffers, parts).load()


def pickled_by_value(code: Any) -> bytes:
    """Pickle code that others can't import. Raises the errors of cloudpickle, or of a value that the code captures."""
    pieces: list[Piece] = []
    _ValuePickler(_Pieces(pieces), None, {}).dump(code)
    return b"".join(pieces)


def has_code(encoded: bytes) -> bool:
    """True if a pickle contains code by value, which only the same minor version of Python can load."""
    return encoded.find(_MARK, 0, _SEARCHED_NBYTES) >= 0


def _plain(value: Any, buffers: list[pickle.PickleBuffer], reducers: Reducers | None) -> list[Piece]:
    if reducers is None and not _is_bulky(value):
        return [pickle.dumps(value, PROTOCOL, buffer_callback=buffers.append)]
    pieces: list[Piece] = []
    pickler = pickle.Pickler(_Pieces(pieces), PROTOCOL, buffer_callback=buffers.append)
    if reducers is not None:
        table: dict[type, Any] = {**copyreg.dispatch_table, **reducers}
        pickler.dispatch_table = table
    pickler.dump(value)
    return pieces


def _is_bulky(value: Any) -> bool:
    """True if `dumps` would copy much. The value and its first members are looked at; larger parts deeper may be missed."""
    kind = type(value)
    if kind in _FLAT:
        return len(value) >= BULKY_NBYTES
    if kind in _SEQUENCES:
        members = value
    elif kind is dict:
        members = value.values()
    else:
        return False
    return any(type(member) in _FLAT and len(member) >= BULKY_NBYTES for member in islice(members, _MEMBERS))


def _names_what_travels_by_value(pieces: list[Piece]) -> bool:
    """True if a pickle may refer to modules that others can't import: `__main__`, and those that users have registered."""
    # The pickler's own pieces are shorter than the large bytes between them, in which no name counts.
    own = pieces if len(pieces) == 1 else [piece for piece in pieces if len(piece) < BULKY_NBYTES]
    registered = cloudpickle.list_registry_pickle_by_value()
    for piece in own:
        if b"__main__" in piece or any(module.encode() in piece for module in registered):
            return True
    return False


class _Pieces:
    """The file that a pickler writes to; it keeps large bytes as they are."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.write = pieces.append


def _reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    flat = view if view.c_contiguous else memoryview(view.tobytes())
    return _memoryview, (pickle.PickleBuffer(flat), view.format, view.shape)


def _memoryview(buffer: Any, form: str, shape: tuple[int, ...]) -> memoryview:
    flat = memoryview(buffer).cast("B")
    return flat if (form, len(shape)) == ("B", 1) else flat.cast(form, shape)  # type: ignore[call-overload]


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    _, parts = cloudpickle.Pickler.dispatch_table[CodeType](code)
    # Since 3.1.3 cloudpickle forgets the file, without which tracebacks have no lines of source.
    return code_of_python, (PYTHON, code.co_filename, *parts)


def code_of_python(python: str, filename: str, *parts: Any) -> CodeType:
    """Rebuild code that this minor version of Python took apart. Another version's would crash the process when it runs.

    Raises VersionMismatch.
    """
    if python != PYTHON:
        raise VersionMismatch(
            f"it has code that was pickled by value with Python {python}, and this is Python {PYTHON}: "
            "have that code in a module which both import, or run all that use it on one version"
        )
    return CodeType(*parts).replace(co_filename=filename)


_MARK: Final = code_of_python.__name__.encode()


class _ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """A cloudpickle pickler that pickles memoryviews, too: they arrive as read-only views of the bytes sent.

    Code by value is marked as such, with the version of Python that it is from.
    """

    def __init__(
        self, pieces: _Pieces, buffers: list[pickle.PickleBuffer] | None, reducers: Reducers
    ) -> None:
        own = {memoryview: _reduce_memoryview, CodeType: _reduce_code, **reducers}
        # The pickler underneath looks for it once, while it is made.
        self.dispatch_table = ChainMap(own, cloudpickle.Pickler.dispatch_table)
        super().__init__(pieces, PROTOCOL, buffer_callback=None if buffers is None else buffers.append)


class _PartPickler(_ValuePickler):
    """Leaves out parts of a value. Objects that the value has several times stay one object, parts or not."""

    def __init__(self, pieces: _Pieces, buffers: list[pickle.PickleBuffer], position_of: PositionOf) -> None:
        # See above.
        self._position_of = position_of
        super().__init__(pieces, buffers, {})

    def persistent_id(self, part: object) -> int | None:
        """See pickle.Pickler."""
        return self._position_of(part)


class _PartUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes | memoryview | mmap, buffers: Iterable[Any], parts: Sequence[Any]) -> None:
        super().__init__(BytesIO(data), buffers=buffers)
        self._parts = parts

    def persistent_load(self, position: Any) -> Any:
        """See pickle.Unpickler."""
        return self._parts[position]
