"""`handoff alloc slurm` with a real Slurm. From no node to a run and back to none: tests/docs/test_slurm.py."""

from collections.abc import Iterator

import pytest

from tests.deploy.slurm.allocations import FAST, HANDOFF, WHOLE, allocation
from tests.slurm import SlurmCluster, why_not

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(why_not()), reason=why_not())]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """Two machines of four cores."""
    with SlurmCluster() as made:
        yield made


def test_jobs_of_an_earlier_life_are_found_again_and_ended_with_the_command(cluster: SlurmCluster) -> None:
    options = ("--nodes", "2", *FAST, *WHOLE, "--nodelist=n1")
    with allocation(cluster, "kept", *options) as made:
        made.until(lambda: "job joined" in made.said())
        made.process.kill()
        made.process.wait()
        jobs = cluster.jobs()
        assert sorted(jobs.values()) == ["PENDING", "RUNNING"]

        made.start()

        made.until(lambda: made.said().count("job found") == 2)
        made.until(lambda: made.said().count("job joined") == 2)
        assert cluster.jobs() == jobs
        made.end()
        made.until(lambda: not cluster.jobs())


def test_job_without_a_node_is_said_with_the_end_of_its_log(cluster: SlurmCluster) -> None:
    setup = ("--setup", "echo no such module >&2; exit 3")
    with allocation(cluster, "broken", "--nodes", "1", *setup, *FAST) as made:
        made.until(lambda: "job ended before its node joined" in made.said())

        assert "state='FAILED (NonZeroExitCode)'" in made.said()
        assert "said='no such module'" in made.said()


def test_what_sbatch_would_refuse_is_the_error_of_the_command(cluster: SlurmCluster) -> None:
    directory = cluster.directory / "none"

    refused = cluster.run(*HANDOFF, "alloc", "slurm", "--join-file", str(directory), "--", "-p", "nowhere")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "Error: sbatch: invalid partition specified: nowhere; allocation failure: Invalid partition name specified\n"
    )
    assert not directory.exists()
