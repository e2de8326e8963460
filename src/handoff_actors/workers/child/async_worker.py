"""An async worker: runs every job that it is given at once, each as a task of its event loop."""

import asyncio
import operator
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from time import perf_counter
from typing import Any, Final, NoReturn, assert_never

from handoff_actors.errors import SerializationError
from handoff_actors.ids import RunId
from handoff_actors.store.mappings import KEPT_S
from handoff_actors.text import encodable, shortened
from handoff_actors.wire.code.namespaces import enter
from handoff_actors.workers.child.evaluation import Evaluation, JobFailure, UserRaised, failure
from handoff_actors.workers.child.job_context import JobContext
from handoff_actors.workers.child.outbox import WorkerOutbox
from handoff_actors.workers.child.outcome import JobOutcome
from handoff_actors.workers.child.output import OutputCapture
from handoff_actors.workers.child.own_modules import ModulesInUse
from handoff_actors.workers.child.process.forks import ForkGuard, end_fork
from handoff_actors.workers.child.process.interrupts import take_interrupts
from handoff_actors.workers.child.process.state import (
    CodeCaller,
    ProcessState,
    damage_reason,
    isolate_decimals,
)
from handoff_actors.workers.child.process.subprocesses import Subprocesses
from handoff_actors.workers.child.records import send_records
from handoff_actors.workers.child.running_job import answer_with
from handoff_actors.workers.child.shared_object_cache import SharedObjectCache
from handoff_actors.workers.child.store import WorkerStore
from handoff_actors.workers.child.tail import Tail
from handoff_actors.workers.child.template import LoadedTemplate
from handoff_actors.workers.child.threads import Threads
from handoff_actors.workers.protocol import (
    JOB_ARGS,
    JOB_ATTEMPT,
    JOB_CONSTANTS,
    JOB_EARLIER,
    JOB_INDEX,
    JOB_TEMPLATE,
    READ_NBYTES,
    CancelJob,
    DefineModules,
    DefineTemplate,
    DropTemplates,
    ExposeDevices,
    GiveBackJobs,
    JobKey,
    JobRow,
    QueueJobs,
    StageRows,
    ToWorker,
    to_worker,
)
from handoff_actors.workers.rows import RowReader

#: Time in seconds that tasks which a job has left running may take to clean up when they are cancelled, as much as its node
#: gives to the job itself.
LEFT_TASKS_GRACE_S: Final = 0.5
#: It would take part in the parent's other coroutines.
AWAITED_IN_FORK: Final = "a process that a coroutine function has forked can't await: end it with os._exit(), or fork in a function without async"
#: Characters of their names that a reason shows.
MOST_OF_NAMES: Final = 200
#: The job of the current coroutine; None in one that makes an object for several.
_running: ContextVar[JobKey | None] = ContextVar("_running")
#: The same, where its output is sent to the app.
_printing: ContextVar[JobKey] = ContextVar("_printing")
#: True where the values that it emits are.
_is_sending_values: ContextVar[bool] = ContextVar("_is_sending_values")
#: The attempts at other functions that had its index before.
_attempts_before: ContextVar[int] = ContextVar("_attempts_before")


