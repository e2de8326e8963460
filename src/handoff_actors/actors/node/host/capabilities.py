"""The resources that this machine, or the container that this process is in, offers."""

import os

from handoff_actors.actors.node.host.cgroups import cpu_quota
from handoff_actors.actors.node.host.memory import machine_memory
from handoff_actors.actors.node.host.slurm import SlurmTask, shared_among_tasks, slurm_task
from handoff_actors.ids import Resources


def own_capabilities(task: SlurmTask | None = None) -> Resources:
    """The cores that this process may use, and its memory in MB: the container's, where that has less than the machine.

    In a job of Slurm no more than what it has given to this task, and its GPUs; `task` is what is known of that, by default from
    variables alone.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine = {"cpu": _within(float(cores), cpu_quota()), "memory": float(round(_memory_nbytes() / 1e6))}
    task = task or slurm_task(ask=lambda _: "")
    if task is None:
        return machine
    given = {"memory": shared_among_tasks(machine["memory"]), **task.capabilities}
    return given | {
        resource: min(amount, given.get(resource, amount)) for resource, amount in machine.items()
    }


def _within(cores: float, quota: float | None) -> float:
    # Functions claim one core unless they say otherwise: with less than one the node could run none of them, however slowly.
    return cores if quota is None else max(1.0, min(cores, round(quota, 2)))


def _memory_nbytes() -> int:
    _, total = machine_memory()
    return total or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
