"""The first programs that a newcomer runs do so on a machine with one core."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemons import HANDOFF, environment
from tests.docs.pages import snippets
from tests.examples.programs import EXAMPLES

pytestmark = pytest.mark.processes

FIRST = snippets("README.md", "python")[0]
ON_ONE_CORE = """
import os, sys

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ([sys.executable, "-c", FIRST], "180 "),
        ([sys.executable, str(EXAMPLES / "branching_dag.py")], "agg = 183\n"),
        ([*HANDOFF, "demo"], "result: 8 different words"),
    ],
    ids=["README", "branching_dag.py", "handoff demo"],
)
def test_the_first_program_runs_on_one_core(command: list[str], printed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_ONE_CORE, *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
        env=environment(),
    )

    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
