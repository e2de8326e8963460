"""Values, code and exceptions as bytes: the only place of ours where pickles are made and read.

A value is its pickle (protocol 5; the first byte is 0x80). Where it has large buffers, such as arrays, it is

    b"HB", two zero bytes, count: u32, pickle length: u64, one length per buffer: u64, pickle, buffers

in little-endian order, each buffer at the next multiple of 64 bytes, so that a mapped file yields aligned arrays
without a copy.
"""

import functools
import importlib
import inspect
import pickle
import struct
import sys
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from itertools import islice
from mmap import mmap
from types import FunctionType, ModuleType
from typing import Any, Final, Self

from handoff_actors.attributes import own_attribute
from handoff_actors.errors import SerializationError, VersionMismatch
from handoff_actors.text import repr_of, str_of, type_name_of
from handoff_actors.wire.code.by_value import is_sent_by_value
from handoff_actors.wire.code.by_value_pickler import Piece, pickled_code
from handoff_actors.wire.code.managers import advice_on
from handoff_actors.wire.code.namespaces import Group, current, decoded_groups, encoded_groups
from handoff_actors.wire.code.naming import MAINS
from handoff_actors.wire.code.sources import sent_digest
from handoff_actors.wire.code.unchanging import UnchangingCode
from handoff_actors.wire.pickling import (
    PositionOf,
    pickled,
    pickled_without,
    unpickled,
    unpickled_without_constructors,
)

_PICKLE: Final = pickle.PROTO[0]
_MAGIC: Final = b"HB"
_HEADER: Final = struct.Struct("<2sxxIQ")
_ALIGNMENT: Final = 64
#: Length of the globals that code by value begins with.
_GROUPS_NBYTES: Final = struct.Struct("<Q")
#: Depth and width of the search for the part that cannot be pickled.
_SEARCH_DEPTH: Final = 8
_SEARCH_WIDTH: Final = 1000
#: Bytes of code by value, with all that it captures: it travels within one message, unlike arguments.
MOST_OF_CODE_NBYTES: Final = 1000 * 2**20
#: References to code whose digests are kept.
_REFERENCES_KEPT: Final = 1024
#: Characters of a key on the path to a part that can't be pickled.
_MOST_OF_KEY: Final = 100
#: Advice for users, where a node lacks a module.
WAYS_TO_A_MODULE: Final = (
    "install it there, name a directory that has it as working_dir= (or in the node's PYTHONPATH),"
    " or send it along with modules_by_value=[...]"
)


class Payload:
    """An encoded value, as buffers that are to be written one after another."""

    __slots__ = ("buffers", "nbytes")

    def __init__(self, buffers: Sequence[Piece | memoryview]) -> None:
        self.buffers = buffers
        self.nbytes = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))

    def to_bytes(self) -> bytes:
        """Return the whole encoding as one piece; uncopied if it is one piece already."""
        first = self.buffers[0]
        return first if len(self.buffers) == 1 and type(first) is bytes else b"".join(self.buffers)


# --- Values -----------------------------------------------------------------------------------------------------


def encode(value: Any, name: str | None = "value", position_of: PositionOf | None = None) -> Payload:
    """Encode a value; its large buffers are not copied, so it must not change before the payload is used.

    For `position_of` see `encode_call`. Raises SerializationError, which names the part that cannot be pickled; the value
    itself is called `name`. Without a name no part is looked for, which takes long in large values.
    """
    pieces, buffers = _pickle(value, name, position_of)
    return Payload(_lay_out(pieces, [buffer.raw() for buffer in buffers]) if buffers else pieces)


def _pickle(
    value: Any, name: str | None = "value", position_of: PositionOf | None = None
) -> tuple[list[Piece], list[pickle.PickleBuffer]]:
    try:
        return pickled(value) if position_of is None else pickled_without(value, position_of)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A user's __reduce__ may even exit; that is an error of the value.
        raise SerializationError(
            _summary(error) if name is None else _refusal({name: value}, error)
        ) from error


