"""Copies files without their bytes passing through this process."""

import os
from collections.abc import Callable
from pathlib import Path

from handoff_actors.store.allocation import allocate

#: Bytes copied between two questions whether the copy is still wanted.
_PIECE_NBYTES = 8 << 20


def copy(source: Path, target: Path, is_wanted: Callable[[], bool]) -> int:
    """Copy a file for as long as that is wanted, and return the inode of the source. Raises OSError, leaving nothing."""
    reading = os.open(source, os.O_RDONLY)
    try:
        facts = os.fstat(reading)
        writing = allocate(target, facts.st_size)
        try:
            copied = 0
            while copied < facts.st_size and is_wanted():
                copied += os.sendfile(writing, reading, copied, min(_PIECE_NBYTES, facts.st_size - copied))
        except OSError:
            target.unlink()
            raise
        finally:
            os.close(writing)
        return facts.st_ino
    finally:
        os.close(reading)
