"""Functions that nodes run in these tests. The module is lean, since every worker imports it."""

import os
import time
from hashlib import sha256
from pathlib import Path

LARGE = 300_000
LOOKS_EVERY_S = 0.01


def make(number: int = 1) -> bytes:
    """Too large to travel with messages."""
    return bytes([number]) * LARGE


def extend(value: bytes) -> bytes:
    return value + b"+"


def measure(*values: object) -> int:
    return sum(len(value) for value in values if isinstance(value, bytes))


def wait_for(path: str, *_: object) -> None:
    """Returns once there is such a file."""
    while not Path(path).exists():
        time.sleep(LOOKS_EVERY_S)


def hold(seconds: float, number: int = 1) -> bytes:
    time.sleep(seconds)
    return make(number)


def wait_for_with(value: bytes, started: str, path: str) -> int:
    """Tells in one file which process it is while it waits for another."""
    Path(f"{started}.new").write_text(str(os.getpid()))
    Path(f"{started}.new").rename(started)
    wait_for(path)
    return len(value)


def blend(number: int, *values: bytes) -> bytes:
    """Depends on all that it takes. Every third one is large."""
    digest = sha256(b"".join((str(number).encode(), *values))).digest()
    return digest * (LARGE // len(digest) if number % 3 == 0 else 1)


def blend_slowly(number: int, *values: bytes) -> bytes:
    time.sleep(0.02)
    return blend(number, *values)


def wait_and_begin_a_run(path: str) -> int:
    wait_for(path)
    import handoff_actors as handoff  # noqa: PLC0415 - see above

    dag = handoff.DAG().add_function(handoff.Function("inner", [], abs, extra_args=[-3]))
    result: int = handoff.run_sync(dag, progress=False).results["inner"]
    return result


def read(path: str) -> bytes:
    return Path(path).read_bytes()