def decode(data: bytes | memoryview | mmap, parts: Sequence[Any] = ()) -> Any:
    """Decode a value; its large buffers are read-only views of `data`. `parts` were taken out of it: see `encode_call`.

    Raises SerializationError.
    """
    try:
        if data[0] == _PICKLE:
            return unpickled(data, (), parts) if parts else pickle.loads(data)
        main, buffers = _split(memoryview(data).toreadonly())
        return unpickled(main, buffers, parts) if parts else pickle.loads(main, buffers=buffers)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, TypeError):
            with suppress(Exception):
                return _decoded_otherwise(data, parts)
        raise _unreadable(error) from error


def _decoded_otherwise(data: bytes | memoryview | mmap, parts: Sequence[Any]) -> Any:
    if data[0] == _PICKLE:
        return unpickled_without_constructors(data, (), parts)
    return unpickled_without_constructors(*_split(memoryview(data).toreadonly()), parts)


class Sealed:
    """A value that is encoded already, and stays so within other values until it is opened.

    Encoding and decoding those others can't fail because of it, and an error on opening is certainly about this value.
    """

    __slots__ = ("_buffers", "_core")

    def __init__(self, core: bytes, buffers: Sequence[Any]) -> None:
        self._core = core
        self._buffers = buffers

    @classmethod
    def of(cls, value: Any) -> Self:
        """Encode a value, as `encode` does. Raises SerializationError."""
        pieces, buffers = _pickle(value)
        return cls(b"".join(pieces), buffers)

    def count_nbytes(self, counted: set[int]) -> int:
        """Return the size of the encoding, without buffers of objects whose ids have been `counted`; theirs are added."""
        nbytes = len(self._core)
        for buffer in self._buffers:
            view = memoryview(buffer)
            if id(view.obj) not in counted:
                counted.add(id(view.obj))
                nbytes += view.nbytes
        return nbytes

    def open(self) -> Any:
        """Decode the value; its large buffers are copies that may be written to. Raises SerializationError."""
        try:
            return pickle.loads(self._core, buffers=map(bytearray, self._buffers))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, TypeError):
                with suppress(Exception):
                    return unpickled_without_constructors(self._core, map(bytearray, self._buffers), ())
            raise _unreadable(error) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Sealed, (self._core, self._buffers)


def _unreadable(error: BaseException) -> SerializationError:
    if isinstance(error, ModuleNotFoundError):
        return SerializationError(
            f"a value needs module {error.name!r}, which cannot be imported where it is needed: {WAYS_TO_A_MODULE}"
        )
    return SerializationError(f"a value cannot be unpickled: {_summary(error)}")


def encode_call(
    extra_args: tuple[Any, ...],
    kwargs: dict[str, Any],
    position_of: PositionOf | None = None,
    name: str = "extra_args",
) -> Payload:
    """Encode the arguments that follow the results of a function's `args`.

    With `position_of`, the parts for which it gives a position among others are left out, and decoding needs them.
    Raises SerializationError, in which `extra_args` are called `name`.
    """
    try:
        return encode((extra_args, kwargs), position_of=position_of)
    except SerializationError as error:
        reason = _refusal({name: extra_args, "kwargs": kwargs}, error.__cause__ or error)
        raise SerializationError(reason) from error.__cause__


def decode_call(constants: bytes, parts: Sequence[Any] = ()) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode (extra_args, kwargs), of which `parts` were left out. Raises SerializationError."""
    extra_args, kwargs = decode(constants, parts)
    return extra_args, kwargs


def _lay_out(pieces: list[Piece], buffers: list[memoryview]) -> list[Piece | memoryview]:
    pickle_length = sum(map(len, pieces))
    lengths = struct.pack(f"<{len(buffers)}Q", *map(len, buffers))
    laid_out: list[Piece | memoryview] = [
        _HEADER.pack(_MAGIC, len(buffers), pickle_length) + lengths,
        *pieces,
    ]
    end = len(laid_out[0]) + pickle_length
    for buffer in buffers:
        padding = -end % _ALIGNMENT
        laid_out += (bytes(padding), buffer)
        end += padding + len(buffer)
    return laid_out


def _split(data: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Undo `_lay_out`. Raises ValueError."""
    magic, count, pickle_length = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("it does not start like an encoded value")
    lengths = struct.unpack_from(f"<{count}Q", data, _HEADER.size)
    start = _HEADER.size + 8 * count
    end = start + pickle_length
    main = data[start:end]
    buffers = []
    for length in lengths:
        start = end + -end % _ALIGNMENT
        end = start + length
        buffers.append(data[start:end])
    if end > len(data):
        raise ValueError(f"it has {len(data)} bytes of {end}")
    return main, buffers


