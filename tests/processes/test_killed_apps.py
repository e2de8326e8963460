"""An app is killed again and again, and its run ends all the same."""

import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from tests.daemons import environment
from tests.processes import durable, durable_growth, durable_open_run

ROOT = Path(durable.__file__).parents[2]
pytestmark = pytest.mark.processes

#: Before each kill. 0: while it starts. Functions take 10 ms, and are committed within 50 ms.
COMPLETIONS = (0, 20, 1, 0, 5, 30, 10, 15)


class Program:
    """A program such as `durable.py` with a journal and a log of its own, started and killed."""

    def __init__(self, directory: Path, module: ModuleType = durable) -> None:
        self._module = module
        self._journal = directory / "run.db"
        self._log = directory / "log"

    def executions(self) -> Counter[str]:
        """The number of executions of each function."""
        return Counter(self._log.read_text().split() if self._log.exists() else [])

    def journaled(self) -> set[str]:
        """The functions that the journal has: an SQLite file that any program can read while no run uses it."""
        if not self._journal.exists():
            return set()
        with closing(sqlite3.connect(self._journal)) as database:
            tables = database.execute("SELECT name FROM sqlite_master").fetchall()
            rows = database.execute("SELECT function FROM done").fetchall() if ("done",) in tables else []
        return {function.strip("'") for (function,) in rows}

    def run(self, kill_after: tuple[int, float] | None) -> str | None:
        """Run the app; kill it this many completions, and then this many seconds, after its start.

        Returns its output, None if it was killed.
        """
        completions, seconds = kill_after or (0, None)
        command = [
            sys.executable,
            "-m",
            self._module.__name__,
            str(self._journal),
            str(self._log),
            str(completions),
        ]
        with subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            try:
                said = process.stderr.readline() if completions else ""
                printed, errors = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                return None
        assert process.returncode == 0, said + errors
        return printed


def test_a_run_that_is_killed_again_and_again_ends_well_and_repeats_nothing_that_was_journaled(
    tmp_path: Path,
) -> None:
    program = Program(tmp_path)
    chance = random.Random()
    #: Executions of each function, when it was first seen in the journal.
    when_journaled: dict[str, int] = {}

    for completions in COMPLETIONS:
        program.run((completions, chance.uniform(0, 0.1)))
        executions = program.executions()
        when_journaled = {name: executions[name] for name in program.journaled()} | when_journaled
    printed = program.run(None)

    assert when_journaled
    assert printed is not None
    result, reused = map(int, printed.split())
    executions = program.executions()
    assert result == durable.RESULT
    assert reused == len(when_journaled)
    assert {name: executions[name] for name in when_journaled} == when_journaled
    assert len(executions) == durable.SIZE - 1
    assert program.journaled() == {*executions, "total"}


def killed_again_and_again(
    program: Program, name_in_log: Callable[[str], str | None]
) -> tuple[list[str], dict[str, int]]:
    """Kill a program until it may end.

    Returns what it has printed, and for each function that does work how often it had been executed when it was first seen
    in the journal.
    """
    chance = random.Random()
    when_journaled: dict[str, int] = {}
    for completions in COMPLETIONS:
        program.run((completions, chance.uniform(0, 0.1)))
        executions = program.executions()
        names = filter(None, map(name_in_log, program.journaled()))
        when_journaled = {name: executions[name] for name in names} | when_journaled
    printed = program.run(None)
    assert printed is not None
    return printed.split(), when_journaled


def test_a_run_that_grows_goes_on_with_what_its_functions_had_added_however_often_it_is_killed(
    tmp_path: Path,
) -> None:
    program = Program(tmp_path, durable_growth)

    (tree, total, *reused), when_journaled = killed_again_and_again(program, durable_growth.name_in_log)

    executions = program.executions()
    assert (int(tree), int(total)) == durable_growth.RESULT
    assert {name: executions[name] for name in when_journaled} == when_journaled
    assert {*filter(None, map(durable_growth.name_in_log, reused))} <= set(when_journaled)
    assert any("/" in function_id for function_id in reused)
    workers = [name for name in executions if name.startswith(("leaf", "item"))]
    assert len(workers) == durable_growth.LEAVES + durable_growth.ITEMS + 1


def test_an_open_run_goes_on_with_what_was_done_however_often_its_app_is_killed(tmp_path: Path) -> None:
    program = Program(tmp_path, durable_open_run)

    (result, *reused), when_journaled = killed_again_and_again(program, durable_open_run.name_in_log)

    executions = program.executions()
    assert int(result) == durable_open_run.RESULT
    assert {name: executions[name] for name in when_journaled} == when_journaled
    assert len(reused) == len(when_journaled)
    assert len(executions) == durable_open_run.EXECUTED
