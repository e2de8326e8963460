"""The workers of one node: start them, give them jobs, receive their results, account for their ends."""

import asyncio
import os
import signal as signals
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Protocol, assert_never

import msgspec

from handoff_actors.ids import Attempt, Index, RunId, WorkerId
from handoff_actors.lru import LruCache
from handoff_actors.process.open_files import with_reserve
from handoff_actors.store import directories
from handoff_actors.wire.messages.jobs import NO_TRACES, Done, Dropped, Job, Said, Template, Traces
from handoff_actors.workers.nested_waits import WaitChanged
from handoff_actors.workers.pool.definitions import definition_of, templates_used
from handoff_actors.workers.pool.forks import keep_from_forks
from handoff_actors.workers.pool.output_reader import OutputReader
from handoff_actors.workers.pool.pipe import Pipe
from handoff_actors.workers.pool.questions import Questions
from handoff_actors.workers.pool.reports import entries_of, merge_done
from handoff_actors.workers.pool.zygote_link import ZygoteLink
from handoff_actors.workers.process_trees import end_tree
from handoff_actors.workers.protocol import (
    CODES_KEPT,
    CODES_KEPT_NBYTES,
    MODULES_KEPT,
    RECALL_BYTE,
    CancelJob,
    DefineModules,
    DropTemplates,
    ExposeDevices,
    FromWorker,
    GiveBackJobs,
    JobFailed,
    JobKey,
    JobsDone,
    JobsGivenBack,
    JobsPrinted,
    ObjectKept,
    StageAnswers,
    StageRows,
    WorkerFailureKind,
    WorkerReady,
    WorkerSpoiled,
    queue_jobs,
)
from handoff_actors.workers.zygote_protocol import ProcessEnded

#: Jobs are written in pieces of about this size at most: a recall takes back those that have not been sent.
_PIECE_NBYTES: Final = 64 * 1024
_INLINE_LIMIT: Final = 64 * 1024
_NO_DEFINITIONS: Final[Mapping[bytes, bytes]] = {}

#: How that fails, for jobs that no node should have been sent.
_UNENCODABLE: Final = (msgspec.MsgspecError, ValueError, OverflowError, TypeError, RecursionError)

_encode = msgspec.msgpack.Encoder().encode


class WorkerEvents(Protocol):
    """Events that a pool reports to its node, from the event loop."""

    def worker_up(self, worker: WorkerId, pid: int) -> None:
        """The worker is ready; its first event."""

    def worker_done(self, worker: WorkerId, run: RunId, done: list[Done]) -> None:
        """Attempts succeeded; a large result is in the store, as "{run:016x}-{index}.{attempt}"."""

    def worker_failed(
        self,
        worker: WorkerId,
        run: RunId,
        index: Index,
        attempt: Attempt,
        kind: WorkerFailureKind,
        error: bytes,
        reason: str,
        ran_s: float,
        traces: Traces,
    ) -> None:
        """An attempt failed; the worker goes on."""

    def worker_recalled(self, worker: WorkerId, jobs: list[JobKey]) -> None:
        """The worker gave back these jobs; once for each recall, unless it ends first."""

    def worker_unfit(self, worker: WorkerId, run: RunId, index: Index, attempt: Attempt, reason: str) -> None:
        """A job has left the worker in a state that can't be mended; a sync worker ends, an async one goes on for now."""

    def wait_changed(self, change: WaitChanged) -> None:
        """A function begins to wait for a run of its own, or goes on."""

    def object_made(self, worker: WorkerId, key: bytes, nbytes: int) -> None:
        """The worker has made an object that it keeps; comes before the end of the attempt that needed it."""

    def stage_answered(
        self, worker: WorkerId, key: JobKey, content: bytes, stored: Sequence[tuple[Index, int]]
    ) -> None:
        """A stage answers; index and size of each value that is in the store, as "{run:016x}-{index}.{attempt}"."""

    def output_received(self, run: RunId, said: Sequence[Said]) -> None:
        """Functions have printed, logged or reported this; comes before their ends."""

    def id_asked(self, key: JobKey) -> None:
        """A function that runs asks for its id; to be answered by `WorkerPool.tell_id`."""

    def worker_exited(
        self, worker: WorkerId, signal: int | None, exit_code: int | None, traces: Traces
    ) -> None:
        """The worker has ended; its last event."""