# --- Why a value cannot be encoded ------------------------------------------------------------------------------


def _refusal(roots: Mapping[str, Any], error: BaseException) -> str:
    """Return a message that names the part that cannot be encoded, and its place in `roots`."""
    try:
        return _refusal_of_part(roots, error)
    except Exception:  # noqa: BLE001 - users' values raise what they like when they are searched
        path, value = next(iter(roots.items()))
        return f"{path} of type {type_name_of(value)} cannot be pickled: {_summary(error)}"


def _refusal_of_part(roots: Mapping[str, Any], error: BaseException) -> str:
    path, culprit = _culprit(roots)
    for kind, noun, remedy in (
        (Generator, "a generator", "a list"),
        (AsyncGenerator, "an async generator", "a list"),
        (Coroutine, "a coroutine", "its result: await it"),
        (object, "a future", "its result: await it, or call its result()"),
    ):
        if isinstance(culprit, kind) and (kind is not object or _is_future(culprit)):
            return (
                f"returned {noun}; return {remedy}" if path == "value" else f"{path} is {noun}; use {remedy}"
            )
    return f"{path} of type {type(culprit).__qualname__} cannot be pickled: {_summary(error)}"


def _culprit(roots: Mapping[str, Any]) -> tuple[str, Any]:
    """Find the innermost part that cannot be pickled by itself, and the path to it."""
    path, culprit = next(iter(roots.items()))
    parts = iter(roots.items())
    for _ in range(_SEARCH_DEPTH):
        bad = next(
            ((step, part) for step, part in islice(parts, _SEARCH_WIDTH) if not _can_pickle(part)), None
        )
        if bad is None:
            break
        path, culprit = bad
        if _is_future(culprit):
            # What is within it is nobody's business.
            break
        parts = _parts(path, culprit)
    return path, culprit


def _is_future(value: object) -> bool:
    # Of asyncio, of an executor, or of another library.
    return hasattr(type(value), "add_done_callback")


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"{path}[{repr_of(key, _MOST_OF_KEY)}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"{path}[{position}]", part) for position, part in enumerate(value))
    elif isinstance(value, FunctionType):
        captured = inspect.getclosurevars(value)
        yield from (
            (f"{path}: {name}", part) for name, part in {**captured.nonlocals, **captured.globals}.items()
        )
    else:
        yield from ((f"{path}.{name}", part) for name, part in own_attribute(value, "__dict__", {}).items())


