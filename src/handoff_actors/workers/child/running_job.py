"""The job that runs now, for runs that its function begins: see `core.run.nested_run`."""

from collections.abc import Callable

from handoff_actors.workers.protocol import JobKey


class _ThisWorker:
    """The worker that this process is, if it is one."""

    #: Gives the job of the code that calls it; None while there is none.
    ask: Callable[[], JobKey | None] | None = None


def running_job() -> JobKey | None:
    """The job that the calling code belongs to; None outside of workers, and in processes that functions have started anew."""
    ask = _ThisWorker.ask
    return None if ask is None else ask()


def is_worker() -> bool:
    """True in a worker, and in processes that its functions have forked."""
    return _ThisWorker.ask is not None


def answer_with(ask: Callable[[], JobKey | None]) -> None:
    """Be a worker whose running job `ask` gives."""
    _ThisWorker.ask = ask
