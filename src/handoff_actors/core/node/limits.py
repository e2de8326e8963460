"""Limits on the memory of functions and values."""

from msgspec import Struct

MEMORY_FACTOR = 1.5


class Limits(Struct, frozen=True):
    """The limits of one node."""

    #: Kill a worker that uses more than this multiple of its function's claimed memory; 0 disables this, and all other kills
    #: for memory.
    memory_factor: float = MEMORY_FACTOR
    #: Bytes of values beyond which the least recently used go to disk; None: all of them stay in memory.
    store_nbytes: int | None = None


NO_LIMITS = Limits(memory_factor=0)