def _can_pickle(value: Any) -> bool:
    try:
        pickled(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a user's __reduce__ raises what it likes
        return False
    return True


def _summary(error: BaseException) -> str:
    if isinstance(error, VersionMismatch):
        return str(error)
    return f"{type_name_of(error)}: {str_of(error)}{advice_on(error)}"


# --- Code -------------------------------------------------------------------------------------------------------


def encode_code(
    code: Callable[..., Any], session: str = "", modules: set[str] | None = None
) -> tuple[bytes, bool, bytes]:
    """Return (digest, by_reference, bytes): importable code by reference, all other code by value.

    Digests of code by value differ between sessions, as its globals do. Names of modules that it may import are added to
    `modules`.
    Raises SerializationError, which names the captured value that cannot be pickled; also if the bytes are too many.
    """
    if isinstance(code, UnchangingCode):
        return code.encoded(session, modules, encode_code)
    reference = _reference(code)
    if reference is not None:
        encoded = reference.encode()
        if modules is not None:
            modules.add(reference.partition(":")[0])
    else:
        try:
            encoded = joined_code(*pickled_code(code, modules))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            name = own_attribute(code, "__qualname__", "code")
            raise SerializationError(_refusal({f"function {name}": code}, error)) from error
        if len(encoded) > MOST_OF_CODE_NBYTES:
            raise SerializationError(
                f"it has {len(encoded):,} bytes with all that it captures, and {MOST_OF_CODE_NBYTES:,} can be sent; pass"
                " large values as arguments (args, extra_args or kwargs), which have no such limit"
            )
    if reference is not None:
        return _digest_of_reference(encoded), True, encoded
    return _digest(encoded, b"value", session.encode()), False, encoded


@functools.lru_cache(_REFERENCES_KEPT)
def _digest_of_reference(encoded: bytes) -> bytes:
    # Calls of one function refer to it again and again.
    return _digest(encoded, b"reference", b"")


def _digest(encoded: bytes, person: bytes, salt: bytes) -> bytes:
    # With OpenSSL it takes 3 ms to import, for which new workers would wait; they encode no code.
    from hashlib import blake2b  # noqa: PLC0415

    return blake2b(encoded, digest_size=16, person=person, salt=salt).digest()


def joined_code(main: bytes, groups: Sequence[Group]) -> bytes:
    """Join a pickle of code by value and the globals that it needs."""
    encoded = encoded_groups(groups)
    return b"".join((_GROUPS_NBYTES.pack(len(encoded)), encoded, main))


def split_code(code: bytes) -> tuple[memoryview, list[Group]]:
    """Undo `joined_code`; the pickle is not copied. Raises SerializationError."""
    start, whole = _GROUPS_NBYTES.size, memoryview(code)
    try:
        end = start + _GROUPS_NBYTES.unpack_from(code)[0]
        return whole[end:], decoded_groups(whole[start:end])
    except Exception as error:
        raise _unloadable(error) from error


def load_code(by_reference: bool, code: bytes) -> Callable[..., Any]:
    """Load the function that `encode_code` has encoded. Raises SerializationError."""
    if by_reference:
        return _load_reference(code.decode())
    main, groups = split_code(code)
    bring_globals(groups)
    return load_main(main)


def bring_globals(groups: Sequence[Group]) -> list[Group]:
    """Have the globals that code by value needs, and give them as they are known now. Raises SerializationError."""
    try:
        return current().bring(groups)
    except Exception as error:
        raise _unloadable(error) from error


def load_main(main: bytes | memoryview) -> Callable[..., Any]:
    """Load code by value whose globals are there. Raises SerializationError."""
    try:
        loaded: Callable[..., Any] = pickle.loads(main)
    except Exception as error:
        raise _unloadable(error) from error
    return loaded


def _unloadable(error: Exception) -> SerializationError:
    if isinstance(error, ModuleNotFoundError):
        return SerializationError(
            f"a function needs module {error.name!r}, which this node cannot import: {WAYS_TO_A_MODULE}"
        )
    return SerializationError(f"a function cannot be unpickled: {_summary(error)}")


def _reference(code: Callable[..., Any]) -> str | None:
    """Return "module:qualified.name" if a fresh process that imports it gets this very object, else None."""
    module_name, name = own_attribute(code, "__module__") or "", own_attribute(code, "__qualname__", "")
    module = sys.modules.get(module_name)
    if module is None or not _is_importable(module_name) or is_sent_by_value(module_name):
        return None
    return f"{module_name}:{name}" if _attribute(module, name) is code else None


def _attribute(module: ModuleType, name: str) -> Any:
    found: Any = module
    for step in name.split("."):
        found = getattr(found, step, None)
    return found


@functools.cache
def _is_importable(module_name: str) -> bool:
    """True if the import system finds this very module: not `__main__`, nor one that was made up or loaded by hand."""
    module = sys.modules.get(module_name)
    spec = getattr(module, "__spec__", None)
    if module_name in MAINS or spec is None:
        return False
    if sent_digest(spec) is not None:
        # This process is a worker, and other nodes are sent the same definitions.
        return True
    parent, _, _ = module_name.rpartition(".")
    if parent and not _is_importable(parent):
        return False
    path = sys.modules[parent].__path__ if parent else None
    found = (finder.find_spec(module_name, path) for finder in sys.meta_path)
    first = next((candidate for candidate in found if candidate is not None), None)
    return first is not None and first.origin == spec.origin


def _load_reference(reference: str) -> Callable[..., Any]:
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise SerializationError(
            f"function {name!r} needs module {module_name!r},"
            f" which this node cannot import ({_summary(error)}): {WAYS_TO_A_MODULE}"
        ) from error
    code = _attribute(module, name)
    if not callable(code):
        raise SerializationError(
            f"module {module_name!r} has no function {name!r} on this node: is another version installed there?"
        )
    return code  # type: ignore[no-any-return]
