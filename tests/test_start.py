"""Modules that a starting program, or worker, must not import; `benchmarks/start.py` has the times."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

#: Of others: what commands, networks, journals, drawings and async workers need, and what takes long to import.
HEAVY = {
    "click",
    "ctypes",
    "email",
    "html",
    "http",
    "json",
    "importlib.metadata",
    "multiprocessing",
    "numpy",
    "rich",
    "sqlite3",
    "statistics",
    "unittest",
    "uvloop",
    "xml",
    "zmq",
}
FOR_COMMANDS_ALONE = {f"handoff_actors.{name}" for name in ("cli", "actors.node.daemon")}
FOR_SOME_PROGRAMS_ALONE = {
    f"handoff_actors.{name}"
    for name in (
        "actors.app.journal_file",
        "client.html_forms",
        "graph.pictures",
        "report.figure",
        "report.html_table",
        "report.plot",
        "report.trace",
        "transport.curve",
        "transport.zeromq",
    )
}
#: The rest of the library, and what it is made with: they stay in the app.
FOR_APPS_ALONE = {"asyncio", "hashlib", "msgspec", "secrets", "ssl", "subprocess", "tempfile"} | {
    f"handoff_actors.{name}" for name in ("actors", "client", "core", "graph", "transport", "wire.messages")
}


def imported_by(statements: str) -> set[str]:
    """Names of all modules that a fresh interpreter has after the statements."""
    script = f"{statements}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_module_that_must_stay_out_exists() -> None:
    names = HEAVY | FOR_COMMANDS_ALONE | FOR_SOME_PROGRAMS_ALONE | FOR_APPS_ALONE

    assert [name for name in sorted(names) if find_spec(name) is None] == []


def test_the_import_alone_brings_in_nothing_else() -> None:
    imported = imported_by("import handoff_actors")

    assert {name for name in imported if name.startswith("handoff_actors")} == {"handoff_actors"}
    assert not imported & (HEAVY | {"asyncio", "msgspec", "msgpack"})


@pytest.mark.parametrize("name", ["execute_distributed", "register_local_node", "Session", "DAG", "run_sync"])
def test_a_program_imports_only_what_every_program_needs(name: str) -> None:
    imported = imported_by(f"import handoff_actors; handoff_actors.{name}")

    assert not imported & (HEAVY | FOR_COMMANDS_ALONE | FOR_SOME_PROGRAMS_ALONE)


def test_workers_start_from_only_what_sync_workers_need() -> None:
    imported = imported_by("from handoff_actors.workers.child.zygote import main")

    assert "handoff_actors.workers.child.sync_worker" in imported
    assert not imported & (HEAVY - {"ctypes"} | FOR_COMMANDS_ALONE | FOR_SOME_PROGRAMS_ALONE | FOR_APPS_ALONE)
