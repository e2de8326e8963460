"""The source of a module as this process has loaded it, which need not be the text that its file has now."""

import operator
import secrets
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from handoff_actors.wire.code.functools_objects import LruCacheWrapper
from handoff_actors.wire.code.inspection import codes_of
from handoff_actors.wire.code.sources import digest_of_source, file_state, sent_digest, source_of

#: A file that was written before has not been edited since it was imported here.
_STARTED_NS: Final = time.time_ns()
_DEFINITIONS: Final = (FunctionType, LruCacheWrapper, type)


class LoadedSource:
    """The source of one module, from one import or reload to the next.

    After an edit, the functions in memory tell whether some tool has brought them up to date without a reload.
    """

    def __init__(self, module: ModuleType, spec: ModuleSpec) -> None:
        #: A reload makes another one, and so does an import after a removal.
        self.spec = spec
        #: Of the source; a random one, which no node can have, if the file doesn't have what is in memory.
        self.digest = sent_digest(spec) or b""
        self._has_file = not self.digest and spec.origin is not None and spec.has_location
        self._codes = _codes_in(module) if self._has_file else ()
        self._state = (0, 0)
        self._is_that_of_the_file = True
        if not self._has_file:
            return
        self._state = file_state(str(spec.origin))
        # Compiling it takes a while.
        if self._state[0] < _STARTED_NS:
            self.digest = _digest_of(self._source())
        else:
            self._compare(module)

    def look(self, module: ModuleType) -> None:
        """See whether the file, or what is in memory, has changed."""
        if not self._has_file:
            return
        state = file_state(str(self.spec.origin))
        if state != self._state or not self._is_that_of_the_file:
            self._state = state
            self._compare(module)

    def _compare(self, module: ModuleType) -> None:
        source, codes = self._source(), _codes_in(module)
        self._is_that_of_the_file = source is not None and _are_from(codes, source, str(self.spec.origin))
        if self._is_that_of_the_file:
            self.digest = _digest_of(source)
        elif not self.digest or not _are_same(codes, self._codes):
            self.digest = secrets.token_bytes(16)
        self._codes = codes

    def _source(self) -> bytes | None:
        try:
            return source_of(self.spec)
        except OSError:
            return None


def _digest_of(source: bytes | None) -> bytes:
    return secrets.token_bytes(16) if source is None else digest_of_source(source)


def home_of(value: Any) -> str:
    """The module that a value, or its class, belongs to. Nothing of the user's runs, as it would with `isinstance`."""
    kind = type(value)
    definition = value if issubclass(kind, _DEFINITIONS) else kind
    home = (
        type.__getattribute__(definition, "__module__")
        if issubclass(type(definition), type)
        else definition.__module__
    )
    return home if isinstance(home, str) else ""


def _codes_in(module: ModuleType) -> tuple[CodeType, ...]:
    """The code of all functions and methods that a module has in memory and that its file has defined."""
    file = vars(module).get("__file__")
    return tuple(
        code
        for value in list(vars(module).values())
        if home_of(value) == module.__name__
        for code in codes_of(value)
        if code.co_filename == file
    )


def _are_same(codes: tuple[CodeType, ...], others: tuple[CodeType, ...]) -> bool:
    # Code objects are compared by all that they contain, which takes longer.
    return len(codes) == len(others) and all(map(operator.is_, codes, others))


def _are_from(codes: tuple[CodeType, ...], source: bytes, path: str) -> bool:
    try:
        compiled = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    known = set(_all_codes(compiled))
    return all(code in known for code in codes)


def _all_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_codes(constant)
