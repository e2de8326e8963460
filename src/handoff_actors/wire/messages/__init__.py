"""Every message that crosses a socket between members, and what its fields mean.

Messages are requests in the imperative (`Assign`) or facts in the past tense (`Completed`). They are msgspec
structs encoded as MessagePack arrays `[tag, field, ...]`; the decoder checks every type and bound, so what a
machine receives is well-formed whoever sent it. On the hot path one message carries many functions.
"""

from importlib import import_module
from typing import Final

_MODULES: Final = (
    "base",
    "nested",
    "members",
    "jobs",
    "runs",
    "nested",
    "values",
    "kept",
    "stages",
    "directions",
)


def __getattr__(name: str) -> object:
    """Find a message by its name alone, for scripts that speak the protocol; the package imports from its modules."""
    if not name.startswith("_"):
        for module in _MODULES:
            found = vars(import_module(f"{__name__}.{module}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
