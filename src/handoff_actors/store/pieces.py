"""Values that are passed on piece by piece while they come, in memory or in a file without a name, which no crash leaves behind."""

import os
import tempfile
from typing import Protocol

from handoff_actors.store.files import Landing, MemoryLanding


class PieceLanding(Landing, Protocol):
    """A place for a value, whose pieces can be read as soon as they are there."""

    def piece(self, offset: int, length: int) -> memoryview:
        """The bytes at an offset, which have been written. Raises OSError."""


class MemoryPieces(MemoryLanding):
    """A value in this process's own memory."""

    def piece(self, offset: int, length: int) -> memoryview:
        """See `PieceLanding.piece`."""
        return self.buffer[offset : offset + length]


class FilePieces:
    """A value in a file in the directory for temporary files."""

    def __init__(self, nbytes: int) -> None:
        """Raise OSError where there is no room for it."""
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - `abandon` closes it
        try:
            if nbytes:
                os.posix_fallocate(self._file.fileno(), 0, nbytes)
        except OSError:
            self._file.close()
            raise

    def write(self, offset: int, piece: memoryview) -> None:
        """See `Landing.write`."""
        while piece:
            written = os.pwrite(self._file.fileno(), piece, offset)
            piece, offset = piece[written:], offset + written

    def piece(self, offset: int, length: int) -> memoryview:
        """See `PieceLanding.piece`."""
        return memoryview(os.pread(self._file.fileno(), length, offset))

    def finish(self) -> None:
        """See `Landing.finish`."""

    def abandon(self) -> None:
        """See `Landing.abandon`."""
        self._file.close()
