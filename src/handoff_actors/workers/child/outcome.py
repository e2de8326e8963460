"""The outcome of a job that ended well."""

from typing import NamedTuple, TypeAlias


class Grown(NamedTuple):
    """The outcome of a job that is more than a plain value."""

    #: Encoded; b"" where a graph stands for it.
    value: bytes
    #: An encoded `Additions` of `wire.messages`.
    growth: bytes


#: Encoded, or the number of bytes that are now in the store.
JobOutcome: TypeAlias = bytes | int | Grown
