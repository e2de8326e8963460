"""Digests of values and code that are the same in every process, so that a process can recognise another one's work.

A pickle won't do: it distinguishes equal parts from identical ones, it writes sets in an order that differs from process
to process, and definitions that it carries by value get random names. So nothing is written here that depends on
identity, sets are sorted, and functions and classes are digested by their behaviour: their bytecode, the values that they
capture, and the names of their own module that they use. A function's place in its file, and its comments, don't count.
"""

import pickle
from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from handoff_actors.attributes import own_attribute
from handoff_actors.errors import SerializationError
from handoff_actors.wire.code.inspection import names_in
from handoff_actors.wire.payload import encode

DIGEST_BYTES: Final = 16
_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes)
_CONTAINERS: Final = (tuple, list, dict, set, frozenset)
#: Errors of pickle for an object that it can't pickle. A cycle is a ValueError where identity may not be used.
_REFUSALS: Final = (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError)

_Definition = FunctionType | type


def digest_of(*parts: bytes) -> bytes:
    """Return one digest of several byte strings; it depends on where each of them ends, too."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


class Digester:
    """Digests values and code. Functions and classes are remembered, and must not change while a digester is in use."""

    def __init__(self) -> None:
        #: By identity; each definition is kept alive, so that its identity stays its own.
        self._known: dict[int, tuple[_Definition, bytes]] = {}
        self._entered: set[int] = set()

    def digest(self, value: object) -> bytes:
        """The digest of a value, or of a callable of any kind."""
        for is_free_of_identity in (True, False):
            try:
                return self._pickled(value, is_free_of_identity=is_free_of_identity)
            except _REFUSALS:
                continue
        try:
            return digest_of(encode(value).to_bytes())
        except SerializationError:
            return digest_of(_name(type(value)))

    def definition(self, definition: _Definition) -> bytes:
        """The digest of a function or class, with all definitions of its own module that it comes to use."""
        known = self._known.get(id(definition))
        if known is not None:
            return known[1]
        if id(definition) in self._entered:
            return _name(definition)
        self._entered.add(id(definition))
        reached: dict[int, _Definition] = {id(definition): definition}
        pending = [definition]
        while pending:
            for part in _definitions_in(pending.pop()):
                if id(part) not in reached:
                    reached[id(part)] = part
                    pending.append(part)
        found = digest_of(*(self._own(part) for part in reached.values()))
        self._entered.discard(id(definition))
        self._known[id(definition)] = definition, found
        return found

    def _pickled(self, value: object, *, is_free_of_identity: bool) -> bytes:
        stream = BytesIO()
        buffers: list[pickle.PickleBuffer] = []
        pickler = _DigestPickler(stream, self, buffers)
        pickler.fast = is_free_of_identity
        pickler.dump(value)
        return digest_of(stream.getbuffer(), *(buffer.raw() for buffer in buffers))  # type: ignore[arg-type]  # bytes-like

    def _own(self, definition: _Definition) -> bytes:
        """The digest of a definition by itself; definitions that it refers to count by their names."""
        if isinstance(definition, type):
            bases = [_name(base) for base in definition.__bases__]
            return digest_of(
                b"class",
                _name(definition),
                *bases,
                *map(_name, _methods(definition)),
                *_plain_attributes(definition),
            )
        parts = [b"function", _name(definition), _code_digest(definition.__code__)]
        for name, value in (*_captured(definition), *_globals_of(definition)):
            parts += (name.encode(), self._part(value))
        return digest_of(*parts)

    def _part(self, value: object) -> bytes:
        if isinstance(value, FunctionType | type | ModuleType):
            return _name(value)
        return self.digest(value)


class _DigestPickler(pickle.Pickler):
    """Writes pickles that are never read: definitions are replaced by digests, sets are sorted by their members' digests."""

    def __init__(self, stream: BytesIO, digester: Digester, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
        self._digester = digester

    def persistent_id(self, obj: Any) -> object:
        """Return the stand-in for an object; None if the object is pickled as it is."""
        if isinstance(obj, FunctionType | type):
            return self._digester.definition(obj)
        if isinstance(obj, set | frozenset):
            return "set", sorted(map(self._digester.digest, obj))
        return _name(obj) if isinstance(obj, ModuleType) else None


def _name(value: object) -> bytes:
    if isinstance(value, ModuleType):
        return value.__name__.encode()
    module, name = own_attribute(value, "__module__"), own_attribute(value, "__qualname__", "")
    return f"{module}:{name}".encode()


def _definitions_in(definition: _Definition) -> Iterator[_Definition]:
    """Yield the definitions of its own module that a definition refers to or captures."""
    if isinstance(definition, type):
        found: list[object] = [*_methods(definition), *definition.__bases__]
    else:
        found = [value for _, value in (*_captured(definition), *_globals_of(definition))]
    for value in found:
        if isinstance(value, FunctionType | type) and value.__module__ == definition.__module__:
            yield value


def _methods(definition: type) -> Iterator[FunctionType]:
    for member in vars(definition).values():
        functions = (member.fget, member.fset) if isinstance(member, property) else (member,)
        for function in functions:
            plain = own_attribute(function, "__func__", function)
            if isinstance(plain, FunctionType):
                yield plain


def _plain_attributes(definition: type) -> Iterator[bytes]:
    for name, value in vars(definition).items():
        # Attributes with underscores hold documentation and places in files.
        if isinstance(value, _PLAIN) and not name.startswith("__"):
            yield f"{name}={value!r}".encode()


def _captured(function: FunctionType) -> Iterator[tuple[str, object]]:
    yield "defaults", function.__defaults__
    yield "keyword defaults", function.__kwdefaults__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            yield name, None


def _globals_of(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield the globals that a function may use, except for objects whose state does not belong to the code.

    Containers count where they are sent along, which is with code of `__main__`; those of other modules a node imports.
    """
    counted: tuple[type, ...] = (*_PLAIN, FunctionType, type, ModuleType)
    if function.__module__ == "__main__":
        counted += _CONTAINERS
    for name in sorted(set(names_in(function.__code__))):
        value = function.__globals__.get(name)
        if name in function.__globals__ and isinstance(value, counted):
            yield name, value


def _code_digest(code: CodeType) -> bytes:
    shape = (
        code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags,
        code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
    )  # fmt: skip
    constants = map(_constant_digest, code.co_consts)
    return digest_of(code.co_code, code.co_exceptiontable, repr(shape).encode(), *constants)


def _constant_digest(constant: object) -> bytes:
    if isinstance(constant, CodeType):
        return _code_digest(constant)
    if isinstance(constant, tuple):
        return digest_of(b"tuple", *map(_constant_digest, constant))
    if isinstance(constant, frozenset):
        return digest_of(b"set", *sorted(map(_constant_digest, constant)))
    return repr(constant).encode()