class AsyncWorker:
    """Runs jobs from `data` until that is closed."""

    def __init__(
        self, data: socket.socket, store: WorkerStore, inline_limit: int, tail: Tail, pipe: int
    ) -> None:
        self._data = data
        self._outbox = WorkerOutbox(data, tail)
        self._output = OutputCapture(pipe, tail, lambda: _printing.get(None), self._call_later)
        self._state = ProcessState()
        self._modules = ModulesInUse()
        warm = SharedObjectCache(self._made, self._modules, partial(_running.set, None))
        # Coroutines that run at the same time share the state.
        self._evaluation = Evaluation(
            store, inline_limit, _finish, _directly, _nothing, ForkGuard(self._abandon), warm
        )
        self._mappings = store.mappings
        self._job_context = JobContext(self._mappings, _nothing)
        self._reader = RowReader()
        self._subprocesses = Subprocesses(lambda: _running.get(None))
        self._loop = self._subprocesses.new_event_loop()
        self._loop.set_task_factory(self._make_task)
        Threads().limit(1)
        self._tasks: dict[JobKey, asyncio.Task[JobOutcome]] = {}
        #: Tasks that SIGINT has cancelled.
        self._interrupted: set[asyncio.Task[JobOutcome]] = set()
        #: A result is being encoded and stored, which SIGINT does not interrupt.
        self._is_keeping = False
        #: When the present jobs began, the first of which found none.
        self._busy_since = 0.0
        #: Tasks that the coroutines of jobs have created and that have not ended.
        self._created: dict[JobKey, set[asyncio.Task[Any]]] = {}
        self._is_spoiled = False

    def serve(self) -> NoReturn:
        """Run jobs; the process ends with its channel."""
        self._output.follow()
        send_records(self._output)
        answer_with(
            lambda: _running.get(None),
            self._tasks.__contains__,
            lambda: _is_sending_values.get(False),
            lambda: _attempts_before.get(0),
            self._output.reports,
            runs_coroutines=True,
        )
        self._loop.add_reader(self._data, self._read)
        take_interrupts(self._interrupt)
        # When the loop runs, with what it has changed itself.
        self._loop.call_soon(self._state.note)
        self._outbox.up()
        while True:
            # A user's own task that raises one of these stops the loop; it must not stop the other jobs.
            with suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call a function later; in any thread of a function's."""
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, call)

    def _abandon(self) -> None:
        """In a fork that a user's function made: the channel and the jobs are its parent's alone."""
        self._data.close()
        self._loop.call_soon(end_fork, RuntimeError(AWAITED_IN_FORK))

    def _interrupt(self) -> None:
        """Interrupt the coroutine that runs; while all wait, cancel the only one, as `asyncio.run` does. See `take_interrupts`."""
        if asyncio.current_task(self._loop) is not None:
            if not self._is_keeping:
                raise KeyboardInterrupt
        elif len(self._tasks) == 1:
            # For which of several it is meant cannot be told.
            [task] = self._tasks.values()
            self._interrupted.add(task)
            task.cancel()

    # --- Messages

    def _read(self) -> None:
        try:
            received = self._data.recv(READ_NBYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            os._exit(0)
        for row in self._reader.rows(received):
            self._take(to_worker(row))

    def _take(self, message: ToWorker) -> None:
        match message:
            case QueueJobs():
                self._expose_devices()
                templates = self._job_context.templates.of(message.run)
                for job in message.jobs:
                    self._start(message.run, templates, job)
            case CancelJob():
                task = self._tasks.get(message.key)
                if task is not None:
                    self._interrupted.discard(task)
                    task.cancel()
            case GiveBackJobs():
                # Every job starts when it arrives.
                self._outbox.recalled(())
                self._outbox.flush()
            case DefineTemplate() | DefineModules() | DropTemplates() | ExposeDevices():
                self._job_context.apply(message)
            case StageRows():
                raise AssertionError("stages run on sync workers")
            case _:
                assert_never(message)

    def _expose_devices(self) -> None:
        devices = self._job_context.devices
        if devices.announced != devices.visible:
            # Coroutines that run now may have changed the environment, too.
            with self._state.keeping():
                devices.expose(devices.announced)

    # --- Jobs

    def _start(self, run: RunId, templates: dict[int, LoadedTemplate], job: JobRow) -> None:
        key = (run, job[JOB_INDEX], job[JOB_ATTEMPT])
        if not self._tasks:
            self._busy_since = perf_counter()
        self._state.take_over_variables()
        task = self._loop.create_task(self._evaluate(key, templates, job))
        self._tasks[key] = task
        task.add_done_callback(partial(self._ended, key, templates[job[JOB_TEMPLATE]], perf_counter()))

    async def _evaluate(self, key: JobKey, templates: dict[int, LoadedTemplate], job: JobRow) -> JobOutcome:
        run, index, attempt = key
        _running.set(key)
        if templates[job[JOB_TEMPLATE]].sends_output:
            _printing.set(key)
        if templates[job[JOB_TEMPLATE]].sends_values:
            _is_sending_values.set(True)
        _attempts_before.set(job[JOB_EARLIER])
        isolate_decimals()
        modules = templates[job[JOB_TEMPLATE]].modules
        self._modules.enter(modules)
        result = await self._evaluation.call(
            run, templates, job[JOB_TEMPLATE], job[JOB_ARGS], job[JOB_CONSTANTS]
        )
        # Coroutines of other sessions have run meanwhile.
        enter(templates[job[JOB_TEMPLATE]].namespaces)
        self._modules.enter(modules)
        self._is_keeping = True
        try:
            return self._evaluation.keep(run, index, attempt, result, templates[job[JOB_TEMPLATE]])
        finally:
            self._is_keeping = False

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        creator = _running.get(None)
        if creator is not None:
            created = self._created.setdefault(creator, set())
            created.add(task)
            task.add_done_callback(created.discard)
        return task

    def _end_created(self, key: JobKey) -> None:
        """Cancel the tasks that a job has left running; a worker in which they go on is retired."""
        left = self._created.pop(key)
        for task in left:
            task.cancel()
        if left:
            self._loop.call_later(LEFT_TASKS_GRACE_S, self._look_at_left, key, left)

    def _look_at_left(self, key: JobKey, left: set[asyncio.Task[Any]]) -> None:
        more = self._created.pop(key, set())
        running = [task for task in (*left, *more) if not task.done()]
        if running:
            names = shortened(", ".join(_name_of(task) for task in running), MOST_OF_NAMES)
            self._spoil(
                key,
                f"it left {len(running)} asyncio tasks running that went on when they were cancelled ({names}); "
                "await the tasks that it creates, and let them end when they are cancelled",
            )

    def _made(self, key: bytes, nbytes: int) -> None:
        if not self._outbox:
            self._loop.call_soon(self._outbox.flush)
        self._outbox.made(key, nbytes)

    def _spoil(self, key: JobKey, reason: str) -> None:
        if not self._is_spoiled:
            self._is_spoiled = True
            self._outbox.spoiled(key, encodable(reason))
            self._loop.call_soon(self._outbox.flush)

    def _restore(self, key: JobKey) -> None:
        """Put the state of the process back when no job runs."""
        self._state.restore(perf_counter() - self._busy_since)
        if self._loop.get_task_factory() != self._make_task:
            self._loop.set_task_factory(self._make_task)
        if self._state.damage:
            self._spoil(key, damage_reason(self._state.damage))

    def _ended(
        self, key: JobKey, template: LoadedTemplate, started: float, task: asyncio.Task[JobOutcome]
    ) -> None:
        del self._tasks[key]
        seconds = perf_counter() - started
        if key in self._created:
            self._end_created(key)
        if not self._tasks:
            self._restore(key)
            if self._mappings:
                self._loop.call_later(KEPT_S, self._mappings.let_go)
        if not self._outbox:
            self._loop.call_soon(self._outbox.flush)
        if self._output.has_news:
            dropped = self._output.end(key)
            if dropped is not None:
                self._outbox.printed(key, dropped)
        # An exception is encoded below. Modules that can't be had are this job's failure already.
        with suppress(SerializationError):
            self._modules.enter(template.modules)
        failed = self._failure(task, template)
        self._subprocesses.job_ended(key, was_cancelled=failed is _CANCELLED)
        if failed is None:
            self._outbox.done(*key, task.result(), seconds)
        else:
            self._outbox.failed(key, failed, seconds)

    def _failure(self, task: asyncio.Task[JobOutcome], template: LoadedTemplate) -> JobFailure | None:
        failed = _failure(task, template)
        was_interrupted = task in self._interrupted
        self._interrupted.discard(task)
        return failure(KeyboardInterrupt(), template) if was_interrupted and failed is _CANCELLED else failed


def _name_of(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", None) or task.get_name()


def _failure(task: asyncio.Task[JobOutcome], template: LoadedTemplate) -> JobFailure | None:
    """Describe why a task failed; None if it did not."""
    if task.cancelled():
        return _CANCELLED
    error = task.exception()
    if error is None:
        return None
    # Not `isinstance`, which asks the user's exception for its class.
    was_cancelled = isinstance(error, UserRaised) and issubclass(type(error.error), asyncio.CancelledError)
    return _CANCELLED if was_cancelled and task.cancelling() else failure(error, template)


_CANCELLED: JobFailure = ("cancelled", b"", "cancelled", "")


def _directly() -> CodeCaller:
    """Each task has context variables of its own."""
    return operator.call


def _nothing() -> None:
    """While coroutines run their process is as they have made it."""


async def _finish(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
