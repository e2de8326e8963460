"""The first Ctrl-C ends a program that waits, whatever it waits with, and leaves nothing; further ones change nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.daemons import environment

pytestmark = pytest.mark.processes

ENDS_WITHIN_S = 8.0
SHORT_LINES = 45

SETUP = """
import asyncio, time
import handoff_actors as handoff
from handoff_actors.integrations.background import BackgroundSession

def work(*_):
    print("runs", flush=True)
    time.sleep(1234)

dag = handoff.new()
dag.call(work)
"""
PROGRAMS = {
    "run_sync": "handoff.run_sync(dag)",
    "asyncio": "asyncio.run(handoff.execute_distributed(dag))",
    "cluster": "with handoff.LocalCluster(nodes=2) as cluster: cluster.run_sync(dag)",
    "executor": "with handoff.Executor(max_workers=2) as executor: executor.submit(work).result()",
    "executor, no with": "executor = handoff.Executor(max_workers=2)\nexecutor.submit(work).result()",
    "executor's map": "with handoff.Executor(max_workers=1) as executor: list(executor.map(work, range(5)))",
    "executor that shuts down": "with handoff.Executor(max_workers=2) as executor: executor.submit(work)",
    "executor over a session": (
        "with BackgroundSession() as session, handoff.Executor(session=session) as executor:"
        " executor.submit(work).result()"
    ),
    "executor in a loop": """
async def main():
    async with handoff.Session() as session, handoff.Executor(session=session) as executor:
        await asyncio.wrap_future(executor.submit(work))
asyncio.run(main())
""",
    "background session": "with BackgroundSession() as session: session.execute(dag)",
}
#: `asyncio.run` raises the second interrupt wherever the loop is.
REPEATED = [name for name, program in PROGRAMS.items() if "asyncio.run" not in program]


@pytest.mark.parametrize(
    ("name", "times"), [*((name, 1) for name in PROGRAMS), *((name, 3) for name in REPEATED)]
)
def test_first_ctrl_c_ends_the_program(name: str, times: int, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SETUP + PROGRAMS[name])
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=environment(HANDOFF_PROGRESS="0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as app:
        assert app.stdout is not None
        assert app.stdout.readline().endswith("runs\n")
        started = psutil.Process(app.pid).children(recursive=True)
        interrupted_at = time.monotonic()
        for _ in range(times):
            os.kill(app.pid, signal.SIGINT)
            time.sleep(0.002)
        _, errors = app.communicate(timeout=ENDS_WITHIN_S)

    assert app.returncode == -signal.SIGINT, errors
    assert time.monotonic() - interrupted_at < ENDS_WITHIN_S
    # Not at the start of a line if another one has come while Python was printing the traceback of the first.
    assert ("\nKeyboardInterrupt" if times == 1 else "KeyboardInterrupt") in errors
    assert len(errors.splitlines()) < SHORT_LINES, errors
    _, alive = psutil.wait_procs(started, timeout=ENDS_WITHIN_S)
    assert alive == []
