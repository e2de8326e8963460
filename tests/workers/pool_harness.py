"""A pool under test, with everything that it reports."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from handoff_actors.ids import Resources, RunId, WorkerId
from handoff_actors.wire.exceptions import decode_exception
from handoff_actors.wire.messages.jobs import Arg, Done, Job, Said, Template, Traces
from handoff_actors.wire.payload import decode, encode, encode_call, encode_code
from handoff_actors.workers.nested_waits import WaitChanged
from handoff_actors.workers.pool.pool import WorkerPool
from handoff_actors.workers.protocol import JobKey, WorkerFailureKind
from handoff_actors.workers.stage_protocol import from_stage

if TYPE_CHECKING:
    from handoff_actors.wire.messages.stage_rows import FromStage

RUN = RunId(7)
SYNC = WorkerId(1)
ASYNC = WorkerId(2)


def template(
    code: Callable[..., Any],
    number: int = 0,
    *,
    as_list: bool = False,
    log_level: int | None = None,
    cost: Resources | None = None,
    sends_values: bool = False,
) -> Template:
    digest, by_reference, encoded = encode_code(code)
    return Template(
        number,
        digest,
        by_reference,
        encoded,
        False,
        as_list,
        cost or {},
        None,
        log_level,
        sends_values=sends_values,
    )


def job(index: int, *args: Any, number: int = 0, attempt: int = 1) -> Job:
    return Job(index, attempt, number, [encode(arg).to_bytes() for arg in args], None)


def zygote_of(store: Path) -> psutil.Process:
    """Find the zygote that was started with a store; others may be children of the same process."""
    children = psutil.Process().children()
    return next(child for child in children if str(store) in child.cmdline())


class PoolHarness:
    """Records a pool's events, and waits for them."""

    def __init__(self, store: Path, inline_limit: int = 64 * 1024, disk: Path | None = None) -> None:
        self.store = store
        self.pool = WorkerPool(self, store, inline_limit, disk, node="n1")
        self.events: list[tuple[Any, ...]] = []
        self.pids: dict[int, int] = {}
        self.exits: dict[int, tuple[int | None, int | None]] = {}
        self.unfit: dict[int, tuple[JobKey, str]] = {}
        self.recalls: list[list[JobKey]] = []
        self.waits: list[WaitChanged] = []
        #: By index: a job that ended well, or (kind, error, reason) of one that did not.
        self.done: dict[int, Done] = {}
        self.failed: dict[int, tuple[WorkerFailureKind, bytes, str]] = {}
        #: Of jobs that failed, and of workers that ended.
        self.traces: dict[int, Traces] = {}
        self.last_traces: dict[int, Traces] = {}
        #: Output of functions, in order.
        self.said: list[Said] = []
        #: What stages have answered: the attempt, rows, and index and size of stored values.
        self.answers: list[tuple[JobKey, list[FromStage], list[tuple[int, int]]]] = []
        #: Functions that have asked for their ids.
        self.asked: list[JobKey] = []
        self._changed = asyncio.Event()
        self._indices = itertools.count(1_000_000)

    def worker_up(self, worker: WorkerId, pid: int) -> None:
        self.pids[worker] = pid
        self._record("up", worker)

    def worker_done(self, worker: WorkerId, run: RunId, done: list[Done]) -> None:
        self.done |= {entry.index: entry for entry in done}
        self._record("done", worker, [entry.index for entry in done])

    def worker_failed(
        self,
        worker: WorkerId,
        run: RunId,
        index: int,
        attempt: int,
        kind: WorkerFailureKind,
        error: bytes,
        reason: str,
        ran_s: float,
        traces: Traces,
    ) -> None:
        self.traces[index] = traces
        self.failed[index] = (kind, error, reason)
        self._record("failed", worker, index)

    def worker_recalled(self, worker: WorkerId, jobs: list[JobKey]) -> None:
        self.recalls.append(jobs)
        self._record("recalled", worker)

    def worker_unfit(self, worker: WorkerId, run: RunId, index: int, attempt: int, reason: str) -> None:
        self.unfit[worker] = ((run, index, attempt), reason)
        self._record("unfit", worker)

    def wait_changed(self, change: WaitChanged) -> None:
        self.waits.append(change)
        self._changed.set()

    def object_made(self, worker: WorkerId, key: bytes, nbytes: int) -> None:
        self._record("made", worker, key)

    def stage_answered(
        self, worker: WorkerId, key: JobKey, content: bytes, stored: Sequence[tuple[int, int]]
    ) -> None:
        self.answers.append((key, from_stage(content), list(stored)))
        self._changed.set()

    def output_received(self, run: RunId, said: Sequence[Said]) -> None:
        self.said += said
        self._changed.set()

    def id_asked(self, key: JobKey) -> None:
        self.asked.append(key)
        self._changed.set()

    def worker_exited(
        self, worker: WorkerId, signal: int | None, exit_code: int | None, traces: Traces
    ) -> None:
        self._record("exited", worker)
        self.exits[worker] = (signal, exit_code)
        self.last_traces[worker] = traces

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for a condition on what is recorded."""
        async with asyncio.timeout(30):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def exit_of(self, worker: int) -> tuple[int | None, int | None]:
        await self.until(lambda: worker in self.exits)
        return self.exits[worker]

    def result(self, index: int) -> Any:
        """Decode the result of a job that ended well."""
        value = self.done[index].value
        assert isinstance(value, bytes), "it is in the store"
        return decode(value)

    def stored_nbytes(self, index: int) -> int:
        """The size of a result that is in the store."""
        value = self.done[index].value
        assert isinstance(value, int), "it is no stored result"
        return value

    def start(self, worker: WorkerId, code: Callable[..., Any], *args: Any, run: int | None = None) -> int:
        """Give one job, in a run of its own; returns its index."""
        index = next(self._indices)
        self.pool.give(worker, RunId(run or index), {0: template(code)}, [job(index, *args)], None)
        return index

    async def end_of(self, index: int) -> None:
        await self.until(lambda: index in self.done or index in self.failed)

    async def call(self, worker: WorkerId, code: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run one function; gives its value, or its size if that was stored, or raises what it raised."""
        return await self.call_with(worker, code, [encode(arg).to_bytes() for arg in args], (), kwargs)

    async def error_of(self, worker: WorkerId, code: Callable[..., Any]) -> BaseException:
        """Run one function that raises; gives what it raised."""
        index = self.start(worker, code)
        await self.end_of(index)
        return decode_exception(self.failed[index][1])

    async def call_with(
        self,
        worker: WorkerId,
        code: Callable[..., Any],
        args: Sequence[Arg],
        extra_args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        as_list: bool = False,
        devices: str | None = None,
        cost: Resources | None = None,
    ) -> Any:
        index = next(self._indices)
        constants = encode_call(extra_args, kwargs).to_bytes() if extra_args or kwargs else None
        only = {0: template(code, as_list=as_list, cost=cost)}
        self.pool.give(worker, RunId(index), only, [Job(index, 1, 0, list(args), constants)], devices)
        await self.end_of(index)
        self.pool.forget(RunId(index))
        if index in self.failed:
            kind, error, reason = self.failed[index]
            raise decode_exception(error) if error else JobFailed(kind, reason)
        value = self.done[index].value
        return decode(value) if isinstance(value, bytes) else value

    def _record(self, *event: Any) -> None:
        assert event[1] not in self.exits, "no event of a worker comes after its end"
        self.events.append(event)
        self._changed.set()


class JobFailed(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason


def assert_ended(process: psutil.Process) -> None:
    """Assert that a process ends within seconds; a zombie has ended."""
    gone, alive = psutil.wait_procs([process], timeout=10)
    assert gone or alive[0].status() == psutil.STATUS_ZOMBIE
