import subprocess
from pathlib import Path

import pytest

from handoff_actors.deploy.slurm.jobs import NodeJob, check_sbatch_options, job_of
from handoff_actors.errors import HandoffError

JOB = NodeJob("alloc-slurm", Path("/shared/a dir"), "/opt/my env/python", 3600.0, 300.0, 30.0)


def test_options_of_the_user_come_after_those_that_they_may_replace() -> None:
    job = NodeJob("n", Path("/d"), "python", 90.0, 300.0, 30.0, sbatch=["-p", "gpu", "--output=x.log"])

    options = job.options(is_kept=False)

    assert options[:3] == ["--output=/d/logs/%j.log", "--no-requeue", "--time=2"]
    assert options[3:6] == ["-p", "gpu", "--output=x.log"]
    assert options[6:] == [f"--job-name={job.job_names[0]}", "--nodes=1"]


def test_partition_decides_on_the_time_if_none_is_named() -> None:
    job = NodeJob("n", Path("/d"), "python", None, 300.0, 30.0)

    assert not any(option.startswith("--time") for option in job.options(is_kept=False))


def test_jobs_of_another_directory_or_member_are_others() -> None:
    same, other = Path("/d"), Path("/e")
    names = {
        NodeJob(name, path, "python", None, 1.0, 1.0).job_names
        for name, path in [("a", same), ("a", other), ("b", same)]
    }

    assert len({name for pair in names for name in pair}) == 6


def test_script_is_for_any_shell_whatever_is_in_its_paths() -> None:
    script = JOB.script(is_kept=False)

    checked = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "'/opt/my env/python'" in script
    assert "'/shared/a dir'" in script
    assert "--idle 300" in script


def test_kept_nodes_do_not_end_when_they_are_idle() -> None:
    assert "--idle" not in JOB.script(is_kept=True)


def test_setup_comes_before_the_node() -> None:
    job = NodeJob("n", Path("/d"), "python", None, 1.0, 1.0, setup=["module load gcc", "ulimit -n 9"])

    assert job.script(is_kept=True).splitlines()[:3] == ["#!/bin/sh", "module load gcc", "ulimit -n 9"]


@pytest.mark.parametrize(
    ("name", "job"),
    [("n1-job17", "17"), ("a-job1-job22", "22"), ("n1", None), ("n1-job", None), ("n1-job17-2", None)],
)
def test_node_is_known_by_its_job(name: str, job: str | None) -> None:
    assert job_of(name) == job


@pytest.mark.parametrize(
    "option", ["-N2", "-N", "--nodes=3", "--time", "-t10", "--array=1-9", "--wrap=x", "-M"]
)
def test_options_that_this_command_chooses_are_refused(option: str) -> None:
    with pytest.raises(HandoffError, match="sbatch can't be given"):
        check_sbatch_options(["-p", "gpu", option])


def test_other_options_are_the_users() -> None:
    check_sbatch_options(
        ["-p", "gpu", "-n4", "--ntasks=4", "--mem=4G", "--nodelist=n1", "--time-min=5", "--exclusive"]
    )
