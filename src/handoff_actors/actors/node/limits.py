"""The user's options for a node's memory and disk, and the limits that follow from them."""

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from handoff_actors.actors.node.host.memory import machine_memory
from handoff_actors.core.node.limits import MEMORY_FACTOR, Limits
from handoff_actors.store.files import memory_directory

_MEGABYTE = 1e6


class MemoryOptions(Struct, frozen=True):
    """Options for the memory of a node. Raises ValueError."""

    #: MB of values in memory; None: half of what is free for that when the node starts.
    store_limit_mb: float | None = None
    #: Directory to which values are spilled; None: the directory for temporary files.
    spill_dir: Path | None = None
    memory_factor: float = MEMORY_FACTOR
    #: Directory of the values; None: in shared memory, with huge pages where this process may have such.
    store_dir: Path | None = None
    #: The node's memory, where it may use less than the machine or container has; None: all of that.
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        if self.store_limit_mb is not None and not self.store_limit_mb >= 0:
            raise ValueError(f"a store limit of {self.store_limit_mb!r} MB: it must be 0 or more")
        if self.memory_factor != 0 and not self.memory_factor >= 1:
            raise ValueError(
                f"a memory factor of {self.memory_factor!r}: it must be 1 or more, or 0 for none"
            )

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> "MemoryOptions":
        """HANDOFF_STORE_LIMIT, _SPILL_DIR, _MEMORY_FACTOR and _STORE_DIR, each as the command line has it."""
        limit, spill_dir = variables.get("HANDOFF_STORE_LIMIT"), variables.get("HANDOFF_SPILL_DIR")
        store_dir = variables.get("HANDOFF_STORE_DIR")
        return cls(
            None if not limit else float(limit),
            None if not spill_dir else Path(spill_dir),
            float(variables.get("HANDOFF_MEMORY_FACTOR") or MEMORY_FACTOR),
            None if not store_dir else Path(store_dir),
        )

    def limits(self) -> Limits:
        """Convert to the limits that the core takes, in bytes."""
        limit_mb = self.store_limit_mb
        if limit_mb is None:
            nbytes = _half_of_what_is_free(self.store_dir)
            if self.memory_mb is not None:
                nbytes = min(nbytes, int(self.memory_mb * _MEGABYTE / 2))
        else:
            nbytes = int(limit_mb * _MEGABYTE)
        return Limits(self.memory_factor, nbytes)


def _half_of_what_is_free(store_dir: Path | None) -> int:
    space = os.statvfs(store_dir or memory_directory())
    free = space.f_bavail * space.f_frsize
    available, _ = machine_memory()
    return min(free, available or free) // 2
