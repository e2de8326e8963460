"""A sync worker: runs one job at a time in its main thread, and answers a recall while it does.

A worker must answer a recall while user code runs. A thread for that would make every fork in user code a fork of a
process with threads, which Python 3.12 warns of. So the control channel raises SIGIO. Python runs its handler between two
bytecodes of the user's code, and at once where that sleeps or waits; only a long computation in C delays the handler. The
handler acts by itself only while `_is_interruptible`, when no state of the worker is half changed.
"""

import fcntl
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Coroutine
from time import perf_counter
from typing import Any, Final, NoReturn, assert_never

from handoff_actors.ids import RunId
from handoff_actors.moving_average import peak_smoothed
from handoff_actors.store import mappings
from handoff_actors.workers.child import heap
from handoff_actors.workers.child.environments import Environments
from handoff_actors.workers.child.evaluation import Evaluation, failure
from handoff_actors.workers.child.job_context import JobContext
from handoff_actors.workers.child.object_cache import ObjectCache
from handoff_actors.workers.child.outbox import WorkerOutbox
from handoff_actors.workers.child.outcome import Grown, JobOutcome
from handoff_actors.workers.child.output import OutputCapture
from handoff_actors.workers.child.process.forks import ForkGuard
from handoff_actors.workers.child.process.interrupts import UserCode, take_interrupts
from handoff_actors.workers.child.process.state import ProcessState, damage_reason
from handoff_actors.workers.child.records import send_records
from handoff_actors.workers.child.running_job import answer_with
from handoff_actors.workers.child.stage.channel import StageChannel, offer
from handoff_actors.workers.child.store import WorkerStore
from handoff_actors.workers.child.tail import Tail
from handoff_actors.workers.child.template import DECAY, LoadedTemplate
from handoff_actors.workers.child.waiting import Waiting
from handoff_actors.workers.protocol import (
    JOB_ARGS,
    JOB_ATTEMPT,
    JOB_CONSTANTS,
    JOB_EARLIER,
    JOB_INDEX,
    JOB_TEMPLATE,
    JOB_THEN,
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

#: A result waits for the next job's only if that job is expected to take less than this,
_FAST_S: Final = 200e-6
#: and no longer than this.
_HOLD_S: Final = 1e-3

#: The job's template, its run and all templates of that, the devices it may see, the job, and whether it runs behind the
#: entry before it, as a member of the same fused group.
_Entry = tuple[LoadedTemplate, RunId, dict[int, LoadedTemplate], str | None, JobRow, bool]


class SyncWorker:
    """Runs jobs from `data` until that is closed; each byte on `control` is a recall."""

    #: Something may be on the control channel.
    _is_called = False
    _has_missed_interrupt = False

    def __init__(
        self,
        data: socket.socket,
        control: socket.socket,
        store: WorkerStore,
        inline_limit: int,
        tail: Tail,
        pipe: int,
    ) -> None:
        self._data = data
        self._control = control
        self._poll = select.poll()
        self._waiting = Waiting(self._poll)
        self._tail = tail
        self._outbox = WorkerOutbox(data, tail)
        #: The job that runs, or ran last; None while the worker is idle.
        self._current: _Entry | None = None
        self._output = OutputCapture(pipe, tail, self._printing_job)
        self._state = state = ProcessState()
        forks, cache = ForkGuard(self._abandon), ObjectCache(self._outbox.made)
        self._evaluation = Evaluation(
            store, inline_limit, self._finish_now, state.prepare, self._put_back, forks, cache
        )
        self._mappings = store.mappings
        self._heap = heap.Heap(perf_counter())
        #: Memory kept from one job to the next: seconds of idle time before it is given back, and how.
        self._kept = ((mappings.KEPT_S, self._mappings.let_go), (heap.KEPT_S, self._heap.give_back))
        self._job_context = JobContext(self._mappings, state.note_environment)
        self._environments = Environments(store, state.note_environment)
        self._reader = RowReader()
        self._queue: deque[_Entry] = deque()
        #: Results are sent when this many jobs are left: the node refills the queue while they run.
        self._half = 0
        self._sent_at = 0.0
        self._user_code = UserCode()
        descriptors = data.fileno(), control.fileno()
        self._stages = StageChannel(
            self._receive_for_stage, descriptors, self._outbox, store, inline_limit, self._user_code, forks
        )

    def serve(self) -> NoReturn:
        """Run jobs; the process ends with its channels."""
        self._output.follow()
        send_records(self._output)
        reports = self._output.reports
        answer_with(
            self._running_job,
            lambda key: key == self._running_job(),
            self._is_sending_values,
            self._attempts_before,
            reports,
        )
        self._poll.register(self._data, select.POLLIN)
        self._poll.register(self._control, select.POLLIN)
        offer(self._stages)
        self._listen_by_signal()
        take_interrupts(self._interrupt)
        self._state.note()
        self._outbox.up()
        while True:
            if self._state.damage:
                self._retire()
            if self._queue:
                self._run_next()
            else:
                self._wait()

    def _listen_by_signal(self) -> None:
        signal.signal(signal.SIGIO, self._on_signal)
        fcntl.fcntl(self._control, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(self._control, fcntl.F_GETFL)
        fcntl.fcntl(self._control, fcntl.F_SETFL, flags | os.O_ASYNC)
        # Recalls that arrived before now have raised no signal.
        self._is_called = True

    def _abandon(self) -> None:
        """In a fork that a user's function made: the channels and the jobs are its parent's alone."""
        self._queue.clear()
        self._data.close()
        self._control.close()

    # --- Jobs

    def _run_next(self) -> None:
        self._current = self._queue.popleft()
        template, run, templates, devices, job, is_behind = self._current
        index, attempt = job[JOB_INDEX], job[JOB_ATTEMPT]
        earlier = self._evaluation.earlier
        if not is_behind and earlier:
            earlier.clear()
        self._job_context.devices.expose(devices)
        self._heap.keep(keeps=not template.claims_memory)
        self._tail.clear()
        self._user_code.is_interruptible = True
        if self._is_called:
            self._answer()
        started = perf_counter()
        try:
            self._environments.enter(template.environment, template.threads, template.modules)
            result = self._drive(
                self._evaluation.call(run, templates, job[JOB_TEMPLATE], job[JOB_ARGS], job[JOB_CONSTANTS])
            )
            value = self._evaluation.keep(run, index, attempt, result, template)
        except BaseException as error:  # noqa: BLE001 - whatever a job ends with, the worker goes on
            self._user_code.is_interruptible = False
            ended = perf_counter()
            self._failed((run, index, attempt), template, error, ended - started)
        else:
            self._user_code.is_interruptible = False
            ended = perf_counter()
            self._put_back(ended - started)
            if self._output.has_news:
                self._end_output((run, index, attempt))
            self._outbox.done(run, index, attempt, value, ended - started)
            if is_behind or job[JOB_THEN]:
                self._note_for_fused_group(index, attempt, value)
        code = template.code
        code.seconds = peak_smoothed(code.seconds, ended - started, DECAY)
        if self._is_due(ended):
            self._outbox.flush()
            self._sent_at = ended
        self._heap.tidy(ended)

    def _drive(self, evaluation: Coroutine[Any, Any, Any]) -> Any:
        """Run an evaluation to its end; it never suspends, because `_finish_now` does not."""
        self._user_code.is_running = True
        try:
            evaluation.send(None)
        except StopIteration as end:
            return end.value
        finally:
            self._user_code.is_running = False
        raise AssertionError("an evaluation of a sync worker suspended")

    def _failed(self, key: JobKey, template: LoadedTemplate, error: BaseException, seconds: float) -> None:
        described = failure(error, template)
        self._put_back(seconds)
        self._end_output(key)
        self._outbox.failed(key, described, seconds)
        self._skip_fused_group()

    def _retire(self) -> NoReturn:
        key = self._running_job()
        assert key is not None, "only jobs do damage"
        self._outbox.spoiled(key, damage_reason(self._state.damage))
        self._outbox.flush()
        os._exit(0)

    def _put_back(self, seconds: float = 0.0) -> None:
        if self._state.restore(seconds):
            # The job may have ignored the signal of a recall.
            self._is_called = True

    def _printing_job(self) -> JobKey | None:
        """Give the job that owns the output written now, if its app wants it."""
        return self._running_job() if self._current is not None and self._current[0].sends_output else None

    def _is_sending_values(self) -> bool:
        return self._current is not None and self._current[0].sends_values

    def _attempts_before(self) -> int:
        return 0 if self._current is None else self._current[4][JOB_EARLIER]

    def _running_job(self) -> JobKey | None:
        if self._current is None:
            return None
        _, run, _, _, job, _ = self._current
        return run, job[JOB_INDEX], job[JOB_ATTEMPT]

    async def _finish_now(self, awaitable: Awaitable[Any]) -> Any:
        # It takes longer to import than everything else that a sync worker needs, and few need it.
        import asyncio  # noqa: PLC0415

        async def outcome() -> Any:
            return await awaitable

        return self._state.context.run(asyncio.run, outcome())

    def _end_output(self, key: JobKey) -> None:
        dropped = self._output.end(key)
        if dropped is not None:
            self._outbox.printed(key, dropped)

    def _note_for_fused_group(self, index: int, attempt: int, value: JobOutcome) -> None:
        if isinstance(value, Grown):
            self._skip_fused_group()
        else:
            self._evaluation.earlier[index] = value if isinstance(value, bytes) else attempt

    def _skip_fused_group(self) -> None:
        """Drop the rest of the fused group of a job that has no plain value."""
        while self._queue and self._queue[0][5]:
            self._queue.popleft()

    def _is_due(self, now: float) -> bool:
        """Tell whether results must not wait for the next job's. With no next job, `_wait` sends them."""
        queue = self._queue
        return bool(queue) and (
            queue[0][0].code.seconds > _FAST_S or len(queue) == self._half or now - self._sent_at >= _HOLD_S
        )

    # --- Messages

    def _wait(self) -> None:
        self._current = None
        self._outbox.flush()
        self._receive()
        self._half = len(self._queue) // 2
        self._sent_at = perf_counter()

    def _receive(self) -> None:
        """Wait for messages, and apply them."""
        # Kept memory is given back bit by bit meanwhile.
        for descriptor in self._waiting.until_ready(self._kept):
            if descriptor == self._data.fileno():
                self._read()
            else:
                self._is_called = True
                self._answer()

    def _receive_for_stage(self, waits: bool) -> None:
        """Apply what has arrived while a stage runs. Its worker gets no other job, and keeps one that comes for later."""
        if waits:
            self._receive()
        else:
            self._read()
            # An event loop may have told of the control channel, before the signal has.
            self._is_called = True
        if self._is_called:
            self._answer()
        self._heap.tidy(perf_counter())

    def _read(self) -> bool:
        """Apply the messages that have arrived; False if there are none."""
        try:
            received = self._data.recv(READ_NBYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        if not received:
            os._exit(0)
        for row in self._reader.rows(received):
            self._take(to_worker(row))
        return True

    def _take(self, message: ToWorker) -> None:
        match message:
            case QueueJobs():
                self._enqueue(message)
            case DefineTemplate() | DefineModules() | DropTemplates() | ExposeDevices():
                self._job_context.apply(message)
            case StageRows(key, content):
                self._stages.arrived.append((key, content))
            case GiveBackJobs() | CancelJob():
                raise AssertionError(f"{message} is for async workers")
            case _:
                assert_never(message)

    def _enqueue(self, message: QueueJobs) -> None:
        run = message.run
        templates = self._job_context.templates.of(run)
        devices = self._job_context.devices.announced
        for job in message.jobs:
            self._queue.append((templates[job[JOB_TEMPLATE]], run, templates, devices, job, False))
            for member in job[JOB_THEN]:
                self._queue.append((templates[member[JOB_TEMPLATE]], run, templates, devices, member, True))

    # --- Recalls

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._is_called = True
        if self._user_code.is_interruptible:
            self._answer()
            if self._has_missed_interrupt:
                self._interrupt()

    def _interrupt(self) -> None:
        self._has_missed_interrupt = self._user_code.is_running and not self._user_code.is_interruptible
        if self._user_code.is_running and self._user_code.is_interruptible:
            raise KeyboardInterrupt

    def _answer(self) -> None:
        """Answer every recall on the control channel. A signal meanwhile only makes the loop look once more."""
        was_interruptible = self._user_code.is_interruptible
        while self._is_called:
            self._user_code.is_interruptible = False
            self._is_called = False
            for _ in range(self._count_recalls()):
                self._give_back()
            self._user_code.is_interruptible = was_interruptible

    def _count_recalls(self) -> int:
        try:
            recalls = self._control.recv(READ_NBYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            recalls = b""
        if not recalls:
            os._exit(0)
        return len(recalls)

    def _give_back(self) -> None:
        while self._read():
            """Jobs that have arrived and were not read have not started either."""
        self._outbox.recalled((run, job[JOB_INDEX], job[JOB_ATTEMPT]) for _, run, _, _, job, _ in self._queue)
        self._queue.clear()
        self._outbox.flush()
