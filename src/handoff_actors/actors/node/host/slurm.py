"""The part of a machine that Slurm has given to the task that this process is.

Its variables count even where nothing holds tasks to them: many clusters have no control groups for cores or memory, and then a
node that offers the whole machine takes what belongs to other users' jobs. Facts that they lack are asked of `scontrol`, once.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from handoff_actors.ids import Resources

_MEBIBYTE_MB: Final = 1.048576
_ASKED_WITHIN_S: Final = 10.0
_UNITS: Final = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
#: As Slurm writes it: [days-][[hours:]minutes:]seconds.
_SPAN: Final = re.compile(r"(?:(?P<days>\d+)-)?(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):)?(?P<seconds>\d+)")
_GPUS: Final = "CUDA_VISIBLE_DEVICES"

#: Returns the text of `scontrol show job`, "" if it can't be had.
AskJob = Callable[[str], str]


class SlurmTask(Struct, frozen=True):
    """One task of a job on a compute node."""

    #: Unique among all tasks of the cluster that run or have run lately.
    name: str
    #: Cores, memory in MB as far as a limit is known, and GPUs.
    capabilities: Resources
    #: Seconds until Slurm ends the job; None: no limit, or unknown.
    ends_in_s: float | None
    #: The devices that are this task's own, as CUDA_VISIBLE_DEVICES lists them; None: as it is.
    devices: str | None = None


def is_slurm_task(variables: Mapping[str, str] = os.environ) -> bool:
    """True if this process runs on a compute node, in a job. A shell of `salloc` on the login node does not."""
    return "SLURM_JOB_ID" in variables and "SLURMD_NODENAME" in variables


def slurm_task(
    variables: Mapping[str, str] = os.environ,
    ask: AskJob | None = None,
    clock: Callable[[], float] = time.time,
) -> SlurmTask | None:
    """Return the task that this process is, with what Slurm has given it; None if it is none."""
    if not is_slurm_task(variables):
        return None
    known_end = variables.get("SLURM_JOB_END_TIME", "")
    memory = _memory_of_variables(variables)
    job = ""
    if memory is None or not known_end.isdecimal():
        job = (ask or _ask_scontrol)(variables["SLURM_JOB_ID"])
    if memory is None:
        memory = _memory_of_job(job, variables)
    tasks = _tasks_here(variables)
    devices = _devices(variables, tasks)
    capabilities: Resources = {}
    if cpus := _cpus(variables, tasks):
        capabilities["cpu"] = cpus
    if memory is not None:
        capabilities["memory"] = float(round(memory / tasks * _MEBIBYTE_MB))
    if devices is not None:
        capabilities["gpu"] = float(len(devices))
    ends_in_s = float(known_end) - clock() if known_end.isdecimal() else _left_of_job(job)
    is_shared = devices is not None and ",".join(devices) != variables.get(_GPUS)
    own = ",".join(devices) if devices is not None and is_shared else None
    return SlurmTask(_name(variables), capabilities, ends_in_s, own)


def shared_among_tasks(memory_mb: float, variables: Mapping[str, str] = os.environ) -> float:
    """The share of this task in the memory of the machine, where Slurm has set no limit."""
    return float(round(memory_mb / _tasks_here(variables))) if is_slurm_task(variables) else memory_mb


def show_own_devices(task: SlurmTask) -> None:
    """Leave only the task's own GPUs visible, to this process and its children."""
    if task.devices is not None:
        os.environ[_GPUS] = task.devices


def _name(variables: Mapping[str, str]) -> str:
    """Name the node by machine and job, as `squeue` shows them; by step and task, since a job may have several on a machine."""
    job = f"{variables['SLURMD_NODENAME']}-{variables['SLURM_JOB_ID']}"
    # A requeued job has the same id, and members may still believe in the nodes of its earlier life.
    restarts = variables.get("SLURM_RESTART_COUNT", "0")
    again = "" if restarts == "0" else f"r{restarts}"
    if _is_in_step(variables):
        return f"{job}{again}.{variables['SLURM_STEP_ID']}.{variables.get('SLURM_PROCID', '0')}"
    # A script may start several.
    return f"{job}{again}.{os.getpid()}"


def _is_in_step(variables: Mapping[str, str]) -> bool:
    return "SLURM_STEP_ID" in variables


def _tasks_here(variables: Mapping[str, str]) -> int:
    """The number of tasks of the step on this machine. A batch script has the machine's part of the job for itself."""
    if not _is_in_step(variables):
        return 1
    counts: list[int] = []
    for part in variables.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found is not None:
            counts += [int(found[1])] * int(found[2] or 1)
    number = _number(variables, "SLURM_NODEID") or 0
    return max(1, counts[number]) if number < len(counts) else 1


def _cpus(variables: Mapping[str, str], tasks: int) -> float | None:
    of_task = _number(variables, "SLURM_CPUS_PER_TASK") if _is_in_step(variables) else None
    here = _number(variables, "SLURM_CPUS_ON_NODE")
    if of_task is not None:
        return float(of_task)
    return None if here is None else float(max(1, here // tasks))


def _memory_of_variables(variables: Mapping[str, str]) -> float | None:
    """The MiB of the job on this machine. 0 stands for all that it has."""
    here = _number(variables, "SLURM_MEM_PER_NODE")
    if here is not None:
        return float(here) or None
    each = _number(variables, "SLURM_MEM_PER_CPU")
    cpus = _number(variables, "SLURM_CPUS_ON_NODE")
    return float(each * cpus) or None if each is not None and cpus is not None else None


def _memory_of_job(job: str, variables: Mapping[str, str]) -> float | None:
    found = re.search(r"\bMinMemory(Node|CPU)=(\d+(?:\.\d+)?)([KMGT]?)", job)
    if found is None:
        return None
    amount = float(found[2]) * _UNITS[found[3] or "M"]
    factor = 1 if found[1] == "Node" else _number(variables, "SLURM_CPUS_ON_NODE") or 1
    return amount * factor or None


def _left_of_job(job: str) -> float | None:
    limit, run = (re.search(rf"\b{name}=(\S+)", job) for name in ("TimeLimit", "RunTime"))
    limit_s, run_s = _seconds(limit), _seconds(run)
    return None if limit_s is None or run_s is None else max(0.0, limit_s - run_s)


def _seconds(found: re.Match[str] | None) -> float | None:
    span = None if found is None else _SPAN.fullmatch(found[1])
    if span is None:
        # UNLIMITED, Partition_Limit, INVALID.
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in span.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _devices(variables: Mapping[str, str], tasks: int) -> list[str] | None:
    """The GPUs of this task, by their names in CUDA_VISIBLE_DEVICES; None where Slurm has given it none."""
    step = variables.get("SLURM_STEP_GPUS") or variables.get("SLURM_JOB_GPUS")
    if not step:
        return None
    names = [name for name in variables.get(_GPUS, "").split(",") if name.strip()]
    if tasks == 1 or "SLURMD_TRES_BIND" in variables or "SLURM_TRES_PER_TASK" in variables:
        return names
    # All tasks see the same ones, and each node would offer them.
    return names[_number(variables, "SLURM_LOCALID") or 0 :: tasks]


def _number(variables: Mapping[str, str], name: str) -> int | None:
    text = variables.get(name, "").strip()
    return int(text) if text.isdecimal() else None


def _ask_scontrol(job: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the id is Slurm's own
            ["scontrol", "--oneliner", "show", "job", job],  # noqa: S607 - where the site has it
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASKED_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
