"""The last lines that a worker has printed, kept where they survive its death.

Memory that the worker shares with the zygote, which forked it, has a copy of the output through `sys.stdout` and
`sys.stderr`. A pipe for the process's own output would have caught the output of C code and of child processes, too, but
some process would have to read it and write it again, in time, or else a function that prints would be held up.
"""

from mmap import mmap
from typing import Final

_CAPACITY: Final = 4096
_LINES: Final = 20
#: The memory starts with how many bytes have ever been added.
_COUNT_NBYTES: Final = 8
_NOTHING: Final = bytes(_COUNT_NBYTES)


class Tail:
    """The text of one worker. Processes that are forked after it is made share it."""

    def __init__(self) -> None:
        self._memory = mmap(-1, _COUNT_NBYTES + _CAPACITY)

    def add(self, printed: memoryview) -> None:
        """Keep the end of printed bytes. Threads or forks that add at the same time may overwrite one another."""
        count = int.from_bytes(self._memory[:_COUNT_NBYTES], "little")
        count += max(0, len(printed) - _CAPACITY)
        kept = bytes(printed[-_CAPACITY:])
        start = count % _CAPACITY
        first = kept[: _CAPACITY - start]
        self._write(start, first)
        self._write(0, kept[len(first) :])
        self._memory[:_COUNT_NBYTES] = (count + len(kept)).to_bytes(_COUNT_NBYTES, "little")

    def clear(self) -> None:
        """Forget everything, before the next function."""
        if self._memory[:_COUNT_NBYTES] != _NOTHING:
            self._memory[:_COUNT_NBYTES] = _NOTHING

    def text(self) -> str:
        """Give the last lines, whole lines as far as there is room."""
        count = int.from_bytes(self._memory[:_COUNT_NBYTES], "little")
        start = count % _CAPACITY
        whole = self._memory[_COUNT_NBYTES:]
        kept = whole[:count] if count <= _CAPACITY else whole[start:] + whole[:start]
        lines = kept.decode(errors="replace").splitlines()
        if count > _CAPACITY and len(lines) > 1:
            del lines[0]
        return "\n".join(lines[-_LINES:])

    def close(self) -> None:
        """Give up the memory."""
        self._memory.close()

    def _write(self, start: int, piece: bytes) -> None:
        self._memory[_COUNT_NBYTES + start : _COUNT_NBYTES + start + len(piece)] = piece
