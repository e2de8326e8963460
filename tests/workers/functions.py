"""Functions that workers run in tests, and that must be importable by name."""

import asyncio
import ctypes
import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any


def add(left: int, right: int) -> int:
    return left + right


def square(number: int) -> int:
    return number * number


def same(value: Any) -> Any:
    return value


def pair(left: Any, right: Any) -> tuple[Any, Any]:
    return left, right


def kinds_of(items: list[Any]) -> list[str]:
    return [type(item).__name__ for item in items]


def process_id() -> int:
    return os.getpid()


def count_up(limit: int) -> Iterator[int]:
    yield from range(limit)


def recurse() -> int:
    return recurse() + 1


def exit_at_once(code: int) -> None:
    os._exit(code)


def read_address_zero() -> bytes:
    return ctypes.string_at(0)


def ask_to_exit() -> None:
    sys.exit(3)


def announce_and_sleep(path: str, seconds: float) -> str:
    announce(path)
    time.sleep(seconds)
    return "slept"


def announce_and_ignore_signals(path: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    announce(path)
    threading.Event().wait()


def start_process_and_wait(path: str) -> None:
    child = subprocess.Popen(["sleep", "600"])
    announce(path, str(child.pid))
    child.wait()


def leave_fork(how: str) -> int:
    """Come to the end of the function in a fork, too, and give the exit status of that."""
    pid = os.fork()
    if pid == 0:
        if how == "exit":
            sys.exit(3)
        if how == "raise":
            raise LookupError(how)
        return -1
    return _exit_status(pid)


async def leave_fork_async(how: str) -> int:
    return leave_fork(how)


def return_large_value_twice() -> bytes:
    """Return what is too large for a message in a fork, too."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return bytes(1_000_000)


def _exit_status(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@types.coroutine
def _next_turn() -> Iterator[None]:
    """Let the loop run, as `asyncio.sleep(0)` does, which finds no loop in a fork."""
    yield


async def await_in_fork() -> int:
    pid = os.fork()
    if pid == 0:
        while True:
            await _next_turn()
    return _exit_status(pid)


def squares_by_processes(numbers: list[int]) -> list[int]:
    with ProcessPoolExecutor(2) as executor:
        return list(executor.map(square, numbers))


def squares_by_threads(numbers: list[int]) -> list[int]:
    with ThreadPoolExecutor(2) as executor:
        return list(executor.map(square, numbers))


def standard_input() -> str:
    return sys.stdin.read()


def visible_devices() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


async def double_later(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def wait_forever(path: str) -> None:
    announce(path)
    await asyncio.Event().wait()


async def raise_in_own_task() -> None:
    async def leave() -> None:
        sys.exit(4)

    await asyncio.create_task(leave())


def announce(path: str, text: str = "-") -> None:
    """Tell the test, which reads the named pipe."""
    with open(path, "w") as pipe:  # noqa: PTH123 - workers import this module: lean
        pipe.write(text)


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def plus(self, number: int) -> int:
        return self.start + number


class Unpicklable(Exception):
    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} and {right}")

    def __reduce__(self) -> Any:
        raise TypeError("not this one")


def raise_unpicklable() -> None:
    raise Unpicklable(1, 2)


def add_in_place(array: Any) -> None:
    array += 1


def sort_in_place_and_wrap(array: Any) -> None:
    try:
        array.sort()
    except ValueError as error:
        raise RuntimeError("a step failed") from error


def set_first(view: memoryview) -> None:
    view[0] = 1


def read_into(view: memoryview) -> None:
    io.BytesIO(b"12345678").readinto(view)


def raise_read_only_file_system() -> None:
    raise OSError(errno.EROFS, "Read-only file system")
