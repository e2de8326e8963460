"""Shared memory in pages of 2 MiB, for whoever may mount a file system.

To take 100 MB from the kernel, fill them, read them for the first time and give them back costs 28, 21, 7 and 19 ms in
pages of 4 KiB; in huge ones 0.2, 12, 0.5 and 0.4. Only file systems that are mounted for it have them, and /dev/shm is
usually not. The one that is made here has no place in anybody's directory tree: it is reached through a descriptor of
this process, and gone with the last one who uses it, even if that one is killed.
"""

import os
import sys
from contextlib import suppress
from typing import Final

# System calls; these have the same numbers on every architecture. See fsopen(2), fsconfig(2), fsmount(2).
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_CLOEXEC: Final = 1
_SET_STRING: Final = 1
_CREATE: Final = 6
_NO_SETUID_NO_DEVICES_NO_PROGRAMS: Final = 2 | 4 | 8


def mount(nbytes: int) -> int | None:
    """Mount a file system in memory that holds so much, 0: without a limit; give a descriptor of its root directory.

    None where this process may not, or the kernel is older than 5.2 or has no huge pages.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    # Programs of others don't pay for the import.
    from handoff_actors.store.linux import system_call  # noqa: PLC0415

    with suppress(OSError):
        context = system_call(_FSOPEN, b"tmpfs", _CLOEXEC)
        try:
            for key, value in ((b"huge", b"within_size"), (b"size", b"%d" % nbytes), (b"mode", b"0700")):
                system_call(_FSCONFIG, context, _SET_STRING, key, value, 0)
            system_call(_FSCONFIG, context, _CREATE, None, None, 0)
            return system_call(_FSMOUNT, context, _CLOEXEC, _NO_SETUID_NO_DEVICES_NO_PROGRAMS)
        finally:
            os.close(context)
    return None
