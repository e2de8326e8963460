"""The Slurm cluster that tests have is a real one, and leaves nothing behind."""

import pytest

from tests.slurm import SlurmCluster

pytestmark = pytest.mark.processes


def test_a_job_runs_on_every_machine_and_ends(slurm: SlurmCluster) -> None:
    names = slurm.ask("srun", "--nodes=2", "--ntasks=2", "printenv", "SLURMD_NODENAME")

    assert sorted(names.split()) == ["n1", "n2"]
    slurm.wait_until(lambda: not slurm.jobs())


def test_nothing_is_left_of_a_cluster_whose_job_still_runs(slurm: SlurmCluster) -> None:
    slurm.ask("sbatch", "--wrap", "trap '' TERM; sleep 1000")
    slurm.wait_until(lambda: any("sleep" in process.name() for process in slurm.processes()))

    slurm.close()

    assert slurm.processes() == []
    assert not slurm.directory.exists()