class _Worker:
    """A worker that has not ended, as the pool knows it."""

    def __init__(self, zygote: ZygoteLink, pipe: Pipe, control: socket.socket | None) -> None:
        self.zygote = zygote
        self.pipe = pipe
        #: None: an async worker, which gets everything over its pipe.
        self.control = control
        self.pid: int | None = None
        #: The digests of the codes that the worker has; it keeps the same count.
        self.codes: LruCache[bytes, bool] = LruCache(CODES_KEPT, CODES_KEPT_NBYTES)
        #: The sets of modules that the worker knows; it keeps the same count.
        self.modules: LruCache[bytes, bool] = LruCache(MODULES_KEPT)
        #: Numbers of the templates that the worker has, by run.
        self.templates: dict[int, set[int]] = {}
        self.devices: str | None = None
        #: Jobs that a recall took from the pipe, until the worker has answered for its own.
        self.taken_back: list[JobKey] = []
        self.is_cut_off = False


class WorkerPool:
    """Processes forked from a zygote. Everything but `start` and `close` returns at once and never blocks."""

    def __init__(
        self,
        events: WorkerEvents,
        store: Path,
        inline_limit: int = _INLINE_LIMIT,
        disk: Path | None = None,
        surroundings: Callable[[], bytes] = bytes,
        definitions: Mapping[bytes, bytes] = _NO_DEFINITIONS,
        node: str = "",
    ) -> None:
        """Start nothing yet. `node` is its name; `surroundings` gives the answer to workers that ask for the cluster; b"": there is none."""
        self._events = events
        self._surroundings, self._node = surroundings, node
        self._questions: Questions | None = None
        self._store = store
        #: For values that the store has no room for.
        self._disk = disk
        self._inline_limit = inline_limit
        #: By the key of a set of modules that workers can't import.
        self._definitions = definitions
        self._zygote: ZygoteLink | None = None
        self._output_reader: OutputReader | None = None
        self._workers: dict[WorkerId, _Worker] = {}
        self._unflushed: list[Pipe] = []
        self._is_held = False
        #: The end of what the workers of a lost zygote have started.
        self._ending_tree: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Make the store's directories and start the zygote; it need not be ready for `spawn`.

        The directories must be empty or not exist, because they are removed when the zygote ends.
        Raises FileExistsError, OSError.
        """
        for directory in self._directories():
            directories.adopt(directory)
        self._questions = Questions(self._surroundings, self._events.id_asked, self._wait_changed)
        self._zygote = self._start_zygote()

    @property
    def import_path(self) -> list[str]:
        """The directories from which workers import."""
        return [] if self._zygote is None else self._zygote.import_path

    def spawn(self, worker: WorkerId, is_async: bool) -> None:
        """Start a worker, which can be given jobs at once. Starts a new zygote if the last has died."""
        if self._zygote is None or not self._zygote.is_running:
            self._zygote = self._start_zygote()
        data, their_data = with_reserve(socket.socketpair)
        control, their_control = (None, None) if is_async else with_reserve(socket.socketpair)
        if control is not None:
            control.setblocking(False)
            keep_from_forks(control)
        pipe = Pipe(data, partial(self._received, worker), partial(self._cut_off, worker), self._has_unsent)
        self._workers[worker] = _Worker(self._zygote, pipe, control)
        self._zygote.spawn(worker, [their_data] if their_control is None else [their_data, their_control])

    def give(
        self,
        worker: WorkerId,
        run: RunId,
        templates: Mapping[int, Template],
        jobs: Sequence[Job],
        devices: str | None,
    ) -> None:
        """Send jobs, with the templates that they use and the worker lacks.

        `devices` is their CUDA_VISIBLE_DEVICES; None: the node's own. Jobs that can't be encoded are reported as failed.
        """
        to = self._workers.get(worker)
        if to is None:
            return
        if devices != to.devices:
            to.devices = devices
            to.pipe.write(_encode(ExposeDevices(devices)))
        self._write_jobs(worker, to, run, templates, jobs)

    def pass_rows(self, worker: WorkerId, key: JobKey, content: bytes) -> None:
        """Send rows to the stage that a worker runs as this job."""
        to = self._workers.get(worker)
        if to is not None:
            to.pipe.write(_encode(StageRows(key, content)))

    def recall(self, worker: WorkerId) -> None:
        """Ask for the jobs that have not started; answered by `worker_recalled`."""
        of = self._workers.get(worker)
        if of is None:
            return
        if of.control is None:
            of.pipe.write(_encode(GiveBackJobs()))
            return
        of.pipe.flush()
        of.taken_back += of.pipe.take_back()
        # Without room there are more recalls than the worker has found time to answer, and it is about to end.
        with suppress(OSError):
            of.control.send(RECALL_BYTE)

    def cancel(self, worker: WorkerId, run: RunId, index: int, attempt: int) -> None:
        """Cancel a job of an async worker; answered by its end. A sync worker can only be killed."""
        of = self._workers.get(worker)
        if of is not None and of.control is None:
            of.pipe.write(_encode(CancelJob((run, index, attempt))))

    def kill(self, worker: WorkerId) -> None:
        """Kill the worker and every process that it has started."""
        victim = self._workers.get(worker)
        if victim is not None and victim.zygote.is_running:
            victim.zygote.kill(worker)

    def forget(self, run: RunId) -> None:
        """Drop the run's templates everywhere."""
        for worker in self._workers.values():
            if worker.templates.pop(run, None) is not None:
                worker.pipe.write(_encode(DropTemplates(run)))
        if self._output_reader is not None:
            self._output_reader.forget(run)
        if self._questions is not None:
            self._questions.forget(run)

    def tell_id(self, key: JobKey, function_id: str | int | None) -> None:
        """Answer `id_asked`; None: the id can't be had."""
        if self._questions is not None:
            self._questions.tell_id(key, function_id)

    def forget_templates(self, run: RunId, numbers: Sequence[int]) -> None:
        """Drop some of a run's templates everywhere. No job may use them."""
        for worker in self._workers.values():
            known = worker.templates.get(run, set())
            gone = sorted(known.intersection(numbers))
            if gone:
                known.difference_update(gone)
                worker.pipe.write(_encode(DropTemplates(run, gone)))

    def hold(self) -> None:
        """Hold messages to workers until `flush`; otherwise they leave at the end of this tick of the loop."""
        self._is_held = True

    def flush(self) -> None:
        """Send the waiting messages, in one system call for each worker."""
        self._is_held = False
        unflushed, self._unflushed = self._unflushed, []
        for pipe in unflushed:
            pipe.flush()

    async def close(self) -> None:
        """End all workers and the zygote, and remove the store; returns when no process is left."""
        if self._zygote is not None:
            await self._zygote.close()
            self._zygote = None
            # A zygote that was killed has left it.
            for directory in self._directories():
                await asyncio.to_thread(directories.remove, directory)
        if self._ending_tree is not None:
            await self._ending_tree
        if self._questions is not None:
            self._questions.close()
            self._questions = None
        # Also where the zygote could not be started.
        self._close_output_reader()
        for worker in list(self._workers):
            self._retire(worker, int(signals.SIGKILL), None)

    # --- Sending

    def _write_jobs(
        self,
        worker: WorkerId,
        to: _Worker,
        run: RunId,
        templates: Mapping[int, Template],
        jobs: Sequence[Job],
    ) -> None:
        try:
            self._define(to, run, templates, jobs)
            chunks = list(_run_chunks(run, jobs))
        except _UNENCODABLE as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._write_jobs(worker, to, run, templates, [job])
                return
            reason = f"it can't be sent to a worker: {type(error).__name__}: {error}"
            key = (run, jobs[0].index, jobs[0].attempt)
            self._events.worker_failed(worker, *key, "serialization", b"", reason, 0.0, NO_TRACES)
            return
        for chunk, keys in chunks:
            to.pipe.write(chunk, keys)

    def _has_unsent(self, pipe: Pipe) -> None:
        self._unflushed.append(pipe)
        if not self._is_held and len(self._unflushed) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def _start_zygote(self) -> ZygoteLink:
        self._close_output_reader()
        reader = self._output_reader = OutputReader(self._events.output_received)
        assert reader.write_end is not None
        assert self._questions is not None
        zygote = ZygoteLink(
            self._store,
            self._disk,
            self._node,
            self._inline_limit,
            reader.write_end,
            self._questions.fileno(),
            self._reported,
            self._zygote_lost,
        )
        reader.hand_over()
        return zygote

    def _close_output_reader(self) -> None:
        if self._output_reader is not None:
            self._output_reader.drain()
            self._output_reader.close()
            self._output_reader = None

    def _directories(self) -> list[Path]:
        return [self._store] if self._disk is None else [self._store, self._disk]

    def _define(
        self, to: _Worker, run: RunId, templates: Mapping[int, Template], jobs: Sequence[Job]
    ) -> None:
        known = to.templates.setdefault(run, set())
        for number in templates_used(jobs) - known:
            template = templates[number]
            code = None if template.digest in to.codes else template.code
            modules = None if template.modules is None else self._define_modules(to, template)
            definition = _encode(definition_of(run, template, code, modules))
            known.add(number)
            # The worker counts the same uses.
            if to.codes.get(template.digest) is None:
                to.codes.put(template.digest, True, len(template.code))
            to.pipe.write(definition)

    def _define_modules(self, to: _Worker, template: Template) -> bytes:
        """Send a template's set of modules if the worker lacks it. Returns what the worker knows it by."""
        session, modules = template.session, template.modules
        assert modules is not None
        definitions = self._definitions.get(modules.key)
        name = b"".join((modules.key, b"imported " if definitions is None else b"sent ", session.encode()))
        if to.modules.get(name) is None:
            message = _encode(DefineModules(name, session, modules.sources, definitions))
            to.modules.put(name, True)
            to.pipe.write(message)
        return name

    # --- Receiving

    def _received(self, worker: WorkerId, messages: list[FromWorker]) -> None:  # noqa: C901 - one table
        for message in merge_done(messages):
            match message:
                case JobsDone():
                    self._events.worker_done(worker, message.run, entries_of(message))
                case JobsPrinted():
                    self._printed(message)
                case WorkerReady():
                    self._workers[worker].pid = message.pid
                    self._events.worker_up(worker, message.pid)
                case JobFailed():
                    self._failed(worker, message)
                case StageAnswers(key, content, stored):
                    self._events.stage_answered(worker, key, content, stored)
                case ObjectKept(warm, nbytes):
                    self._events.object_made(worker, warm, nbytes)
                case WorkerSpoiled(key, reason):
                    self._events.worker_unfit(worker, *key, reason)
                case JobsGivenBack():
                    taken_back = self._workers[worker].taken_back
                    self._workers[worker].taken_back = []
                    self._events.worker_recalled(worker, [*message.jobs, *taken_back])
                case _:
                    assert_never(message)

    def _wait_changed(self, change: WaitChanged) -> None:
        if self._zygote is not None:
            self._zygote.prepare_for_nested_runs()
        self._events.wait_changed(change)

    def _failed(self, worker: WorkerId, failed: JobFailed) -> None:
        traces = Traces(failed.peak_nbytes, printed=failed.printed, not_retried=failed.not_retried)
        self._events.worker_failed(
            worker, *failed.key, failed.kind, failed.error, failed.reason, failed.ran_s, traces
        )

    def _printed(self, message: JobsPrinted) -> None:
        """Read the output of functions before their ends are reported."""
        if self._output_reader is not None:
            self._output_reader.drain()
        for (run, index, attempt), lines in message.dropped:
            if lines:
                self._events.output_received(run, [Dropped(index, attempt, lines)])

    def _reported(self, ended: ProcessEnded) -> None:
        traces = Traces(ended.peak_nbytes, printed=ended.printed)
        self._retire(ended.worker, ended.signal, ended.exit_code, traces)

    def _cut_off(self, worker: WorkerId) -> None:
        """No more messages can come from the worker: it has ended, or user code has closed its channel."""
        cut_off = self._workers[worker]
        if cut_off.is_cut_off:
            return
        cut_off.is_cut_off = True
        if cut_off.zygote.is_running:
            cut_off.zygote.kill(worker)
        else:
            self._retire(worker, int(signals.SIGKILL), None)

    def _zygote_lost(self, zygote: ZygoteLink) -> None:
        """A zygote has ended, and its workers with it; retire each when it is cut off."""
        for worker, orphan in list(self._workers.items()):
            if orphan.zygote is not zygote:
                continue
            if orphan.is_cut_off:
                self._retire(worker, int(signals.SIGKILL), None)
            elif orphan.pid is not None:
                # The kernel kills the worker, not the processes that it has started. Its pid was in use a moment ago, and is
                # not given to another process before all others have been.
                with suppress(ProcessLookupError):
                    os.killpg(orphan.pid, signals.SIGKILL)
        self._ending_tree = asyncio.get_running_loop().run_in_executor(None, end_tree, zygote.tree)

    def _retire(
        self, worker: WorkerId, signal: int | None, exit_code: int | None, traces: Traces = NO_TRACES
    ) -> None:
        """Report the end of a worker, after its last messages."""
        ended = self._workers[worker]
        ended.is_cut_off = True
        ended.pipe.drain()
        ended.pipe.close()
        if self._output_reader is not None:
            self._output_reader.drain()
            self._output_reader.worker_ended(ended.pid or 0)
        if ended.control is not None:
            ended.control.close()
        del self._workers[worker]
        self._events.worker_exited(worker, signal, exit_code, traces)


def _run_chunks(run: RunId, jobs: Sequence[Job]) -> Iterator[tuple[bytes, list[JobKey]]]:
    """Encode jobs in as few pieces as their size allows, each with the keys of its jobs."""
    chunk = _encode(queue_jobs(run, jobs))
    if len(chunk) <= _PIECE_NBYTES or len(jobs) == 1:
        yield chunk, [(run, member.index, member.attempt) for job in jobs for member in (job, *job.then)]
        return
    half = len(jobs) // 2
    yield from _run_chunks(run, jobs[:half])
    yield from _run_chunks(run, jobs[half:])
