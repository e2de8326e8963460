"""Code that nothing changes: it is encoded once, however often it is sent."""

from collections.abc import Callable
from functools import partial
from typing import Any

#: Digest, whether it is by reference, and the code itself, as of `encode_code`.
EncodedCode = tuple[bytes, bool, bytes]


class UnchangingCode(partial[Any]):
    """A plain function with arguments that keep their state for good. Workers get an ordinary partial."""

    # No attribute: those of a partial would be sent along.
    __slots__ = ("_encoded",)

    #: By session; with the modules that it may import.
    _encoded: dict[str, tuple[EncodedCode, frozenset[str]]]

    def encoded(
        self,
        session: str,
        modules: set[str] | None,
        encode: Callable[[Callable[..., Any], str, set[str]], EncodedCode],
    ) -> EncodedCode:
        """Return the same as `encode`, which is called the first time."""
        known = getattr(self, "_encoded", None)
        if known is None:
            known = self._encoded = {}
        if session not in known:
            used = set[str]()
            known[session] = encode(partial(self.func, *self.args), session, used), frozenset(used)
        encoded, its_modules = known[session]
        if modules is not None:
            modules |= its_modules
        return encoded
