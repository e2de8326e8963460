"""Keeps stdout, and with --quiet stderr, free for what the command itself has to say."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_STDOUT, _STDERR = 1, 2


class _Reserved:
    """The stdout that the process was started with, once all else goes to stderr."""

    stream: TextIO | None = None


def reserve_stdout() -> None:
    """From now on send what this process and its workers print to stderr; only `result_stream` leads to stdout.

    Stdout is not given back: what a user's module prints at the end of the process must not follow a JSON document.
    """
    if _Reserved.stream is None:
        _flush()
        encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
        _Reserved.stream = os.fdopen(os.dup(_STDOUT), "w", encoding=encoding, errors="replace")
        os.dup2(_STDERR, _STDOUT)


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
