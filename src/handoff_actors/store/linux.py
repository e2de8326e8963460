"""System calls of Linux, and calls of glibc, that the standard library lacks."""

import ctypes
import os
from mmap import MAP_SHARED, PROT_READ
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
# See mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_MMAP_MAX: Final = -4
_USUAL_MMAP_MAX: Final = 65536

_MAP_FAILED: Final = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def signal_when_parent_ends(number: int) -> None:
    """Have this process get the signal when the thread that started it ends. Not inherited by forks."""
    _control_process(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended, so that they can be reaped."""
    _control_process(_PR_SET_CHILD_SUBREAPER, 1)


def take_blocks_from_heap(up_to_nbytes: int | None, kept_nbytes: int) -> None:
    """Have malloc map blocks of more than `up_to_nbytes`, None: no block at all, and keep `kept_nbytes` at the heap's end.

    Where malloc is not glibc's, nothing changes.
    """
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_MMAP_MAX, 0 if up_to_nbytes is None else _USUAL_MMAP_MAX)
        if up_to_nbytes is not None:
            _libc.mallopt(_M_MMAP_THRESHOLD, up_to_nbytes)
        _libc.mallopt(_M_TRIM_THRESHOLD, kept_nbytes)


def trim_heap() -> None:
    """Give unused memory that malloc keeps back to the kernel."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def map_read_only(descriptor: int, nbytes: int) -> int:
    """Map the first bytes of a file, shared and read-only; return their address. Raises OSError."""
    address = _libc.mmap(None, nbytes, PROT_READ, MAP_SHARED, descriptor, 0)
    if address == _MAP_FAILED:
        raise _last_error()
    return int(address)


def unmap(address: int, nbytes: int) -> None:
    """Undo a mapping. Nothing may refer to its bytes any more."""
    _libc.munmap(address, nbytes)


def system_call(number: int, *arguments: int | bytes | None) -> int:
    """Call the kernel by number, and return its answer. Raises OSError."""
    return _checked(_libc.syscall(number, *arguments))


def _control_process(option: int, argument: int) -> None:
    _checked(_libc.prctl(option, argument, 0, 0, 0))


def _checked(answer: int) -> int:
    if answer < 0:
        raise _last_error()
    return answer


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
