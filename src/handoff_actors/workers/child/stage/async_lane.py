"""A lane with coroutine functions: several items at once on an event loop of its own, answered as they end."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, assert_never

from handoff_actors.skip import SKIP
from handoff_actors.store.mappings import KEPT_S
from handoff_actors.wire.messages.stage_rows import (
    CloseStage,
    FinishStage,
    Generate,
    GenerateMore,
    RunBatch,
    RunChunk,
    RunItem,
    StageReady,
    ToStage,
    ValueRow,
)
from handoff_actors.workers.child.evaluation import UserRaised
from handoff_actors.workers.child.stage.arguments import InlineSkipped
from handoff_actors.workers.child.stage.channel import NOTHING, StageChannel, stage_channel
from handoff_actors.workers.child.stage.code import CodeOutcome, StageCode, is_iterated
from handoff_actors.workers.stage_protocol import to_stage
from handoff_actors.workers.stage_spec import StageSpec


def run_async_stage(spec: StageSpec, extra_args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """See `run_stage`."""
    # Not `runner.run`, which would have SIGINT cancel the whole stage.
    with asyncio.Runner() as runner:
        runner.get_loop().run_until_complete(_run(spec, extra_args, kwargs))


async def _run(spec: StageSpec, extra_args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    state = None if spec.init is None else await _finished(spec.init())
    channel = stage_channel()
    code = StageCode(spec, state, extra_args, kwargs, channel)
    try:
        await _AsyncLane(code, channel).run()
    finally:
        channel.close()
    if spec.close is not None:
        await _finished(spec.close(code.state))


async def _finished(result: Any) -> Any:
    return await result if hasattr(type(result), "__await__") else result


class _AsyncGenerator:
    """A generator that has not ended."""

    def __init__(self, number: int, iterator: Any, skipped: int, *, may_give_state: bool) -> None:
        self.number = number
        self.iterator = iterator
        self.is_async = hasattr(type(iterator), "__anext__")
        #: So many results are still to be left out.
        self.skipped = skipped
        #: So many may be sent.
        self.credit = 0
        #: What it returns at its end is the new state, unless it is None.
        self.may_give_state = may_give_state
        self.is_running = False


class _AsyncLane:
    """Works on the rows of one lane until it is closed."""

    def __init__(self, code: StageCode, channel: StageChannel) -> None:
        self._code = code
        self._spec = code.spec
        self._answers = code.answers
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        #: Rows that wait for an item to end.
        self._waiting: deque[ToStage] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._generators: dict[int, _AsyncGenerator] = {}
        self._is_flush_due = False

    async def run(self) -> None:
        """Take rows, and answer them."""
        self._answers.add(StageReady(self._spec.stage, self._spec.lane))
        self._answers.flush()
        for descriptor in self._channel.descriptors:
            self._loop.add_reader(descriptor, self._guarded, self._receive)
        try:
            await self._closed
        finally:
            for descriptor in self._channel.descriptors:
                self._loop.remove_reader(descriptor)
            await self._end_tasks()
        self._answers.flush()
        for generator in self._generators.values():
            await self._close(generator)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do something from a callback of the loop: a bug of ours ends the stage."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the loop would only log it
            self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        if self._closed.done():
            return
        if error is None:
            self._closed.set_result(None)
        else:
            self._closed.set_exception(error)

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- Rows ---------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        for content in self._channel.take(waits=False):
            for row in to_stage(content):
                self._waiting.append(row)
        self._start()

    def _start(self) -> None:
        while self._waiting and len(self._tasks) < self._spec.concurrency and not self._closed.done():
            row = self._waiting.popleft()
            if isinstance(row, CloseStage):
                self._end()
                return
            if isinstance(row, GenerateMore):
                self._generate_more(row)
                continue
            assert not isinstance(row, RunChunk), "items of a coroutine function are known one by one"
            self._create_task(self._work_on(row))

    def _create_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._end(task.exception())
        self._start()
        if not self._tasks:
            self._channel.mappings.settle()
            self._loop.call_later(KEPT_S, self._let_go)

    def _let_go(self) -> None:
        if not self._tasks:
            self._channel.mappings.let_go()

    async def _work_on(self, row: RunItem | RunBatch | Generate | FinishStage) -> None:
        match row:
            case RunItem():
                await self._run_item(row)
            case RunBatch():
                await self._run_batch(row)
            case Generate():
                await self._generate(row)
            case FinishStage():
                await self._finish(row)
            case _:
                assert_never(row)

    def _flush_soon(self) -> None:
        # What ends in the same turn of the loop shares a message.
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        self._answers.flush()

    async def _call(
        self, code: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] = NOTHING
    ) -> Any:
        try:
            result = await _finished(code(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - as in `_outcome`
            raise self._raised(error) from None
        self._channel.check_fork()
        return result

    def _raised(self, error: BaseException) -> BaseException:
        """Wrap an error of user code, but for the cancellation of a task when the stage is closed."""
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            return error
        return self._channel.raised(error)

    # --- Items --------------------------------------------------------------------------------------------------

    async def _run_item(self, item: RunItem) -> None:
        began_at = perf_counter()
        outcome = await self._outcome(self._evaluated(item.values))
        self._answers.ended([(item.number, *outcome)], began_at, perf_counter())
        self._flush_soon()

    async def _outcome(self, work: Coroutine[Any, Any, CodeOutcome]) -> CodeOutcome:
        try:
            return await work
        except InlineSkipped:
            return None, ()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever an item ends with, the stage goes on
            return self._code.results.failure(error), ()

    async def _evaluated(self, values: Sequence[ValueRow]) -> CodeOutcome:
        code = self._code
        args = await code.awaited_args(values, self._call)
        return code.outcome(await self._call(self._spec.code, code.positional(args), code.kwargs))

    async def _run_batch(self, batch: RunBatch) -> None:
        began_at = perf_counter()
        outcomes: dict[int, CodeOutcome] = {}
        taken: dict[int, tuple[Any, ...]] = {}
        for number, values in batch.items:
            refused = await self._outcome(self._collect(number, values, taken))
            if number not in taken:
                outcomes[number] = refused
        if taken:
            outcomes.update(zip(taken, await self._batch_outcomes(list(taken.values())), strict=True))
        ends = [(number, *outcomes[number]) for number, _ in batch.items]
        self._answers.ended(ends, began_at, perf_counter())
        self._flush_soon()

    async def _collect(
        self, number: int, values: Sequence[ValueRow], taken: dict[int, tuple[Any, ...]]
    ) -> CodeOutcome:
        taken[number] = tuple(await self._code.awaited_args(values, self._call))
        return None, ()

    async def _batch_outcomes(self, items: list[tuple[Any, ...]]) -> list[CodeOutcome]:
        code = self._code
        try:
            returned = await self._call(self._spec.code, code.positional_of_batch(items), code.kwargs)
            return code.outcomes(returned, len(items))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - as in `_outcome`
            return [(code.results.failure(error), ())] * len(items)

    # --- Generators ---------------------------------------------------------------------------------------------

    async def _generate(self, wanted: Generate) -> None:
        code, began_at = self._code, perf_counter()
        made: list[_AsyncGenerator] = []

        async def make() -> CodeOutcome:
            args = await code.awaited_args(wanted.values, self._call)
            produced = await self._call(self._spec.code, code.positional(args), code.kwargs)
            iterator = (
                produced if hasattr(type(produced), "__anext__") else self._channel.call(iter, (produced,))
            )
            made.append(
                _AsyncGenerator(wanted.number, iterator, wanted.skipped, may_give_state=code.has_state)
            )
            return None, ()

        failed, _ = await self._outcome(make())
        await self._begin(wanted.number, made, failed, wanted.credit, began_at)

    async def _finish(self, wanted: FinishStage) -> None:
        began_at = perf_counter()
        made: list[_AsyncGenerator] = []

        async def make() -> CodeOutcome:
            finish = self._spec.finish
            produced: Any = None if finish is None else await self._call(finish, (self._code.state,))
            if not hasattr(type(produced), "__anext__"):
                produced = iter(produced if is_iterated(produced) else [] if produced is None else [produced])
            made.append(_AsyncGenerator(wanted.number, produced, 0, may_give_state=False))
            return None, ()

        failed, _ = await self._outcome(make())
        await self._begin(wanted.number, made, failed, wanted.credit, began_at)

    async def _begin(
        self, number: int, made: list[_AsyncGenerator], failed: Any, credit: int, began_at: float
    ) -> None:
        if made:
            self._generators[number] = made[0]
            made[0].credit += credit
            await self._advance(made[0], began_at)
            return
        self._answers.generated(number, [], perf_counter() - began_at, is_end=True, failure=failed)
        self._flush_soon()

    def _generate_more(self, wanted: GenerateMore) -> None:
        generator = self._generators.get(wanted.number)
        if generator is None:
            return
        if not wanted.credit:
            self._create_task(self._close(self._generators.pop(wanted.number)))
            return
        generator.credit += wanted.credit
        if not generator.is_running:
            self._create_task(self._advance(generator, perf_counter()))

    async def _advance(self, generator: _AsyncGenerator, began_at: float) -> None:
        """Take the results of a generator that may be sent."""
        generator.is_running = True
        try:
            while generator.credit > 0:
                outcome = await self._next(generator)
                if outcome is not None:
                    generator.credit -= 1
                    now = perf_counter()
                    self._answers.generated(generator.number, [outcome], now - began_at, is_end=False)
                    began_at = now
                    self._flush_soon()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - as in `_outcome`
            await self._ended(generator, error, perf_counter() - began_at)
        finally:
            generator.is_running = False

    async def _next(self, generator: _AsyncGenerator) -> CodeOutcome | None:
        """Take the next result; None: it is to be left out."""
        if generator.is_async:
            result = await self._call(generator.iterator.__anext__, ())
        else:
            result = self._channel.call(next, (generator.iterator,))
        if result is SKIP:
            return None
        if generator.skipped:
            generator.skipped -= 1
            return None
        return self._code.row(result)

    async def _ended(self, generator: _AsyncGenerator, error: BaseException, seconds: float) -> None:
        del self._generators[generator.number]
        failure = None
        raised = error.error if isinstance(error, UserRaised) else error
        if isinstance(raised, StopIteration):
            if generator.may_give_state and raised.value is not None:
                self._code.keep(raised.value)
        elif not isinstance(raised, StopAsyncIteration):
            failure = self._code.results.failure(error)
            await self._close(generator)
        self._answers.generated(generator.number, [], seconds, is_end=True, failure=failure)
        self._flush_soon()

    async def _close(self, generator: _AsyncGenerator) -> None:
        close = getattr(generator.iterator, "aclose" if generator.is_async else "close", None)
        if close is not None:
            # Its end is not awaited by anybody.
            with suppress(UserRaised):
                await self._call(close, ())
