"""Files of stored values, mapped without a descriptor, and in apps and nodes let go without holding up the event loop.

Python's own mmap keeps a descriptor for as long as the mapping lasts, and many processes may have 1,024 of them: as few
values, or less, would be all that an app or a function could hold. Python 3.13 can do without; until then the mapping is
made by the system call, and undone when nothing refers to its bytes any more.

The last user of a file without a name gives its pages back to the kernel when it lets go, which takes 13 ms for 100 MB.
That would be the code that drops the value, mostly on the app's event loop. So a thread does that for a large one.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from handoff_actors.process.open_files import with_reserve
from handoff_actors.store.linux import map_read_only, unmap

#: The pages of smaller files are given back within a millisecond.
LEAST_NBYTES: Final = 8 << 20


class _Bytes(ctypes.Array[ctypes.c_ubyte]):
    """The bytes of a mapping, which is undone with this object.

    It has no bounds: an array type for each size would cost 10 µs, and stay until garbage is collected.
    """

    _type_ = ctypes.c_ubyte
    _length_ = sys.maxsize

    nbytes: int
    undo: Callable[[int, int], None]

    def __del__(self, is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        # When the interpreter ends, modules are gone early, and the mapping goes with the process.
        if not is_ending():
            self.undo(ctypes.addressof(self), self.nbytes)


def map_file(path: Path) -> memoryview:
    """Map a file and return its bytes, read-only. Raises OSError, also for an empty file."""
    descriptor = with_reserve(partial(os.open, path, os.O_RDONLY))
    try:
        nbytes = os.fstat(descriptor).st_size
        return map_descriptor(descriptor, nbytes, _unmap_beside if nbytes >= LEAST_NBYTES else unmap)
    finally:
        os.close(descriptor)


def map_descriptor(descriptor: int, nbytes: int, undo: Callable[[int, int], None] = unmap) -> memoryview:
    """Map the first bytes of a file, read-only; the descriptor may be closed then. Raises OSError.

    `undo` is called with the address and the size once the bytes are not referred to any more.
    """
    mapped = _Bytes.from_address(map_read_only(descriptor, nbytes))
    # Not a `weakref.finalize`, which takes 4 µs.
    mapped.nbytes, mapped.undo = nbytes, undo
    return memoryview(mapped).cast("B")[:nbytes].toreadonly()


def _unmap_beside(address: int, nbytes: int) -> None:
    try:
        threading.Thread(target=unmap, args=(address, nbytes)).start()
    except RuntimeError:
        # The interpreter is about to end.
        unmap(address, nbytes)
