"""Files of stored values, mapped so that dropping a large one does not hold up the event loop.

The last user of a file without a name gives its pages back to the kernel when it lets go, which takes 13 ms for 100 MB.
That would be the code that drops the value, mostly on the app's event loop. So the file stays open for as long as it is
mapped, and a thread closes it.
"""

import os
import threading
import weakref
from mmap import PROT_READ, mmap
from pathlib import Path
from typing import Final

#: The pages of smaller files are given back within a millisecond.
LEAST_NBYTES: Final = 8 << 20


def map_file(path: Path) -> memoryview:
    """Map a file and return its bytes, read-only. Raises OSError, and ValueError for an empty file."""
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
