"""Steps of chains, where workers can import them without a test framework."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.workers.functions import announce

LARGE_NBYTES = 1_000_000


def step(value: int, mishap: str = "", path: str = "") -> Any:
    """Add one; with a mishap, go wrong the first time, or for ever."""
    match mishap:
        case "raise once" | "die once" if not Path(path).exists():
            Path(path).touch()
            if mishap == "raise once":
                raise ValueError("once")
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise ValueError("always")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "unpicklable":
            return (part for part in [value])
        case "sleep":
            time.sleep(0.3)
        case "hang":
            announce(path)
            signal.pause()
        case _:
            pass
    return value + 1


def grow(value: bytes) -> bytes:
    return value + bytes(LARGE_NBYTES)
