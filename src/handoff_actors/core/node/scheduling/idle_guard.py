"""The choice of workers to retire because something that a function has left behind runs on in them.

Once a function has ended its claim is released, so a thread or a child process of it that goes on computing takes a core
that others have claimed. That shows in a worker that has nothing to do: it, and the processes that it has started, use
next to no CPU time then.
"""

from collections.abc import Iterable

from handoff_actors.core.node.events import WorkersSampled
from handoff_actors.core.node.scheduling.worker_state import WorkerState

#: Workers are judged by the time between two samples that are at least so many seconds apart,
WINDOW_S = 1.0
#: and retired if they used more than this many cores in it.
MOST_CORES = 0.5
#: Between this and that they are judged again: on a busy machine, what computes gets a part of a core only.
QUIET_CORES = 0.05


def restless(workers: Iterable[WorkerState], sample: WorkersSampled) -> list[tuple[WorkerState, str]]:
    """The workers to retire, each with the reason."""
    found: list[tuple[WorkerState, str]] = []
    for state in workers:
        cpu_s = sample.cpu_s.get(state.worker)
        if cpu_s is None or not is_idle_after_work(state) or sample.began_at < state.last_message_at:
            continue
        began_at, cpu_before_s = state.idle_sample
        if began_at < state.last_message_at:
            state.idle_sample = sample.began_at, cpu_s
            continue
        seconds = sample.began_at - began_at
        if seconds < WINDOW_S:
            continue
        state.idle_sample = sample.began_at, cpu_s
        cores = (cpu_s - cpu_before_s) / seconds
        if not QUIET_CORES < cores <= MOST_CORES:
            state.quiet_at = sample.began_at
        if cores > MOST_CORES:
            found.append((state, _reason(cores, seconds)))
    return found


def is_idle_after_work(state: WorkerState) -> bool:
    """True if a worker has run functions and has nothing to do now."""
    return state.latest is not None and not state.held and state.verdict is None


def is_to_be_judged(state: WorkerState) -> bool:
    """True if it is not known yet whether an idle worker is quiet."""
    return is_idle_after_work(state) and state.quiet_at < state.last_message_at


def _reason(cores: float, seconds: float) -> str:
    return (
        f"a thread or a process that this function, or one before it on the same worker, has left behind kept "
        f"{cores:.1f} cores busy for {seconds:.1f} s while the worker had nothing to do; end such threads and processes "
        "before the function returns"
    )
