"""Users' functions in a worker: loaded once, and each call has what they capture as it was encoded."""

from collections.abc import Callable
from typing import Any

from handoff_actors.wire.code.captures import Captures
from handoff_actors.wire.code.namespaces import Group, Namespaces, current
from handoff_actors.wire.payload import bring_globals, load_code, load_main, split_code


class LoadedCode:
    """A function, loaded when it is first needed, so that a failure to load is its caller's.

    Code by value is unpickled again for each call if it captures anything that a call can change: a list, a counter, a
    generator of random numbers. Globals are not captured; see `wire.code.namespaces`.
    """

    __slots__ = (
        "_by_reference", "_captures", "_encoded", "_function", "_groups", "_namespaces", "_version"
    )  # fmt: skip

    def __init__(self, *, by_reference: bool, encoded: bytes) -> None:
        self._by_reference = by_reference
        #: All of it at first; for code by value, then its pickle without globals, as long as that is needed.
        self._encoded: bytes | memoryview = encoded
        #: None: to be unpickled for each call.
        self._function: Callable[..., Any] | None = None
        #: None: not looked at yet.
        self._captures: Captures | None = None
        #: The globals as this code came with them, where they are, and the version of that place when they were last there.
        self._groups: list[Group] | None = None
        self._namespaces: Namespaces | None = None
        self._version = -1

    @property
    def module(self) -> str:
        """The module that it is imported from; "" for code by value."""
        return bytes(self._encoded).partition(b":")[0].decode() if self._by_reference else ""

    def load(self) -> Callable[..., Any]:
        """Give the function for one call, into the current namespaces, always the same. Raises SerializationError, each time."""
        function, captures = self._function, self._captures
        if self._by_reference:
            return self.load_first() if function is None else function
        if captures is None:
            return self.load_first()
        if self._namespaces is not None and self._namespaces.version != self._version:
            self._bring_globals()
        if function is None:
            return load_main(self._encoded)
        if captures.cells:
            captures.restore_cells()
        return function

    def load_first(self) -> Callable[..., Any]:
        """Do so for the first time, when it may have modules to import."""
        if self._by_reference:
            self._function = load_code(True, bytes(self._encoded))
            return self._function
        self._bring_globals()
        function = load_main(self._encoded)
        captures = Captures(function)
        if captures.are_immutable:
            self._function, self._encoded = function, b""
        else:
            # This call's own, which nothing else may keep.
            captures.cells.clear()
        self._captures = captures
        return function

    def _bring_globals(self) -> None:
        """Have the globals as this code came with them: the same names may mean something else to other code."""
        if self._groups is None:
            self._encoded, self._groups = split_code(bytes(self._encoded))
        self._groups = bring_globals(self._groups)
        self._namespaces = current()
        self._version = self._namespaces.version
