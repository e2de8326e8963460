"""Mappings of stored values, kept from one job to the next.

Each new mapping of 100 MB costs 8 ms of page faults and 2 ms to undo, where summing the values takes 6.5. Jobs that run
one after another often take the same values, so the mappings of the last job are kept for the next one. Mappings that the
next job does not take are dropped before its code runs, and all of them when a worker is idle or a run is over: a value
that has been dropped or spilled meanwhile takes memory for as long as any process maps it.
"""

import os
from pathlib import Path
from typing import Final

from handoff_actors.store.mapped import map_descriptor

#: Smaller values are mapped quickly.
KEPT_FROM_NBYTES: Final = 1 << 20
#: Many more than most functions take, as each that is kept keeps the memory of its value.
KEPT_COUNT: Final = 16
#: A worker that has been idle for this many seconds drops its mappings.
KEPT_S: Final = 0.05

#: Device and inode. A kept mapping keeps its inode, so no other file gets that meanwhile.
_FileId = tuple[int, int]


class Mappings:
    """The mappings of one worker, job after job."""

    def __init__(self) -> None:
        self._of_last_job: dict[_FileId, memoryview] = {}
        self._of_this_job: dict[_FileId, memoryview] = {}

    def __bool__(self) -> bool:
        return bool(self._of_last_job or self._of_this_job)

    def map(self, path: Path) -> memoryview:
        """Map a file, read-only. Raises OSError."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            facts = os.fstat(descriptor)
            # By the file and not by its name, under which another may be by now: made again, or on disk.
            file = (facts.st_dev, facts.st_ino)
            mapped = self._of_this_job.get(file) or self._of_last_job.get(file)
            if mapped is None:
                mapped = map_descriptor(descriptor, facts.st_size)
        finally:
            os.close(descriptor)
        if facts.st_size >= KEPT_FROM_NBYTES and len(self._of_this_job) < KEPT_COUNT:
            self._of_this_job[file] = mapped
        return mapped

    def settle(self) -> None:
        """Drop the mappings that only the last job took: the current job has mapped all its values."""
        self._of_last_job, self._of_this_job = self._of_this_job, {}

    def let_go(self) -> None:
        """Drop all mappings."""
        self._of_last_job, self._of_this_job = {}, {}
