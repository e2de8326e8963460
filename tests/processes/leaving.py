"""Functions that leave something running in their worker, and functions that wait for its end."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

_TIME_LIMIT_S = 20.0


def _spin() -> None:
    while True:
        pass


def leave_a_thread() -> int:
    threading.Thread(target=_spin, daemon=True).start()
    return os.getpid()


def leave_a_process() -> int:
    subprocess.Popen([sys.executable, "-c", "while True: pass"])
    return os.getpid()


def leave_a_daemon() -> int:
    """Leave a process that has a session of its own, and no parent."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _spin()
        os._exit(0)
    os.wait()
    return os.getpid()


def leave_a_thread_that_waits() -> int:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return os.getpid()


def wait_for(path: str) -> int:
    """Wait until a file is there; returns the process."""
    until = time.monotonic() + _TIME_LIMIT_S
    while not Path(path).exists():
        assert time.monotonic() < until, f"{path} has not appeared"
        time.sleep(0.01)
    return os.getpid()


async def wait_for_async(path: str) -> int:
    """Do as `wait_for`."""
    until = time.monotonic() + _TIME_LIMIT_S
    while not Path(path).exists():  # noqa: ASYNC240
        assert time.monotonic() < until, f"{path} has not appeared"
        await asyncio.sleep(0.01)
    return os.getpid()


async def _go_on() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            """It is not to end."""


async def _note_end(path: str) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        Path(path).write_text("ended", encoding="utf-8")  # noqa: ASYNC240


async def leave_a_task_that_goes_on() -> int:
    asyncio.create_task(_go_on())  # noqa: RUF006 - nobody is to end it
    await asyncio.sleep(0)
    return os.getpid()


async def leave_a_task(path: str) -> int:
    asyncio.create_task(_note_end(path))  # noqa: RUF006 - as above
    await asyncio.sleep(0)
    return os.getpid()


async def pid(*_: object) -> int:
    return os.getpid()
