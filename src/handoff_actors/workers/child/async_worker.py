"""An async worker: runs every job that it is given at once, each as a task of its event loop."""

import asyncio
import os
import socket
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from time import perf_counter
from typing import Any, NoReturn

import msgpack
import uvloop

from handoff_actors.store.mappings import KEPT_S
from handoff_actors.workers.child.evaluation import Evaluation, Failure, UserRaised, failure
from handoff_actors.workers.child.job_context import JobContext
from handoff_actors.workers.child.outbox import WorkerOutbox
from handoff_actors.workers.child.output import Key, OutputCapture
from handoff_actors.workers.child.records import send_records
from handoff_actors.workers.child.store import WorkerStore
from handoff_actors.workers.child.tail import Tail
from handoff_actors.workers.child.template import LoadedTemplate
from handoff_actors.workers.child.threads import Threads
from handoff_actors.workers.protocol import READ_NBYTES, ToWorker

#: The coroutine that runs, where its output goes home.
_printing: ContextVar[Key] = ContextVar("_printing")


class AsyncWorker:
    """Runs jobs from `data` until that is closed."""

    def __init__(
        self, data: socket.socket, store: WorkerStore, inline_limit: int, tail: Tail, pipe: int
    ) -> None:
        self._data = data
        self._outbox = WorkerOutbox(data, tail)
        self._output = OutputCapture(pipe, tail, lambda: _printing.get(None))
        self._evaluation = Evaluation(store, inline_limit, _finish)
        self._mappings = store.mappings
        self._surroundings = JobContext(self._mappings)
        self._unpacker = msgpack.Unpacker(max_buffer_size=0)
        self._loop = uvloop.new_event_loop()
        Threads().limit(1)
        #: By run, index, attempt.
        self._tasks: dict[tuple[int, int, int], asyncio.Task[bytes | int]] = {}

    def serve(self) -> NoReturn:
        """Run jobs; the process ends with its channel."""
        os.register_at_fork(after_in_child=self._data.close)
        self._output.follow()
        send_records(self._output)
        self._loop.add_reader(self._data, self._read)
        self._outbox.up()
        while True:
            # A user's own task that raises one of these stops the loop; it must not stop the other jobs.
            with suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_forever()

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
        self._unpacker.feed(received)
        for message in self._unpacker:
            self._take(message)

    def _take(self, message: list[Any]) -> None:
        match message:
            case [ToWorker.RUN, run, jobs]:
                self._surroundings.devices.expose(self._surroundings.devices.announced)
                templates = self._surroundings.templates.of(run)
                for job in jobs:
                    self._start(run, templates, job)
            case [ToWorker.CANCEL, run, index, attempt]:
                task = self._tasks.get((run, index, attempt))
                if task is not None:
                    task.cancel()
            case [ToWorker.RECALL]:
                # Every job starts when it arrives.
                self._outbox.recalled(())
                self._outbox.flush()
            case _:
                self._surroundings.hear(message)

    # --- Jobs

    def _start(self, run: int, templates: dict[int, LoadedTemplate], job: list[Any]) -> None:
        index, attempt, number, args, constants, *_ = job
        key = (run, index, attempt)
        evaluation = self._evaluate(key, templates, number, args, constants)
        task = self._loop.create_task(evaluation)
        self._tasks[key] = task
        task.add_done_callback(partial(self._ended, key, perf_counter()))

    async def _evaluate(
        self, key: tuple[int, int, int], templates: dict[int, LoadedTemplate], *call: Any
    ) -> bytes | int:
        if templates[call[0]].sends_output:
            _printing.set(key)
        result = await self._evaluation.call(key[0], templates, *call)
        return self._evaluation.keep(*key, result)

    def _ended(self, key: tuple[int, int, int], started: float, task: asyncio.Task[bytes | int]) -> None:
        del self._tasks[key]
        seconds = perf_counter() - started
        if self._mappings and not self._tasks:
            self._loop.call_later(KEPT_S, self._mappings.let_go)
        if not self._outbox:
            self._loop.call_soon(self._outbox.flush)
        if self._output.has_news:
            lost = self._output.end(key)
            if lost is not None:
                self._outbox.printed(*key, lost)
        failed = _failure(task)
        if failed is None:
            self._outbox.done(*key, task.result(), seconds)
        else:
            self._outbox.failed(*key, failed, seconds)


def _failure(task: asyncio.Task[bytes | int]) -> Failure | None:
    """Describe why a task did not end well; None if it did."""
    if task.cancelled():
        return _CANCELLED
    error = task.exception()
    if error is None:
        return None
    was_cancelled = isinstance(error, UserRaised) and isinstance(error.error, asyncio.CancelledError)
    return _CANCELLED if was_cancelled and task.cancelling() else failure(error)


_CANCELLED: Failure = ("cancelled", b"", "cancelled")


async def _finish(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
