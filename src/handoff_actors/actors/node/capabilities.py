"""The resources that this machine offers."""

import os

from handoff_actors.ids import Resources


def own_capabilities() -> Resources:
    """The cores that this process may use, and the machine's memory in MB."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    return {"cpu": float(cores), "memory": float(round(memory))}
