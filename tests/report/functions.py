"""Functions of the runs that are reported on. Daemons import them by this name, as far as their PYTHONPATH has it."""

import asyncio
import time
from pathlib import Path


def nothing(*_: object) -> None: ...


def large(*_: object) -> bytes:
    return bytes(1_000_000)


def length(*values: bytes) -> int:
    return sum(map(len, values))


def burn(seconds: float, *_: object) -> None:
    """Keep a core busy, as no sleep does."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        """Busy."""


async def pause(*_: object) -> None:
    await asyncio.sleep(0.02)


def second_time(marker: str, *_: object) -> None:
    """Raises ValueError the first time that it is called with a path."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        raise ValueError("not the first time")
