"""What takes long for large graphs, kept off the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: What is done for fewer functions is done before a thread would have begun.
MANY = 1000


async def offload(functions: int, work: Callable[[], T]) -> T:
    """Do what takes a few microseconds for each of so many functions. Python lets the loop have its turns meanwhile."""
    return work() if functions < MANY else await asyncio.to_thread(work)
