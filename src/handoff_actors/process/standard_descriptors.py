"""Descriptors 0, 1 and 2 of a process that was started without them, as some daemons are.

Sockets and files get the lowest free numbers. With these numbers they would get what C code prints, children would take
them for their own input and output, and libuv, which never closes these numbers, would abort the process.
"""

import os
from typing import Final

#: Of stdin, stdout and stderr.
_NUMBERS: Final = (0, 1, 2)


def hold_standard_descriptors() -> None:
    """Open /dev/null as those of the three that are closed; for a process, before it opens anything else."""
    for number in _NUMBERS:
        if not _is_open(number):
            opened = os.open(os.devnull, os.O_RDWR)
            if opened == number:
                os.set_inheritable(number, True)
            else:
                # Another thread has opened something meanwhile.
                os.close(opened)


def is_inherited(number: int) -> bool:
    """True if a child gets this descriptor from this process; else something of this process's own has the number, or nothing."""
    return _is_open(number) and os.get_inheritable(number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
