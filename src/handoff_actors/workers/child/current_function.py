"""The function that the calling code belongs to: what it is, and how it reports while it runs."""

import operator
from math import isfinite
from typing import Any, Final, SupportsFloat, SupportsIndex

from handoff_actors.errors import HandoffError
from handoff_actors.text import repr_of
from handoff_actors.workers.child.running_job import WorkerJobs, worker_jobs
from handoff_actors.workers.child.surroundings import function_id_of, node_name
from handoff_actors.workers.protocol import JobKey

#: Whole numbers beyond it are reported as floats: MessagePack has none.
_MOST_EXACT: Final = 2**63


class CurrentFunction:
    """A function that runs, as `handoff.current()` gives it to the function's own code.

    It may be handed to threads that the function starts. Once the function has ended it can't report anything any more.
    """

    #: The run, as `handoff top` names it: 16 hex digits.
    run: str
    #: The number of times that the function has been sent to a node, this one included. The first attempt is 1.
    attempt: int
    #: The name of the node.
    node: str
    #: The process id of the worker.
    worker: int

    def __init__(self, key: JobKey, jobs: WorkerJobs) -> None:
        self._key = key
        self._jobs = jobs
        self._sends_values = jobs.sends_values()
        self._id: str | int | None = None
        run, _, attempt = key
        self.attempt = attempt - jobs.attempts_before()
        self.run = f"{run:016x}"
        self.node = node_name()
        self.worker = jobs.pid

    @property
    def id(self) -> str | int:
        """The function's id in its DAG; the repr of one that is neither a string nor an integer.

        The node asks the app for it when it is first read, and the calling thread waits for a message there and back.

        :raises HandoffError: The app does not answer within 10 seconds, or the function has ended.
        """
        if self._id is None:
            self._check_runs()
            self._id = function_id_of(self._key)
        if self._id is None:
            raise HandoffError(
                f"the id of this function can't be had: neither node {self.node!r} nor the app of run {self.run} answers"
            )
        return self._id

    def set_progress(
        self, done: SupportsFloat | SupportsIndex, total: SupportsFloat | SupportsIndex | None = None
    ) -> None:
        """Tell whoever watches the run how far the function is, instead of what it told before.

        It may be called as often as you like. About ten times a second at most, the latest is sent: to `on_event`, as
        `events.FunctionProgressed`, to the progress bar, and to `handoff top`. The last one before the function ends is always
        sent, ahead of the event of that end. An attempt that follows begins without any progress.

        :param done: Amount that is done, in a unit of your own, such as rows or epochs; 0 or more.
        :param total: Amount that will have been done in the end, in the same unit; None: unknown.
        :raises TypeError: One of them is no number.
        :raises ValueError: One of them is negative, infinite or not a number.
        :raises HandoffError: The function has ended.
        """
        self._check_runs()
        of = None if total is None else _amount("total", total)
        self._jobs.reports.set_progress(self._key, _amount("done", done), of)

    def emit(self, value: Any) -> None:
        """Send a value to whoever watches the run: to `on_event`, as `events.ValueEmitted`.

        Values arrive in the order in which one thread emits them, and before the event of the function's end. None is lost,
        also where the attempt fails later and another follows: each event has the number of its attempt. A function that
        emits more than its worker may send, which is 4 MiB at once and 1 MiB a second, waits here; a coroutine function's
        event loop waits as well. In a run without `on_event` nothing is sent.

        :param value: Any value that can be pickled, of at most 1 MiB when encoded.
        :raises SerializationError: The value can't be pickled.
        :raises ValueError: It is too large.
        :raises HandoffError: The function has ended.
        """
        self._check_runs()
        if self._sends_values:
            self._jobs.reports.emit(self._key, value)

    def __repr__(self) -> str:
        _, index, _ = self._key
        name = f"number {index}" if self._id is None else repr_of(self._id)
        return f"<function {name} of run {self.run}, attempt {self.attempt}, on node {self.node!r}>"

    def _check_runs(self) -> None:
        if not self._jobs.is_running(self._key):
            raise HandoffError(
                f"{self!r} has ended, and can't report any more: wait in the function for the threads and tasks that report for it"
            )


def current() -> CurrentFunction:
    """Return the function that this code runs in: its id, attempt, node, worker and run, and its ways to report.

    It works in functions and coroutine functions of a DAG and in what they call; in threads, too, where the function has been
    started with `asyncio.to_thread` or runs in a thread itself. Other threads of a coroutine function need the object.

    :raises HandoffError: The code does not run in a function of a DAG.
    """
    jobs = worker_jobs()
    key = None if jobs is None else jobs.running()
    if jobs is None:
        raise HandoffError(
            "current() was called outside of any function: call it in a function that a DAG runs on a node, not in the app,"
            " nor in a process that the function starts anew"
        )
    if key is None:
        raise HandoffError(
            "current() was called in a worker, but in no function: a thread that a coroutine function starts has no context of"
            " its own, so start it with asyncio.to_thread(), or call current() before and hand the object over"
        )
    return CurrentFunction(key, jobs)


def _amount(name: str, given: object) -> float:
    number: float
    try:
        number = operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        try:
            number = float(given)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}={repr_of(given)}: it must be a number") from error
    if not (number >= 0 and isfinite(number)):
        raise ValueError(f"{name}={repr_of(given)}: it must be a finite number of 0 or more")
    return number if number < _MOST_EXACT else float(number)
