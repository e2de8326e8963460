"""Functions that these tests run on workers. The module is lean, since each worker imports it."""

import logging
import os
import signal
import sys
import time
from pathlib import Path


def fail_once(marker: str) -> int:
    if Path(marker).exists():
        return os.getpid()
    Path(marker).touch()
    raise ValueError("not yet")


def die_once(marker: str) -> int:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def open_gate(path: str) -> str:
    """Waits until somebody opens the other end of a fifo."""
    with open(path, encoding="utf-8") as gate:  # noqa: PTH123 - few imports
        return gate.read()


def wait_for(path: str) -> None:
    """Waits until somebody makes that file."""
    while not os.path.exists(path):  # noqa: PTH110 - few imports
        time.sleep(0.01)


def make(nbytes: int) -> bytes:
    return bytes(nbytes)


def say(text: str) -> None:
    print(text)


def say_both() -> None:
    print("this is fine", flush=True)
    print("this is not", file=sys.stderr)


def say_and_die() -> None:
    print("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def flood(lines: int) -> int:
    for number in range(lines):
        print("line", number, "of very many, as long as lines of a log are")
    return lines


def log_some() -> None:
    log = logging.getLogger("users.library")
    log.info("started with %d", 3)
    log.warning("odd: %s", "very")
    try:
        int("broken")
    except ValueError:
        log.exception("could not")


def log_text(text: str) -> None:
    logging.getLogger(f"users.{text}").error(text, exc_info=ValueError(text))


async def say_async(text: str) -> None:
    print(text)
