"""The job that runs now, for runs that its function begins (see `core.run.nested_run`), and for `handoff.current()`."""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from handoff_actors.workers.protocol import JobKey

if TYPE_CHECKING:
    from handoff_actors.workers.child.reports import JobReports


class WorkerJobs(NamedTuple):
    """A worker's answers to the code of its jobs."""

    #: Gives the job of the code that calls it; None while there is none.
    running: Callable[[], JobKey | None]
    #: Tells whether a job has not ended yet.
    is_running: Callable[[JobKey], bool]
    #: Tells whether the app of the code that calls it wants emitted values.
    sends_values: Callable[[], bool]
    #: Gives the number of attempts at other functions that had the index of the running one before it.
    attempts_before: Callable[[], int]
    reports: "JobReports"
    pid: int


class _ThisWorker:
    """The worker that this process is, if it is one."""

    jobs: WorkerJobs | None = None
    #: The thread of the event loop that runs coroutines; None in a sync worker.
    loop_thread: int | None = None


def running_job() -> JobKey | None:
    """The job that the calling code belongs to; None outside of workers, and in processes that functions have started anew."""
    return None if _ThisWorker.jobs is None else _ThisWorker.jobs.running()


def worker_jobs() -> WorkerJobs | None:
    """Give the answers of this worker to the code of its jobs; None outside of workers."""
    return _ThisWorker.jobs


def is_worker() -> bool:
    """True in a worker, and in processes that its functions have forked."""
    return _ThisWorker.jobs is not None


def is_beside_coroutines() -> bool:
    """True in a thread that a coroutine has started, and may wait for without leaving the event loop to others."""
    return _ThisWorker.loop_thread not in {None, threading.get_ident()}


def answer_with(
    running: Callable[[], JobKey | None],
    is_running: Callable[[JobKey], bool],
    sends_values: Callable[[], bool],
    attempts_before: Callable[[], int],
    reports: "JobReports",
    *,
    runs_coroutines: bool = False,
) -> None:
    """Be a worker whose running job `running` gives, in its main thread."""
    _ThisWorker.jobs = WorkerJobs(running, is_running, sends_values, attempts_before, reports, os.getpid())
    _ThisWorker.loop_thread = threading.get_ident() if runs_coroutines else None
