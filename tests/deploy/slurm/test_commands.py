"""The commands of Slurm, as scripts that end as real ones may."""

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest
import uvloop

from handoff_actors.core.cluster.autoscaler import JobId, JobListed
from handoff_actors.deploy.slurm.commands import Slurm, SlurmError
from handoff_actors.deploy.slurm.jobs import NodeJob

pytestmark = pytest.mark.processes

JOB = NodeJob("alloc-slurm", Path("/shared"), "python", None, 300.0, 30.0)
OWN, KEPT = JOB.job_names


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Slurm(JOB)


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_command_that_ends_before_it_reads_its_script_is_heard(slurm: Slurm, tmp_path: Path) -> None:
    command(tmp_path, "sbatch", "echo 'sbatch: error: no such account' >&2; exit 1")
    command(tmp_path, "squeue", "exit 0")

    async def ask() -> None:
        for _ in range(10):
            with pytest.raises(SlurmError, match="sbatch: no such account"):
                await slurm.submit(is_kept=False)
            listing = asyncio.ensure_future(slurm.jobs())
            await asyncio.sleep(0)
            # The loop is busy until the command has ended.
            time.sleep(0.02)  # noqa: ASYNC251
            assert await listing == {}

    # The loop of the command: asyncio's own forgives what this one does not.
    uvloop.run(ask())


async def test_job_gets_the_script_on_stdin(slurm: Slurm, tmp_path: Path) -> None:
    command(tmp_path, "sbatch", f"cat > {tmp_path}/script; echo '17;cluster'")

    assert await slurm.submit(is_kept=True) == "17"
    assert (tmp_path / "script").read_text() == JOB.script(is_kept=True)


async def test_states_of_jobs_are_read(slurm: Slurm, tmp_path: Path) -> None:
    lines = [
        f"1|{OWN}|PENDING|Resources",
        f"2|{KEPT}|RUNNING|None",
        f"3|{OWN}|COMPLETED|None",
        f"4|{OWN}|FAILED|NonZeroExitCode",
        f"5|{OWN}|CONFIGURING|None",
        f"6|{OWN}|A_NEW_STATE|None",
    ]
    command(tmp_path, "squeue", "cat <<END\n" + "\n".join(lines) + "\nEND")

    assert await slurm.jobs() == {
        JobId("1"): JobListed("pending", False, "PENDING (Resources)"),
        JobId("2"): JobListed("running", True, "RUNNING"),
        JobId("3"): JobListed("ended", False, "COMPLETED", is_well=True),
        JobId("4"): JobListed("ended", False, "FAILED (NonZeroExitCode)"),
        JobId("5"): JobListed("pending", False, "CONFIGURING"),
        JobId("6"): JobListed("running", False, "A_NEW_STATE"),
    }


async def test_command_that_hangs_ends_with_the_one_who_waits(slurm: Slurm, tmp_path: Path) -> None:
    command(tmp_path, "squeue", f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    asking = asyncio.ensure_future(slurm.jobs())
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():  # noqa: ASYNC110
        await asyncio.sleep(0.01)

    asking.cancel()
    await asyncio.wait([asking])

    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid)
