"""Tests of apps that are started without stdin, stdout or stderr, as some daemons and jobs of schedulers are."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemons import environment

pytestmark = pytest.mark.processes

PROGRAM = """
import asyncio, sys
import handoff_actors as handoff

def say(number):
    print("printed", number)
    print("complained", file=sys.stderr)
    return number + 1

lines = []

def note(event):
    if isinstance(event, handoff.events.Output):
        lines.append((event.stream, event.line))

dag = handoff.new()
dag.call(say, 1, id="a")

async def among_daemons():
    async with handoff.LocalCluster(nodes=1) as cluster, cluster.session() as session:
        return await session.execute_distributed(dag, on_event=note)

ways = {
    "run_sync": lambda: handoff.run_sync(dag, on_event=note),
    "asyncio.run": lambda: asyncio.run(handoff.execute(dag, on_event=note)),
    "daemons": lambda: asyncio.run(among_daemons()),
}
run = ways[sys.argv[2]]()
open(sys.argv[1], "w").write(f"{dict(run.results)} {sorted(lines)}")
"""


@pytest.mark.parametrize("way", ["run_sync", "asyncio.run", "daemons"])
@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_an_app_without_standard_streams_runs_functions_that_print(
    way: str, closed: str, tmp_path: Path
) -> None:
    written = tmp_path / "result"
    command = [sys.executable, "-c", PROGRAM, str(written), way]

    ended = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command],
        env=environment(),
        timeout=30,
        check=False,
        stdout=subprocess.DEVNULL,
    )

    expected = [("stderr", "complained"), ("stdout", "printed 1")]
    assert (ended.returncode, written.read_text()) == (0, f"{{'a': 2}} {expected}")
