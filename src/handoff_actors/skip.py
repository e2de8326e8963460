"""`SKIP`, the result of a function that was skipped, and the encoded values that a condition may have to skip one."""

from typing import Any, Final, Literal, Self


class SkipType:
    """The type of `SKIP`."""

    __slots__ = ()
    _only: "SkipType"

    def __new__(cls) -> Self:
        """Return the only instance."""
        if not hasattr(cls, "_only"):
            cls._only = super().__new__(cls)
        only: Self = cls._only  # type: ignore[assignment]
        return only

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "SKIP"

    def __reduce__(self) -> str:
        return "SKIP"


#: The result of a function that was skipped: false, and the same object in every process. A function that returns it counts
#: as skipped, too. To type checkers it is Any, as it takes the place of results of any type.
SKIP: Final[Any] = SkipType()

#: The encoding of `SKIP`, as `wire.payload` makes it: the core knows values by their bytes alone.
ENCODED_SKIP: Final = (
    b"\x80\x05\x95 \x00\x00\x00\x00\x00\x00\x00\x8c\x13handoff_actors.skip\x94\x8c\x04SKIP\x94\x93\x94."
)
#: False, None, 0, [], (), {} and `SKIP`. A condition with any other result is decided in the worker.
FALSE_VALUES: Final = frozenset(
    (
        b"\x80\x05\x89.",
        b"\x80\x05N.",
        b"\x80\x05K\x00.",
        b"\x80\x05]\x94.",
        b"\x80\x05).",
        b"\x80\x05}\x94.",
        ENCODED_SKIP,
    )
)
