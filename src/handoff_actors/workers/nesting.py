"""Counts nodes within workers of other nodes: the last resort against programs that start themselves without end."""

import os
from typing import Final

from handoff_actors.errors import UnguardedStart

#: Each zygote passes it on to its workers, one higher, and they to all that their functions start.
VARIABLE: Final = "HANDOFF_NESTING"
#: Nodes may be started within workers of nodes within workers, and so on, this many times. Each level multiplies processes.
MOST: Final = 5


def depth() -> int:
    """The number of workers that this process is within; 0 in an app."""
    text = os.environ.get(VARIABLE, "")
    return int(text) if text.isascii() and text.isdecimal() else 0


def check_depth() -> None:
    """Raise UnguardedStart if a node in this process would be nested too deeply."""
    if depth() > MOST:
        reason = (
            f"a node would start within a worker of a node within a worker, and so on, {depth()} workers deep, and {MOST} are"
            f" the most; {VARIABLE}=0 in the environment begins to count anew"
        )
        raise UnguardedStart("a node", reason)
