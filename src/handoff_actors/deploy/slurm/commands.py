"""The commands of Slurm: jobs are submitted, listed and cancelled by sbatch, squeue and scancel."""

import asyncio
import os
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import Final

from handoff_actors.core.cluster.autoscaler import JobId, JobListed, JobPhase
from handoff_actors.deploy.slurm.jobs import NodeJob
from handoff_actors.errors import HandoffError

#: A controller that is busy may take this long to answer.
_ANSWERS_WITHIN_S: Final = 60.0
_PENDING: Final = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_ENDED: Final = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
        "REVOKED", "TIMEOUT",
    }
)  # fmt: skip


class SlurmError(HandoffError):
    """A command of Slurm has failed."""

    def __init__(self, command: str, said: str) -> None:
        super().__init__(f"{command}: {said}")
        #: The output, on one line, without the name of the command.
        self.said = said


class Slurm:
    """The jobs of one member."""

    def __init__(self, job: NodeJob) -> None:
        self._job = job

    async def dry_run(self) -> str:
        """Have Slurm check a job without submitting it. Returns its answer. Raises SlurmError if it would refuse the job."""
        command = ["sbatch", "--test-only", *self._job.options(is_kept=False)]
        _, said = await _run(command, self._job.script(is_kept=False))
        return said

    async def submit(self, *, is_kept: bool) -> JobId:
        """Submit a job. Raises SlurmError."""
        command = ["sbatch", "--parsable", *self._job.options(is_kept=is_kept)]
        output, _ = await _run(command, self._job.script(is_kept=is_kept))
        return JobId(output.strip().partition(";")[0])

    async def jobs(self) -> dict[JobId, JobListed]:
        """List the jobs of this member, those that have ended lately included. Raises SlurmError."""
        names = ",".join(self._job.job_names)
        own = f"--user={os.geteuid()}"
        command = ["squeue", "--noheader", own, f"--name={names}", "--states=all", "--format=%i|%j|%T|%r"]
        output, _ = await _run(command)
        return dict(_listed(line, self._job.job_names[True]) for line in output.splitlines() if line)

    async def cancel(self, jobs: Sequence[JobId]) -> None:
        """Cancel jobs that are pending; those that have begun meanwhile end at once. Raises SlurmError."""
        await _run(["scancel", *jobs])

    async def drain(self, jobs: Sequence[JobId]) -> None:
        """Have the nodes of jobs drain and end. Raises SlurmError."""
        await _run(["scancel", "--batch", "--signal=TERM", *jobs])

    async def show_node(self, name: str) -> str:
        """Describe a compute node. Raises SlurmError."""
        output, _ = await _run(["scontrol", "--oneliner", "show", "node", name])
        return output


def _listed(line: str, kept: str) -> tuple[JobId, JobListed]:
    job, name, state, reason = line.split("|", 3)
    text = state if reason in {"None", ""} else f"{state} ({reason})"
    return JobId(job), JobListed(_phase(state), name == kept, text, state == "COMPLETED")


def _phase(state: str) -> JobPhase:
    if state in _ENDED:
        return "ended"
    # States of versions to come are rather those of jobs that are there.
    return "pending" if state in _PENDING else "running"


def _environment() -> dict[str, str]:
    """The environment without the variables of a job in which this process may run: they would be defaults of its jobs."""
    return {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("SLURM_") or name == "SLURM_CONF"
    }


async def _run(command: Sequence[str], script: str = "") -> tuple[str, str]:
    """Run a command. Returns its output and what it said on stderr. Raises SlurmError."""
    name = command[0]
    process = await _started(command, script)
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            output, said = await process.communicate()
    except TimeoutError as error:
        raise SlurmError(name, f"no answer within {_ANSWERS_WITHIN_S:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = _on_one_line(said.decode(errors="replace"), name)
    if process.returncode:
        raise SlurmError(name, text or f"exit status {process.returncode}")
    return output.decode(errors="replace"), text


async def _started(command: Sequence[str], script: str) -> asyncio.subprocess.Process:
    name = command[0]
    try:
        # Not a pipe, which could not be written to any more once the command has ended without reading it.
        with TemporaryFile() as stdin:
            stdin.write(script.encode())
            stdin.seek(0)
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=stdin,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(),
                # A Ctrl-C at the terminal is for this process alone.
                start_new_session=True,
            )
    except FileNotFoundError as error:
        raise SlurmError(
            name, "not found here. Run this where jobs may be submitted, on a login node"
        ) from error
    except OSError as error:
        raise SlurmError(name, error.strerror or str(error)) from error


def _on_one_line(text: str, command: str) -> str:
    lines = (line.removeprefix(f"{command}: ").removeprefix("error: ") for line in text.splitlines())
    return "; ".join(line.strip() for line in lines if line.strip())
