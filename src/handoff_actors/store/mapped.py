"""Files of stored values, mapped so that whoever drops a large one is not held up.

The last to let go of a file that has no name any more gives its pages back to the kernel, which takes 13 ms for 100 MB.
That would be whoever drops the value, mostly on the app's event loop. So the file stays open for as long as it is mapped,
and a thread closes it.
"""

import os
import threading
import weakref
from mmap import PROT_READ, mmap
from pathlib import Path
from typing import Final

#: The pages of smaller ones are given back within a millisecond.
LEAST_NBYTES: Final = 8 << 20


def map_file(path: Path) -> memoryview:
    """Give the bytes of a file, read-only. Raises OSError, and ValueError for an empty one."""
    with path.open("rb") as file:
        mapped = mmap(file.fileno(), 0, prot=PROT_READ)
        if len(mapped) >= LEAST_NBYTES:
            weakref.finalize(mapped, _close, os.dup(file.fileno())).atexit = False
    return memoryview(mapped)


def _close(descriptor: int) -> None:
    try:
        threading.Thread(target=os.close, args=(descriptor,)).start()
    except RuntimeError:
        # The interpreter is about to end.
        os.close(descriptor)
