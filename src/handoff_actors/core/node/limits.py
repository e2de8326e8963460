"""How much a node lets functions and values take."""

from msgspec import Struct

MEMORY_FACTOR = 1.5


class Limits(Struct, frozen=True):
    """What a node is told at its start."""

    #: A worker with more memory than this times the claim of its function is ended; 0: none is, for any reason.
    memory_factor: float = MEMORY_FACTOR
    #: Bytes of values beyond which the least recently used go to disk; None: all of them stay in memory.
    store_nbytes: int | None = None


NO_LIMITS = Limits(memory_factor=0)
