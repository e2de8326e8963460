"""The last that a worker has printed, kept where its death does not reach it.

What is printed goes where it always went, at once and without a detour; a copy goes to memory that the worker shares
with the zygote, which forked it. A pipe would have caught what C code and child processes write past Python, too, but
somebody would have to read it and write it again, in time, or else what a function prints would hold it up.
"""

import io
import sys
from contextlib import suppress
from mmap import mmap
from typing import Final, TextIO

_CAPACITY: Final = 4096
_LINES: Final = 20
#: The memory starts with how many bytes have ever been added.
_COUNT_NBYTES: Final = 8
_NOTHING: Final = bytes(_COUNT_NBYTES)


class Tail:
    """Text of one worker. Whoever is forked after this is made shares it."""

    def __init__(self) -> None:
        self._memory = mmap(-1, _COUNT_NBYTES + _CAPACITY)
        self._streams: list[TextIO] = []

    def follow_output(self) -> None:
        """From now on, keep what this process prints."""
        sys.stdout = self._followed(sys.stdout)
        sys.stderr = self._followed(sys.stderr)

    def add(self, printed: memoryview) -> None:
        """Keep the end of it. What threads or forks add at the same time may overwrite one another."""
        count = int.from_bytes(self._memory[:_COUNT_NBYTES], "little")
        count += max(0, len(printed) - _CAPACITY)
        kept = bytes(printed[-_CAPACITY:])
        start = count % _CAPACITY
        first = kept[: _CAPACITY - start]
        self._write(start, first)
        self._write(0, kept[len(first) :])
        self._memory[:_COUNT_NBYTES] = (count + len(kept)).to_bytes(_COUNT_NBYTES, "little")

    def clear(self) -> None:
        """Forget everything: another function begins."""
        if self._memory[:_COUNT_NBYTES] != _NOTHING:
            self._flush()
            self._memory[:_COUNT_NBYTES] = _NOTHING

    def text(self) -> str:
        """The last lines, whole ones as far as there is room."""
        self._flush()
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

    def _followed(self, stream: TextIO) -> TextIO:
        if not isinstance(stream, io.TextIOWrapper):
            # There is none, for a process that was started without.
            return stream
        followed = io.TextIOWrapper(
            io.BufferedWriter(_Followed(stream.fileno(), self)),  # type: ignore[type-var]  # a FileIO is one
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=True,
        )
        self._streams.append(followed)
        return followed

    def _write(self, start: int, piece: bytes) -> None:
        self._memory[_COUNT_NBYTES + start : _COUNT_NBYTES + start + len(piece)] = piece

    def _flush(self) -> None:
        for stream in self._streams:
            # A user's function may have closed it.
            with suppress(ValueError, OSError):
                stream.flush()


class _Followed(io.FileIO):
    """A stream's descriptor; what is written to it is kept, too."""

    def __init__(self, descriptor: int, tail: Tail) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._tail = tail

    def write(self, printed: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Write as FileIO does."""
        written = super().write(printed)
        self._tail.add(memoryview(printed)[:written])
        return written
