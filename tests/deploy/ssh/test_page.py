"""The page deployment/ssh.md, from nothing to a run and back: its commands, in its order, in one shell."""

import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.deploy.ssh.machines import Machine, Operator
from tests.docs.fences import NOTHING, fences
from tests.docs.reader import compare

pytestmark = [pytest.mark.hosts, pytest.mark.processes, pytest.mark.timeout(120)]

PAGE = "deployment/ssh.md"
BIN = Path(sys.executable).parent
MARK = "the end of a block"


def test_page_leads_from_nothing_to_a_run_and_back(
    operator: Operator, machines: list[Machine], tmp_path: Path
) -> None:
    # As on a machine that has it already: another test installs it.
    for number, machine in enumerate(machines, start=1):
        machine.boot(variables={"PATH": f"{BIN}:/usr/bin:/bin"})
        operator.add(f"Host n{number}\n  HostName {machine.address}\n")
    operator.know(*machines)
    blocks = [*fences(PAGE), NOTHING]
    (program,) = [fence for fence in blocks if fence.title == "app.py"]
    (tmp_path / "app.py").write_text(program.text)
    commands = [(fence, after) for fence, after in pairwise(blocks) if fence.language == "sh"]
    script = "".join(f"{fence.text}echo {shlex.quote(MARK)}\n" for fence, _ in commands)

    done = subprocess.run(
        [*operator.host.prefix, "bash", "-e", "-c", script],
        stdin=subprocess.DEVNULL,
        env=operator.environment(PATH=f"{operator.shims()}:{BIN}:/usr/bin:/bin"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    for (fence, following), seen in zip(commands, done.stdout.split(f"{MARK}\n")[:-1], strict=True):
        if following.language == "text":
            lines = seen.splitlines(keepends=True)
            in_order = sorted(lines) if lines[0].startswith("✓") else lines
            compare(PAGE, fence, following, "".join(in_order))
    assert all(machine.left_in_home() == [] and machine.processes() == [] for machine in machines)
