"""Functions that these tests run in workers, importable by name. The module is lean, since each worker imports it."""

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.workers.functions import announce


def loop_for_ever(path: str) -> None:
    announce(path)
    while True:
        pass


def sleep_in_c(path: str) -> None:
    announce(path)
    ctypes.CDLL(None).sleep(600)


def ignore_signals_in_c(path: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sleep_in_c(path)


async def catch_cancellation(path: str) -> None:
    """Not a coroutine that behaves: it goes on after it has been cancelled."""
    announce(path)
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            continue


async def wait_for_ever(*_: object) -> None:
    await asyncio.Event().wait()


async def process_id_of_coroutine() -> int:
    return os.getpid()


async def block_the_loop(path: str) -> None:
    announce(path)
    time.sleep(600)  # noqa: ASYNC251 - a user's mistake, which must not cost more than its own run


def announce_then_return(directory: str) -> int:
    """Wait to be killed, the first time."""
    marker = Path(directory) / "tried"
    if marker.exists():
        return os.getpid()
    marker.touch()
    announce(f"{directory}/announcement", str(os.getpid()))
    signal.pause()
    return 0


def die_once(directory: str, number: int) -> str:
    marker = Path(directory) / "tried"
    if marker.exists():
        return "alive"
    marker.touch()
    os.kill(os.getpid(), number)
    return "killed by no signal"


def kill_other(pid: int) -> None:
    if pid != os.getpid():
        os.kill(pid, signal.SIGKILL)


def fail_until(counter: str, attempt: int) -> int:
    """Fails before that attempt; a file counts, as attempts run in whatever process."""
    with Path(counter).open("a+") as file:
        file.write("x")
        file.flush()
        count = os.fstat(file.fileno()).st_size
    if count < attempt:
        raise ValueError(f"attempt {count}")
    return count


async def fail_until_later(counter: str, attempt: int) -> int:
    return fail_until(counter, attempt)


def sleep_until(counter: str, attempt: int) -> int:
    """Sleeps for ever before that attempt."""
    try:
        return fail_until(counter, attempt)
    except ValueError:
        time.sleep(600)
        raise


def meet(directory: str, name: str, count: int) -> str:
    """Return once this many calls run at the same time."""
    (Path(directory) / name).touch()
    gives_up_at = time.monotonic() + 20
    while len(list(Path(directory).iterdir())) < count:
        if time.monotonic() > gives_up_at:
            raise TimeoutError(f"fewer than {count} run at once")
        time.sleep(0.005)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def span(*_: object) -> tuple[float, float]:
    """Return the time of the call, on a clock that all processes of a machine share."""
    began = time.monotonic()
    time.sleep(0.02)
    return began, time.monotonic()


def long_span() -> tuple[float, float]:
    """Run much longer than workers take to import this module."""
    began = time.monotonic()
    time.sleep(0.1)
    return began, time.monotonic()


def with_place(value: object, source: str, target: str) -> tuple[object, str, str]:
    """A hook that shows what it is given."""
    return value, source, target


def grow_and_wait(megabytes: int) -> None:
    print("growing")
    kept = bytearray(b"x") * (megabytes * 1_000_000)
    signal.pause()
    raise AssertionError(f"it went on with {len(kept)} bytes")


def grow_in_a_child(megabytes: int) -> None:
    if os.fork() == 0:
        grow_and_wait(megabytes)
    signal.pause()


def array(megabytes: int) -> object:
    import numpy as np  # noqa: PLC0415 - the others need not wait for it

    return np.ones(megabytes * 1_000_000, np.uint8)


def read_for_a_second(values: Any) -> int:
    """Run long enough for the node to look at its memory meanwhile."""
    total = int(values.sum())
    time.sleep(1.0)
    return total


def total(values: Any) -> int:
    return int(values.sum())


def mapped_files(_value: object) -> list[str]:
    """The inodes of the values that this worker has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted({line.split()[4] for line in lines if "/handoff-" in line})
