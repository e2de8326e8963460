"""What takes long for large graphs, kept off the event loop."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

T = TypeVar("T")

#: What is done for fewer functions is done before a thread would have begun.
MIN_FUNCTIONS: Final = 1000
#: How long a thread that computes may keep the loop waiting each time that this wants to go on. With the usual 5 ms a
#: tick with a few system calls, each of which gives the others a turn, took 10 to 20 ms.
_SWITCH_INTERVAL_S: Final = 0.0005


async def offload(functions: int, work: Callable[[], T]) -> T:
    """Do what takes a few microseconds for each of so many functions. Python lets the loop have its turns meanwhile."""
    if functions < MIN_FUNCTIONS:
        return work()
    with _short_switch_interval():
        return await asyncio.to_thread(work)


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """Have the threads of this process take turns more often, unless somebody else changes that meanwhile."""
    usual = sys.getswitchinterval()
    if usual <= _SWITCH_INTERVAL_S:
        # Somebody does so already, perhaps another call of this.
        yield
        return
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    ours = sys.getswitchinterval()
    try:
        yield
    finally:
        if sys.getswitchinterval() == ours:
            sys.setswitchinterval(usual)
