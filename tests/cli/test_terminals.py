"""What a terminal gets of functions, nodes and runs that others have given names and words that are orders to it."""

import re
from pathlib import Path

import pytest

from cli.command import handoff, handoff_on_terminal, handoff_started
from daemons import Daemons

pytestmark = pytest.mark.processes

#: Sets the title, clears the screen, and turns what follows around.
HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e"
SHOWN = r"\x1b]0;title\x07\x1b[2J\u202e"
JOBS = f"""
import logging
from pathlib import Path

import handoff_actors as handoff

HOSTILE = {HOSTILE!r}


class Drawn:
    def __repr__(self):
        return HOSTILE


def talk():
    print(HOSTILE)
    logging.getLogger(HOSTILE).warning(HOSTILE)
    return Drawn()


def fail():
    print(HOSTILE)
    raise ValueError(HOSTILE)


def wait():
    print("waiting", flush=True)
    Path({{gate!r}}).read_text()


def dag_of(code):
    return handoff.DAG(HOSTILE).add_function(handoff.Function(HOSTILE, [], code, max_retries=1))


talking, failing, waiting = dag_of(talk), dag_of(fail), dag_of(wait)
"""
#: What this library's own pictures move the cursor with, and colours.
OURS = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*A|2K|1A)|\r")


@pytest.fixture
def hostile_jobs(jobs: Path) -> Path:
    """A directory with a module, hostile.py, beside the others, and a fifo, gate."""
    (jobs / "hostile.py").write_text(JOBS.replace("{gate!r}", repr(str(jobs / "gate"))))
    return jobs


def assert_harmless(written: str) -> None:
    left = OURS.sub("", written).replace("\n", "")
    assert left.isprintable(), [character for character in left if not character.isprintable()]


def test_a_run_on_a_terminal(daemons: Daemons, hostile_jobs: Path) -> None:
    daemon = daemons.start("--name", "n1", "--cpu", "1")

    written = handoff_on_terminal("run", "hostile:talking", "--join", daemon.address, cwd=hostile_jobs)

    assert_harmless(written)
    # What it printed, what it logged, and what it returned.
    assert written.count(f"[n1 {SHOWN}] {SHOWN}") == 2
    assert f"{SHOWN} = {SHOWN}" in written
    assert f"{SHOWN[:21]}...: done in " in written


def test_a_run_that_fails(daemons: Daemons, hostile_jobs: Path) -> None:
    daemon = daemons.start("--name", "n1", "--cpu", "1")

    failed = handoff("run", "hostile:failing", "--join", daemon.address, cwd=hostile_jobs)

    assert failed.returncode == 1
    assert_harmless(failed.stdout + failed.stderr + daemon.log())
    assert f"failed on n1, attempt 1: ValueError: {SHOWN}" in failed.stderr
    assert f"the last that it printed:\n{SHOWN}" in failed.stderr
    # The traceback ends with it, too.
    assert f"\nValueError: {SHOWN}\n" in failed.stderr


def test_looks_at_a_cluster(daemons: Daemons, hostile_jobs: Path) -> None:
    daemon = daemons.start("--name", "n1", "--cpu", "1", "--resource", f"r{HOSTILE}=2")
    with handoff_started("run", "hostile:waiting", "--join", daemon.address, cwd=hostile_jobs) as run:
        assert run.stdout is not None
        printed = run.stdout.readline()
        looks = [
            handoff_on_terminal("nodes", "--join", daemon.address),
            handoff_on_terminal("top", "--once", "--join", daemon.address),
            handoff("top", "--once", "--join", daemon.address).stdout,
        ]
        (hostile_jobs / "gate").write_text("opened")
        run.communicate()

    assert printed == f"[n1 {SHOWN}] waiting\n"
    for look in looks:
        assert_harmless(look)
        # A table may break it anywhere.
        assert r"r\x1b]0" in look
