"""What Slurm has given to a task, by its variables and its answers as version 22.05 writes them."""

import pytest

from handoff_actors.actors.node.host.containers import SLURM_DRAIN_S, usual_drain_s
from handoff_actors.actors.node.host.slurm import SlurmTask, is_slurm_task, slurm_task

#: Of `srun -N1 -n2 -c2`.
STEP = {
    "SLURM_JOB_ID": "17",
    "SLURMD_NODENAME": "n1",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "1,2(x2)",
    "SLURM_CPUS_ON_NODE": "4",
    "SLURM_CPUS_PER_TASK": "2",
}
#: Of a script, whose tasks are yet to be started.
BATCH = {
    name: text for name, text in STEP.items() if name not in {"SLURM_STEP_ID", "SLURM_STEP_TASKS_PER_NODE"}
}
JOB = "JobId=17 JobName=x RunTime=00:10:00 TimeLimit=01:30:00 TimeMin=N/A MinCPUsNode=1 MinMemoryNode={} MinTmpDiskNode=0"


def told(answer: str, **variables: str) -> SlurmTask:
    task = slurm_task(STEP | variables, lambda _: answer)
    assert task is not None
    return task


def never(_: str) -> str:
    raise AssertionError("everything was known")


@pytest.mark.parametrize("missing", ["SLURM_JOB_ID", "SLURMD_NODENAME"])
def test_neither_a_login_node_nor_a_shell_of_salloc_there_is_a_task(missing: str) -> None:
    variables = {name: text for name, text in STEP.items() if name != missing}

    assert not is_slurm_task(variables)
    assert slurm_task(variables, never) is None


def test_a_task_offers_its_own_cores_and_its_share_of_the_memory() -> None:
    assert told(JOB.format("4000M")).capabilities == {"cpu": 2.0, "memory": 2097.0}


def test_tasks_without_cores_of_their_own_share_those_of_the_machine() -> None:
    variables = {name: text for name, text in STEP.items() if name != "SLURM_CPUS_PER_TASK"}

    task = slurm_task(variables | {"SLURM_CPUS_ON_NODE": "5"}, lambda _: "")

    assert task is not None
    assert task.capabilities == {"cpu": 2.0}


def test_a_script_has_the_machines_part_of_the_job_for_itself() -> None:
    task = slurm_task(BATCH | {"SLURM_MEM_PER_NODE": "1000"}, lambda _: "")

    assert task is not None
    assert task.capabilities == {"cpu": 4.0, "memory": 1049.0}


@pytest.mark.parametrize(
    ("variables", "answer", "memory"),
    [
        ({"SLURM_MEM_PER_CPU": "100"}, "", 210.0),
        ({"SLURM_MEM_PER_NODE": "1000"}, JOB.format("5M"), 524.0),
        ({}, JOB.format("2G"), 1074.0),
        ({}, JOB.replace("MemoryNode", "MemoryCPU").format("1.5G"), 3221.0),
        ({"SLURM_MEM_PER_NODE": "0"}, JOB.format("0"), None),
        ({}, JOB.format("0"), None),
        ({}, "", None),
    ],
)
def test_memory_is_that_of_the_variables_or_else_of_the_job(
    variables: dict[str, str], answer: str, memory: float | None
) -> None:
    assert told(answer, **variables).capabilities.get("memory") == memory


@pytest.mark.parametrize(
    ("limit", "run", "left_s"),
    [
        ("01:30:00", "00:10:00", 4800.0),
        ("2-00:00:00", "1-23:59:50", 10.0),
        ("00:01:00", "00:01:20", 0.0),
        ("UNLIMITED", "00:10:00", None),
        ("INVALID", "INVALID", None),
    ],
)
def test_a_job_ends_when_its_time_is_over(limit: str, run: str, left_s: float | None) -> None:
    assert told(f"RunTime={run} TimeLimit={limit}").ends_in_s == left_s


def test_slurm_is_not_asked_where_its_variables_say_everything() -> None:
    variables = STEP | {"SLURM_MEM_PER_NODE": "1000", "SLURM_JOB_END_TIME": "1000060"}

    task = slurm_task(variables, never, lambda: 1_000_000.0)

    assert task is not None
    assert task.ends_in_s == 60.0


def test_names_are_unique_among_tasks_steps_and_lives_of_jobs() -> None:
    assert told("").name == "n1-17.0.3"
    assert told("", SLURM_RESTART_COUNT="0").name == "n1-17.0.3"
    assert told("", SLURM_RESTART_COUNT="2").name == "n1-17r2.0.3"
    script = slurm_task(BATCH, lambda _: "")
    assert script is not None
    assert script.name.startswith("n1-17.")


def test_tasks_that_see_the_same_gpus_share_them() -> None:
    seen = {"SLURM_STEP_GPUS": "0,1,2", "CUDA_VISIBLE_DEVICES": "0,1,2"}

    second, first = told("", **seen), told("", **seen, SLURM_LOCALID="0")

    assert (first.devices, first.capabilities["gpu"]) == ("0,2", 2.0)
    assert (second.devices, second.capabilities["gpu"]) == ("1", 1.0)


def test_a_task_with_gpus_of_its_own_has_them_all() -> None:
    seen = {"SLURM_STEP_GPUS": "1", "CUDA_VISIBLE_DEVICES": "1", "SLURMD_TRES_BIND": "gpu:per_task:1"}

    assert (told("", **seen).devices, told("", **seen).capabilities["gpu"]) == (None, 1.0)


def test_gpus_that_a_script_has_are_all_its_own() -> None:
    task = slurm_task(BATCH | {"SLURM_JOB_GPUS": "2,3", "CUDA_VISIBLE_DEVICES": "0,1"}, lambda _: "")

    assert task is not None
    assert (task.devices, task.capabilities["gpu"]) == (None, 2.0)


def test_nodes_drain_before_slurm_kills_them() -> None:
    assert usual_drain_s(STEP) == SLURM_DRAIN_S
