"""Names and output of functions, nodes and runs that contain commands for a terminal never reach it as such."""

import re
from pathlib import Path

import pytest
import zmq

from handoff_actors.ids import RunId
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.transport.curve import Curve
from handoff_actors.transport.user_key import user_key
from handoff_actors.wire.codec import encode
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.jobs import Job, Template
from handoff_actors.wire.messages.members import Hello
from handoff_actors.wire.messages.runs import Assign
from handoff_actors.wire.payload import encode_call
from handoff_actors.wire.versions import VERSION
from tests.cli.command import handoff, handoff_on_terminal
from tests.daemons import Daemons

pytestmark = pytest.mark.processes

#: Sets the title, clears the screen, and turns what follows around.
HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e"
SHOWN = r"\x1b]0;title\x07\x1b[2J\u202e"
JOBS = f"""
import logging

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


def dag_of(code):
    return handoff.DAG(HOSTILE).add_function(handoff.Function(HOSTILE, [], code, max_retries=1))


talking, failing = dag_of(talk), dag_of(fail)
"""
#: Sequences with which this library's own output moves the cursor, and colours.
OURS = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*A|2K|1A)|\r")


@pytest.fixture
def hostile_jobs(jobs: Path) -> Path:
    """A directory with a module, hostile.py, beside the others."""
    (jobs / "hostile.py").write_text(JOBS)
    return jobs


def assert_harmless(written: str) -> None:
    left = OURS.sub("", written).replace("\n", "")
    assert left.isprintable(), [character for character in left if not character.isprintable()]


def test_a_run_on_a_terminal(daemons: Daemons, hostile_jobs: Path) -> None:
    daemon = daemons.start("--name", "n1", "--cpu", "1")

    written = handoff_on_terminal("run", "hostile:talking", "--join", daemon.address, cwd=hostile_jobs)

    assert_harmless(written)
    # Printed, logged and returned.
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


def test_looks_at_a_cluster(daemons: Daemons) -> None:
    """Names of nodes and resources are checked, but an app may call itself anything."""
    daemon = daemons.start("--name", "n1", "--cpu", "1")
    template = Template(
        0, b"d", by_reference=True, code=b"time:sleep", is_async=False, as_list=False, cost={}, timeout=None
    )
    job = Job(0, 1, 0, [], encode_call((600,), {}).to_bytes())
    with zmq.Context() as context, context.socket(zmq.DEALER) as member:
        member.linger = 0
        member.rcvtimeo = 20_000
        Curve(user_key()).protect_client(member)
        member.connect(daemon.address)
        member.send(
            encode([Hello(PROTOCOL, VERSION, PYTHON, HOSTILE, None), Assign(RunId(7), [template], [job])])
        )
        member.recv()

        looks = [
            handoff_on_terminal("nodes", "--join", daemon.address),
            handoff_on_terminal("top", "--once", "--join", daemon.address),
            handoff("top", "--once", "--join", daemon.address).stdout,
        ]

    for look in looks:
        assert_harmless(look)
        # A table may break it anywhere.
        assert r"\x1b]0" in look
