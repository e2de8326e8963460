"""A file system that is soon full, for tests."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: MNT_DETACH
_DETACH = 2


@contextmanager
def small_file_system(directory: Path, size: str) -> Iterator[None]:
    """Mount a tmpfs of that size over a directory. Skips the test where that is not allowed."""
    system = ctypes.CDLL(None, use_errno=True)
    if system.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, f"size={size}".encode()) != 0:
        pytest.skip(f"cannot mount a small tmpfs: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        # Whatever still uses it keeps it, out of sight.
        system.umount2(os.fsencode(directory), _DETACH)
