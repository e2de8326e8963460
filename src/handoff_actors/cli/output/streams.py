"""Keeps stdout, and with --quiet stderr, free for the command's own output, and says so if that can't be written."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_STDOUT, _STDERR = 1, 2
#: Errors of writing to a full disk, a broken pipe or a lost terminal.
_UNWRITABLE: Final = {
    errno.EBADF,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ENOSPC,
    errno.EPIPE,
}


class _Reserved:
    """The stdout that the process was started with, once all else goes to stderr."""

    stream: TextIO | None = None


@contextmanager
def complaining_about_output() -> Iterator[None]:
    """End the process with status 1 and one line on stderr if stdout can't be written to. Python's end would be status 120.

    A stderr that can't be written to changes nothing: results still go to stdout.
    """
    sys.stderr = _forgiving(sys.stderr, _STDERR)
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        _give_up(_STDOUT)
        # A reader that has seen enough, such as `head`, is no failure to speak of.
        if error.errno != errno.EPIPE and sys.stderr is not None:
            sys.stderr.write(f"Error: stdout can't be written to: {error.strerror}\n")
        sys.exit(1)


class _Forgiving(io.FileIO):
    """Drops what can't be written."""

    def write(self, written: "Buffer", /) -> int:
        """See io.RawIOBase."""
        with suppress(OSError):
            if (nbytes := super().write(written)) is not None:
                return nbytes
        return memoryview(written).nbytes


def _forgiving(stream: TextIO, descriptor: int) -> TextIO:
    """Return a stream like this one that drops what can't be written."""
    # Where a descriptor is closed when Python starts, there is no stream; and tests may have put something else there.
    if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != descriptor:
        return stream
    raw = io.BufferedWriter(_Forgiving(descriptor, "wb", closefd=False))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


def _give_up(descriptor: int) -> None:
    """Send the rest of what is buffered nowhere, so that the interpreter doesn't stumble over it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def reserve_stdout() -> None:
    """From now on send what this process and its workers print to stderr; only `result_stream` leads to stdout.

    Stdout is not given back: what a user's module prints at the end of the process must not follow a JSON document.
    """
    if _Reserved.stream is None:
        _flush()
        encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
        _Reserved.stream = os.fdopen(os.dup(_STDOUT), "w", encoding=encoding, errors="replace")
        os.dup2(_STDERR, _STDOUT)
        sys.stdout = _forgiving(sys.stdout, _STDOUT)


def result_stream() -> TextIO:
    """Return the stream for results: stdout, whether it is reserved or not."""
    return _Reserved.stream or sys.stdout


@contextmanager
def silence() -> Iterator[None]:
    """Within the context, drop what this process and its workers print. Results and errors can be printed afterwards."""
    reserve_stdout()
    _flush()
    kept = os.dup(_STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDOUT)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, _STDERR)
        os.close(kept)


def _flush() -> None:
    # Where a descriptor is closed when Python starts, there is no stream.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
