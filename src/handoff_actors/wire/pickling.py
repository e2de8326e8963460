"""Pickling of values without a copy of their large parts."""

import copyreg
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from io import BytesIO
from itertools import islice
from mmap import mmap
from typing import Any, ClassVar, Final

import cloudpickle

from handoff_actors.wire.arrow import LAST_MODULE as ARROW, teach_pickle as teach_arrow
from handoff_actors.wire.code import managers
from handoff_actors.wire.code.by_value_pickler import (
    PROTOCOL,
    ByValuePickler,
    GlobalsEncoder,
    Piece,
    Pieces,
    Reducers,
    code_of_python,
    prologue,
)
from handoff_actors.wire.exception_parts import made, pickles_itself, restore

#: Part of the names of `__main__` and of the main module of multiprocessing's children.
_MAIN: Final[tuple[bytes, ...]] = (b"_main__",)
#: Copying less than this takes no longer than the pickler that does not copy: 3 µs.
BULKY_NBYTES: Final = 256 * 1024
#: The number of members of a container that are looked at.
_MEMBERS: Final = 32
#: Pickles by hand are bytes; numpy, pandas and arrow give their memory out of band by themselves.
_FLAT: Final = frozenset({bytes, bytearray, str})
#: Objects of these types refer to nothing else.
NUMBERS: Final = frozenset({int, float, complex, bool, type(None)})
_SEQUENCES: Final = frozenset({list, tuple})

#: Gives the position of an object among the parts that are left out of a pickle; None for what stays in it.
PositionOf = Callable[[object], int | None]

#: Only this much of a pickle is searched for code; code that comes later shows when the pickle is loaded.
_SEARCHED_NBYTES: Final = 2**20


def pickled(value: Any, reducers: Reducers | None = None) -> tuple[list[Piece], list[pickle.PickleBuffer]]:
    """Return the pickle, in pieces that follow one another, and its out-of-band buffers.

    Neither may be used once the value has changed. Raises the errors of cloudpickle, or of the value itself.
    """
    if type(value) in NUMBERS:
        return [pickle.dumps(value, PROTOCOL)], []
    buffers: list[pickle.PickleBuffer] = []
    if ARROW in sys.modules:
        teach_arrow()
    try:
        pieces = _plain(value, buffers, reducers)
    except Exception:  # noqa: BLE001 - a user's __reduce__ raises what it likes, and cloudpickle may know better
        pieces = None
    if pieces is None or issubclass(type(value), BaseException) or _names_what_travels_otherwise(pieces):
        buffers.clear()
        pieces = _by_value(ByValuePickler, value, buffers, reducers)
    return pieces, buffers


def pickled_without(value: Any, position_of: PositionOf) -> tuple[list[Piece], list[pickle.PickleBuffer]]:
    """Do the same without the parts for which `position_of` gives a position: `unpickled` puts them in again.

    `position_of` is asked for every object in the value, and for every buffer, as a `PickleBuffer`.
    """
    teach_arrow()
    buffers: list[pickle.PickleBuffer] = []
    return _by_value(partial(_PartPickler, position_of), value, buffers, None), buffers


def unpickled(data: bytes | memoryview | mmap, buffers: Iterable[Any], parts: Sequence[Any]) -> Any:
    """Unpickle a value that was pickled without these parts. Raises the errors of unpickling."""
    return _PartUnpickler(data, buffers, parts).load()


def unpickled_without_constructors(
    data: bytes | memoryview | mmap, buffers: Iterable[Any], parts: Sequence[Any]
) -> Any:
    """Do the same without the constructors of exceptions, which want something else than what Python has pickled."""
    return _ConstructorFreeUnpickler(data, buffers, parts).load()


def has_code(encoded: bytes | memoryview) -> bool:
    """True if a pickle contains code by value, which only the same minor version of Python can load."""
    if isinstance(encoded, memoryview):
        encoded = bytes(encoded[:_SEARCHED_NBYTES])
    return encoded.find(_MARK, 0, _SEARCHED_NBYTES) >= 0


def _by_value(
    make_pickler: Callable[..., ByValuePickler],
    value: Any,
    buffers: list[pickle.PickleBuffer],
    reducers: Reducers | None,
) -> list[Piece]:
    pieces: list[Piece] = []
    encoder = GlobalsEncoder()
    make_pickler(Pieces(pieces), buffers, encoder, reducers).dump(value)
    return [*prologue(encoder), *pieces]


def _plain(value: Any, buffers: list[pickle.PickleBuffer], reducers: Reducers | None) -> list[Piece]:
    if reducers is None and not _is_bulky(value):
        return [pickle.dumps(value, PROTOCOL, buffer_callback=buffers.append)]
    pieces: list[Piece] = []
    pickler = pickle.Pickler(Pieces(pieces), PROTOCOL, buffer_callback=buffers.append)
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


def _names_what_travels_otherwise(pieces: list[Piece]) -> bool:
    """True if a pickle may refer to modules that others can't import: `__main__`, and those that users have registered.

    Or if it may have objects of multiprocessing.
    """
    # The pickler's own pieces are shorter than the large bytes between them, in which no name counts.
    own = pieces if len(pieces) == 1 else [piece for piece in pieces if len(piece) < BULKY_NBYTES]
    registered = cloudpickle.list_registry_pickle_by_value()
    marks = _MAIN
    if registered or managers.may_be_there():
        marks = (*_MAIN, *managers.MARKS, *(module.encode() for module in registered))
    for piece in own:
        for mark in marks:
            if mark in piece:
                return True
    return False


_MARK: Final = code_of_python.__name__.encode()


class _PartPickler(ByValuePickler):
    """Leaves out parts of a value. Objects that the value has several times stay one object, parts or not."""

    def __init__(self, position_of: PositionOf, *arguments: Any) -> None:
        # The pickler underneath looks for it once, while it is made.
        self._position_of = position_of
        super().__init__(*arguments)

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


#: The one in C can't be taught.
_PythonUnpickler: Any = pickle._Unpickler  # noqa: SLF001


class _ConstructorFreeUnpickler(_PythonUnpickler):  # type: ignore[misc]
    """A slow unpickler, for values that can't be unpickled otherwise."""

    def __init__(self, data: bytes | memoryview | mmap, buffers: Iterable[Any], parts: Sequence[Any]) -> None:
        super().__init__(BytesIO(data), buffers=buffers)
        self._parts = parts

    def persistent_load(self, position: Any) -> Any:
        """See pickle.Unpickler."""
        return self._parts[position]

    def load_reduce(self) -> None:
        """Call what is on the stack."""
        make, args = self.stack[-2:]
        if _has_constructor_of_its_own(make):
            error = made(make)
            restore(error, (args, {}, {}))
            self.stack[-2:] = [error]
        else:
            super().load_reduce()

    dispatch: ClassVar = {**_PythonUnpickler.dispatch, pickle.REDUCE[0]: load_reduce}


def _has_constructor_of_its_own(make: Any) -> bool:
    return (
        issubclass(type(make), type)
        and issubclass(make, BaseException)
        and not issubclass(make, BaseExceptionGroup)
        and not pickles_itself(make)
    )
