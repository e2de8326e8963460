"""Functions that the tests of executors run in workers."""

import asyncio
import decimal
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

initialized_with: list[object] = []


class Made:
    """Something that can be referred to weakly."""


def make() -> Made:
    return Made()


def increment(number: int) -> int:
    return number + 1


def initialize(value: object) -> None:
    initialized_with.append(value)


def set_up_process(directory: str) -> None:
    os.chdir(directory)
    os.environ["SET_UP"] = "1"
    decimal.getcontext().prec = 5


def seen_of_process(*, change: bool = False) -> tuple[str, str | None, int]:
    seen = str(Path.cwd()), os.environ.get("SET_UP"), decimal.getcontext().prec
    if change:
        os.chdir("/")
        os.environ["SET_UP"] = "2"
        decimal.getcontext().prec = 6
    return seen


async def seen_within_coroutine() -> tuple[str, str | None, int]:
    return seen_of_process(change=True)


def refuse() -> None:
    raise ValueError("not in the mood")


def seen_by_initializer() -> tuple[int, list[object]]:
    return os.getpid(), initialized_with


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark: Path) -> str:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return "alive"
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def wait_for(mark: Path) -> str:
    """Returns once there is such a file."""
    while not mark.exists():
        time.sleep(0.01)
    return mark.name


def start_and_wait_for(started: Path, mark: Path) -> str:
    started.touch()
    return wait_for(mark)


async def increment_later(number: int) -> int:
    return number + 1


class Later:
    """Coroutine functions of every shape."""

    async def __call__(self, number: int) -> int:
        return number + 1

    async def method(self, number: int) -> int:
        return number + 1

    @classmethod
    async def class_method(cls, number: int) -> int:
        return number + 1

    @staticmethod
    async def static_method(number: int) -> int:
        return number + 1


def increment_in_coroutine(number: int) -> Coroutine[None, None, int]:
    """As a decorator of coroutine functions does, a plain function gives a coroutine."""
    return increment_later(number)


_here: set[int] = set()


async def meet(number: int, count: int) -> int:
    """Return once so many of its calls run in this process at the same time."""
    _here.add(number)
    while len(_here) < count:  # noqa: ASYNC110 - nobody tells of the last one
        await asyncio.sleep(0.001)
    return number


async def await_something_cancelled() -> None:
    await_it = asyncio.ensure_future(asyncio.sleep(60))
    await_it.cancel()
    await await_it


def nap_and_name_the_zygote(_number: int = 0) -> int:
    """Run long enough for others to run meanwhile; return the id of the process that has forked this one."""
    time.sleep(0.05)
    return os.getppid()


def first(values: Any, start: int = 0) -> int:
    """Take a part of a large value."""
    return int(values[start])
