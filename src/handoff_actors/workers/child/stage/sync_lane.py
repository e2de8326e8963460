"""A lane of functions that are not coroutines: one item after the other, in the order in which they came."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

from handoff_actors.moving_average import UNKNOWN, peak_smoothed
from handoff_actors.skip import SKIP
from handoff_actors.wire.messages.stage_rows import (
    CloseStage,
    FinishStage,
    Generate,
    GenerateMore,
    OutcomeRow,
    RunBatch,
    RunChunk,
    RunItem,
    StageReady,
    ToStage,
    ValueRow,
)
from handoff_actors.wire.payload import decode
from handoff_actors.wire.pickling import pickled_small
from handoff_actors.workers.child.evaluation import UserRaised
from handoff_actors.workers.child.stage.answers import FAST_S, MOST_NBYTES
from handoff_actors.workers.child.stage.arguments import InlineSkipped
from handoff_actors.workers.child.stage.channel import NOTHING, StageChannel, stage_channel
from handoff_actors.workers.child.stage.code import CodeOutcome, StageCode, is_iterated
from handoff_actors.workers.stage_protocol import to_stage
from handoff_actors.workers.stage_spec import StageSpec

_DECAY: Final = 0.2


def run_sync_stage(spec: StageSpec, extra_args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """See `run_stage`."""
    state = None if spec.init is None else spec.init()
    channel = stage_channel()
    code = StageCode(spec, state, extra_args, kwargs, channel)
    try:
        SyncLane(code, channel).run()
    finally:
        channel.close()
    if spec.close is not None:
        spec.close(code.state)


class _SyncGenerator:
    """A generator that has not ended."""

    def __init__(self, number: int, iterator: Iterator[Any], skipped: int, *, may_give_state: bool) -> None:
        self.number = number
        self.iterator = iterator
        #: So many results are still to be left out.
        self.skipped = skipped
        #: What it returns at its end is the new state, unless it is None.
        self.may_give_state = may_give_state
        #: The duration of a result.
        self.usual_s = UNKNOWN


class SyncLane:
    """Works on the rows of one lane until it is closed."""

    def __init__(self, code: StageCode, channel: StageChannel) -> None:
        self._code = code
        self._spec = code.spec
        self._answers = code.answers
        self._channel = channel
        self._generators: dict[int, _SyncGenerator] = {}
        self._acts: dict[type[ToStage], Callable[[Any], None]] = {
            RunItem: self._run_item,
            RunChunk: self._run_chunk,
            RunBatch: self._run_batch,
            Generate: self._generate,
            GenerateMore: self._generate_more,
            FinishStage: self._finish,
        }

    def run(self) -> None:
        """Take rows, and answer them."""
        self._answers.add(StageReady(self._spec.stage, self._spec.lane))
        self._answers.flush()
        is_open = True
        while is_open:
            contents = self._channel.take(waits=True)
            self._answers.begin(perf_counter())
            for content in contents:
                is_open = is_open and self._work_on(content)
            # What the last rows took may be taken again by the next.
            self._channel.mappings.settle()
            self._answers.flush()
        self._close_generators()

    def _work_on(self, content: bytes) -> bool:
        """Work on rows; False once the lane is to be closed."""
        for row in to_stage(content):
            if isinstance(row, CloseStage):
                return False
            self._acts[type(row)](row)
        return True

    def _call(
        self, code: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any] = NOTHING
    ) -> Any:
        return self._settled(self._channel.call(code, args, kwargs))

    def _settled(self, result: Any) -> Any:
        if hasattr(type(result), "__await__"):
            return self._channel.call(_awaited, (result,))
        return result

    # --- Items --------------------------------------------------------------------------------------------------

    def _run_item(self, item: RunItem) -> None:
        began_at = perf_counter()
        outcome, keys = self._ended_with(item.values)
        now = perf_counter()
        self._answers.ended(((item.number, outcome, keys),), began_at, now)
        self._answers.send_if_due(now)

    def _ended_with_value(self, value: bytes) -> OutcomeRow:
        """Do what `_outcome` does, with fewer steps, as this is most of what a short item costs."""
        try:
            result = self._channel.call(self._spec.code, (decode(value),), self._code.kwargs)
            encoded = pickled_small(result)
            if encoded is not None:
                return encoded
            return self._code.row(self._settled(result))[0]
        except BaseException as error:  # noqa: BLE001 - whatever an item ends with, the stage goes on
            return self._code.results.failure(error)

    def _outcome(self, value: bytes) -> OutcomeRow:
        return self._ended_with((value,))[0]

    def _ended_with(self, values: Sequence[ValueRow]) -> CodeOutcome:
        try:
            return self._evaluated(values)
        except InlineSkipped:
            return None, ()
        except BaseException as error:  # noqa: BLE001 - whatever an item ends with, the stage goes on
            return self._code.results.failure(error), ()

    def _evaluated(self, values: Sequence[ValueRow]) -> CodeOutcome:
        code = self._code
        args = code.args(values, self._call)
        return code.outcome(self._call(self._spec.code, code.positional(args), code.kwargs))

    def _run_chunk(self, chunk: RunChunk) -> None:
        due_at, room = self._answers.due_at, MOST_NBYTES
        slowest_s, outcomes = 0.0, list[OutcomeRow]()
        ended_with = self._ended_with_value if self._code.takes_value_alone else self._outcome
        sent_at = began_at = perf_counter()
        for value in chunk.values:
            outcome = ended_with(value)
            outcomes.append(outcome)
            if type(outcome) is bytes:
                room -= len(outcome)
            now = perf_counter()
            slowest_s = max(slowest_s, now - began_at)
            began_at = now
            # This is for each item.
            if now >= due_at or slowest_s > FAST_S or room < 0:
                self._answers.chunk_ended(chunk.number, outcomes, now - sent_at, slowest_s)
                self._answers.flush()
                due_at, room, sent_at = self._answers.due_at, MOST_NBYTES, now
                slowest_s, outcomes = 0.0, []
        if outcomes:
            self._answers.chunk_ended(chunk.number, outcomes, began_at - sent_at, slowest_s)
        self._answers.send_if_worth_it(began_at)

    def _run_batch(self, batch: RunBatch) -> None:
        began_at = perf_counter()
        outcomes: dict[int, CodeOutcome] = {}
        taken: dict[int, tuple[Any, ...]] = {}
        for place, values in enumerate(batch.values):
            try:
                taken[place] = tuple(self._code.args(values, self._call))
            except InlineSkipped:
                outcomes[place] = None, ()
            except BaseException as error:  # noqa: BLE001 - as in `_run_item`
                outcomes[place] = self._code.results.failure(error), ()
        if taken:
            outcomes.update(zip(taken, self._batch_outcomes(list(taken.values())), strict=True))
        now = perf_counter()
        self._answers.batch_ended(batch, [outcomes[place] for place in range(len(outcomes))], began_at, now)
        self._answers.send_if_due(now)

    def _batch_outcomes(self, items: list[tuple[Any, ...]]) -> list[CodeOutcome]:
        code = self._code
        try:
            returned = self._call(self._spec.code, code.positional_of_batch(items), code.kwargs)
            return code.outcomes(returned, len(items))
        except BaseException as error:  # noqa: BLE001 - as in `_run_item`
            return [(code.results.failure(error), ())] * len(items)

    # --- Generators ---------------------------------------------------------------------------------------------

    def _generate(self, wanted: Generate) -> None:
        code, began_at = self._code, perf_counter()
        number = wanted.number
        try:
            args = code.args(wanted.values, self._call)
            produced = self._call(self._spec.code, code.positional(args), code.kwargs)
            iterator = self._channel.call(iter, (produced,))
        except InlineSkipped:
            self._answers.generated(number, [], perf_counter() - began_at, is_end=True)
        except BaseException as error:  # noqa: BLE001 - as in `_run_item`
            failure = code.results.failure(error)
            self._answers.generated(number, [], perf_counter() - began_at, is_end=True, failure=failure)
        else:
            generator = _SyncGenerator(number, iterator, wanted.skipped, may_give_state=code.has_state)
            self._advance(generator, wanted.credit, began_at)

    def _generate_more(self, wanted: GenerateMore) -> None:
        generator = self._generators.get(wanted.number)
        if generator is None:
            return
        if wanted.credit:
            self._advance(generator, wanted.credit, perf_counter())
        else:
            self._close(self._generators.pop(wanted.number))

    def _finish(self, wanted: FinishStage) -> None:
        began_at = perf_counter()
        try:
            produced = (
                None if self._spec.finish is None else self._call(self._spec.finish, (self._code.state,))
            )
        except BaseException as error:  # noqa: BLE001 - as in `_run_item`
            failure = self._code.results.failure(error)
            self._answers.generated(
                wanted.number, [], perf_counter() - began_at, is_end=True, failure=failure
            )
            return
        results: Any = produced if is_iterated(produced) else [] if produced is None else [produced]
        generator = _SyncGenerator(wanted.number, iter(results), 0, may_give_state=False)
        self._advance(generator, wanted.credit, began_at)

    def _advance(self, generator: _SyncGenerator, credit: int, began_at: float) -> None:
        """Take so many results of a generator."""
        self._generators[generator.number] = generator
        results: list[CodeOutcome] = []
        while credit > 0:
            try:
                outcome = self._next(generator)
            except BaseException as error:  # noqa: BLE001 - as in `_run_item`
                self._ended(generator, error, results, perf_counter() - began_at)
                return
            if outcome is not None:
                results.append(outcome)
                credit -= 1
            now = perf_counter()
            if results and self._answers.is_held_too_long(now, generator.usual_s):
                self._answers.generated(generator.number, results, now - began_at, is_end=False)
                self._answers.flush()
                results, began_at = [], now
        self._answers.generated(generator.number, results, perf_counter() - began_at, is_end=False)

    def _next(self, generator: _SyncGenerator) -> CodeOutcome | None:
        """Take the next result; None: it is to be left out."""
        began_at = perf_counter()
        result = self._channel.call(next, (generator.iterator,))
        if result is SKIP:
            return None
        if generator.skipped:
            generator.skipped -= 1
            return None
        outcome = self._code.row(result)
        generator.usual_s = peak_smoothed(generator.usual_s, perf_counter() - began_at, _DECAY)
        return outcome

    def _ended(
        self, generator: _SyncGenerator, error: BaseException, results: list[CodeOutcome], seconds: float
    ) -> None:
        del self._generators[generator.number]
        failure = None
        if isinstance(error, UserRaised) and isinstance(error.error, StopIteration):
            if generator.may_give_state and error.error.value is not None:
                self._code.keep(error.error.value)
        else:
            failure = self._code.results.failure(error)
            self._close(generator)
        self._answers.generated(generator.number, results, seconds, is_end=True, failure=failure)

    def _close_generators(self) -> None:
        for generator in self._generators.values():
            self._close(generator)

    def _close(self, generator: _SyncGenerator) -> None:
        close = getattr(generator.iterator, "close", None)
        if close is not None:
            # Its end is not awaited by anybody.
            with suppress(UserRaised):
                self._channel.call(close, ())


def _awaited(result: Awaitable[Any]) -> Any:
    import asyncio  # noqa: PLC0415 - few lanes need it, and it takes longer to import than all else

    async def outcome() -> Any:
        return await result

    return asyncio.run(outcome())
