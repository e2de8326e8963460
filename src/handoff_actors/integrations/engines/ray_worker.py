"""The environment of a node in a worker of Ray."""

import os
from pathlib import Path
from typing import Final

_THREADS: Final = "OMP_NUM_THREADS"
_ADDRESS: Final = "RAY_ADDRESS"


def prepare_environment() -> None:
    """Undo what Ray has set for this process alone, and have functions that use Ray find this cluster."""
    import ray  # noqa: PLC0415 - it costs a second, and a worker of Ray has it

    # Ray sets it to the cores of the actor, here all of the node. Functions get as many threads as each claims.
    if f"{_THREADS}=" not in _first_environment():
        os.environ.pop(_THREADS, None)
    # Else a function that calls `ray.init()` may start a Ray of its own.
    if not os.environ.get(_ADDRESS):
        os.environ[_ADDRESS] = ray.get_runtime_context().gcs_address


def _first_environment() -> str:
    """The variables that this process was started with: the user's, where he has set some."""
    return Path("/proc/self/environ").read_text(encoding="utf-8", errors="replace")
