"""Keeps work that takes long for large graphs off the event loop."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

T = TypeVar("T")

#: Work on fewer functions than this ends sooner than a thread would start.
MIN_FUNCTIONS: Final = 1000
#: Switch interval of Python's threads while one computes: how long the loop waits for its turn. With the usual 5 ms, a
#: tick with a few system calls, after each of which the loop waits again, took 10 to 20 ms.
_SWITCH_INTERVAL_S: Final = 0.0005


async def offload(functions: int, work: Callable[[], T]) -> T:
    """Run work that takes a few microseconds per function, in a thread if there are many, so that the loop goes on."""
    if functions < MIN_FUNCTIONS:
        return work()
    with _short_switch_interval():
        return await asyncio.to_thread(work)


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """Shorten the switch interval of this process's threads. It is not restored if other code has changed it meanwhile."""
    usual = sys.getswitchinterval()
    if usual <= _SWITCH_INTERVAL_S:
        # Other code has done so already, perhaps another call of this.
        yield
        return
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    ours = sys.getswitchinterval()
    try:
        yield
    finally:
        if sys.getswitchinterval() == ours:
            sys.setswitchinterval(usual)
