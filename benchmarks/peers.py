"""The contenders that we are measured against: their code, the workloads that they can run, and their interpreters.

This is imported by every peer's interpreter, too, so it needs nothing but the standard library.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = "ours"
WORKLOADS = (
    "fanout",
    "layered",
    "chain",
    "hops",
    "branching",
    "large",
    "cpu",
    "memory",
    "loop",
    "daemons",
    "cold",
)
#: The workloads for a contender that holds the app's thread while it submits ready functions.
BLOCKING = frozenset(WORKLOADS) - {"memory", "loop", "daemons"}


@dataclass(frozen=True, slots=True)
class Peer:
    """One contender other than ours."""

    #: The place of its `Contender`. Only the one that is measured may be imported.
    contender: str
    workloads: frozenset[str]
    #: The name of its package; None: it is in our own environment.
    package: str | None = None


PEERS = {
    "bare": Peer(
        "benchmarks.bare:CONTENDER", frozenset({"fanout", "layered", "chain", "hops", "branching", "daemons"})
    ),
    "pool": Peer("benchmarks.floor:POOL", BLOCKING),
    "local": Peer("benchmarks.floor:LOCAL", frozenset({"large"})),
    "dask": Peer("benchmarks.with_dask:CONTENDER", frozenset(WORKLOADS), "distributed"),
    "ray": Peer("benchmarks.with_ray:CONTENDER", BLOCKING | {"memory"}, "ray"),
    "parsl": Peer("benchmarks.with_parsl:CONTENDER", (BLOCKING | {"memory"}) - {"large"}, "parsl"),
    "ipyparallel": Peer("benchmarks.with_ipyparallel:CONTENDER", BLOCKING - {"large"}, "ipyparallel"),
}


def interpreter(name: str) -> Path:
    """The path of the interpreter that has the contender's package, installed or not."""
    if name == OURS or PEERS[name].package is None:
        return Path(sys.executable)
    return ROOT / ".peers" / name / "bin" / "python"


def is_installed(name: str) -> bool:
    # `scripts/peers` writes this file when all the rest has succeeded.
    python = interpreter(name)
    return python == Path(sys.executable) or (python.parent.parent / "installed").exists()


def environment(name: str) -> dict[str, str]:
    """The variables for the contender's processes: its own programs come first, and its workers import the workloads."""
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(interpreter(name).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(search),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def version_of(name: str) -> str:
    """The package and its version, or the name alone of one that comes with Python."""
    package = "handoff-actors" if name == OURS else PEERS[name].package
    if package is None:
        return name
    program = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    command = [str(interpreter(name)), "-c", program]
    told = subprocess.run(command, env=environment(name), capture_output=True, text=True, check=False)
    return f"{package} {told.stdout.strip() or 'of an unknown version'}"
