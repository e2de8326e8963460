"""Stages of streams in real workers, which are told and answer over the pool."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_actors as handoff
from handoff_actors.ids import RunId
from handoff_actors.wire.exceptions import decode_exception
from handoff_actors.wire.messages.jobs import Emitted, Job, Printed
from handoff_actors.wire.messages.stage_rows import (
    ChunkEnded,
    CloseStage,
    FinishStage,
    FromStage,
    Generate,
    Generated,
    GenerateMore,
    ItemsEnded,
    RunBatch,
    RunChunk,
    RunItem,
    StageReady,
    ToStage,
)
from handoff_actors.wire.payload import decode, encode, encode_call
from handoff_actors.workers.child.stage.run import run_stage
from handoff_actors.workers.protocol import JobKey
from handoff_actors.workers.stage_keys import key_hash
from handoff_actors.workers.stage_protocol import content_of, first_index
from handoff_actors.workers.stage_spec import FromProducer, Given, InlineCall, StageSpec
from tests.workers.pool_harness import RUN, SYNC, PoolHarness, template

INDEX = 5
KEY: JobKey = (RUN, INDEX, 1)
ONE = (FromProducer(0),)


class Lane:
    """A stage on the sync worker of a pool, and what it answers."""

    def __init__(self, harness: PoolHarness) -> None:
        self._harness = harness
        self._taken = 0

    async def start(self, code: Callable[..., Any], *extra: Any, **fields: Any) -> None:
        kwargs = fields.pop("kwargs", {})
        args = fields.pop("args", ONE)
        spec = StageSpec(3, 1, "'double'", code, args, **fields)
        constants = encode_call((spec, *extra), kwargs).to_bytes()
        templates = {0: template(run_stage, log_level=20, sends_values=True)}
        self._harness.pool.give(SYNC, RUN, templates, [Job(INDEX, 1, 0, [], constants)], None)
        assert await self.next() == [StageReady(3, 1)]

    def tell(self, *rows: ToStage) -> None:
        self._harness.pool.pass_rows(SYNC, KEY, content_of(rows))

    async def next(self) -> list[FromStage]:
        await self._harness.until(
            lambda: len(self._harness.answers) > self._taken or bool(self._harness.failed)
        )
        assert not self._harness.failed
        key, rows, _ = self._harness.answers[self._taken]
        assert key == KEY
        self._taken += 1
        return rows

    async def ends(self, count: int) -> dict[int, Any]:
        """The outcomes of so many items, by number."""
        found: dict[int, Any] = {}
        while len(found) < count:
            for row in await self.next():
                assert isinstance(row, ItemsEnded)
                found |= {number: outcome for number, outcome, _ in row.ends}
        return found

    async def chunk(self, number: int, count: int) -> list[list[Any]]:
        """The outcomes of a chunk of so many items, as they came together."""
        found: list[list[Any]] = []
        while sum(map(len, found)) < count:
            for row in await self.next():
                assert isinstance(row, ChunkEnded)
                assert row.number == number
                found.append([*row.outcomes])
        return found

    async def results(self, number: int) -> tuple[list[Any], Generated]:
        """The results of a generator up to the end of what it was allowed, and the last row."""
        found: list[Any] = []
        while True:
            for row in await self.next():
                assert isinstance(row, Generated)
                assert row.number == number
                found += [value_of(outcome) for outcome, _ in row.results]
                if row.is_end:
                    return found, row

    async def close(self) -> None:
        self.tell(CloseStage())
        await self._harness.end_of(INDEX)
        assert not self._harness.failed, self._harness.failed
        assert self._harness.result(INDEX) is None


@pytest.fixture
def lane(harness: PoolHarness) -> Lane:
    return Lane(harness)


def enc(value: Any) -> bytes:
    return encode(value).to_bytes()


def item(number: int, *values: Any) -> RunItem:
    return RunItem(number, [enc(value) for value in values])


def value_of(outcome: Any) -> Any:
    assert isinstance(outcome, bytes), outcome
    return decode(outcome)


def error_of(outcome: Any) -> BaseException:
    assert len(outcome) == 4, outcome
    return decode_exception(outcome[1])


def double(x: int) -> int:
    return 2 * x


async def test_items_are_answered_in_order_in_few_messages(harness: PoolHarness, lane: Lane) -> None:
    await lane.start(double)

    lane.tell(*(item(number, number) for number in range(1000)))
    ends = await lane.ends(1000)

    assert [*ends] == [*range(1000)]
    assert {number: value_of(outcome) for number, outcome in ends.items()} == {n: 2 * n for n in range(1000)}
    await lane.close()
    assert len(harness.answers) < 100


async def test_items_of_a_chunk_are_answered_together(lane: Lane) -> None:
    await lane.start(double)
    lane.tell(RunChunk(7, [enc(number) for number in range(1000)]))

    outcomes = await lane.chunk(7, 1000)

    assert len(outcomes) < 200
    assert [value_of(outcome) for together in outcomes for outcome in together] == [
        2 * number for number in range(1000)
    ]
    await lane.close()


async def test_slow_items_of_a_chunk_are_answered_at_once(lane: Lane) -> None:
    def wait(x: float) -> float:
        time.sleep(x)
        return x

    await lane.start(wait)
    lane.tell(item(1, 0.0))
    await lane.ends(1)
    lane.tell(RunChunk(2, [enc(seconds) for seconds in (0.0, 0.02, 0.02, 0.02)]))

    # Whether the first one has gone before the second was found to be slow is a matter of luck.
    assert [len(outcomes) for outcomes in await lane.chunk(2, 4)][-2:] == [1, 1]
    await lane.close()


async def test_each_item_of_a_chunk_has_its_own_end(harness: PoolHarness, lane: Lane) -> None:
    ends = {"skip": handoff.SKIP, "large": np.ones(50_000), "list": [1, 2], "text": "a"}
    await lane.start(lambda name: ends[name])
    lane.tell(RunChunk(1, [enc(name) for name in ("skip", "large", "none", "list", "text")]))

    skipped, large, failed, *others = [one for together in await lane.chunk(1, 5) for one in together]

    assert skipped is None
    assert [tuple(large)] == [entry for _, _, stored in harness.answers for entry in stored]
    assert isinstance(error_of(failed), KeyError)
    assert [value_of(other) for other in others] == [[1, 2], "a"]
    await lane.close()


async def test_items_of_a_chunk_pass_on_the_state(lane: Lane) -> None:
    def count(state: list[int], x: int) -> tuple[int, list[int]]:
        return sum(state) + x, [*state, x]

    await lane.start(count, init=lambda: [1])
    lane.tell(RunChunk(1, [enc(number) for number in (10, 20)]))

    assert [value_of(outcome) for outcomes in await lane.chunk(1, 2) for outcome in outcomes] == [11, 31]
    await lane.close()


async def test_extra_args_come_behind_the_values_and_kwargs_by_name(lane: Lane) -> None:
    def collect(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    inline = InlineCall("inc", lambda x, y: x + y, (FromProducer(1),), (10,))
    nested = InlineCall(
        "list", lambda xs, *, sign: [sign * x for x in xs], (inline, Given(7)), (), {"sign": -1}, True
    )
    await lane.start(collect, "extra", args=(FromProducer(1), nested, FromProducer(0)), kwargs={"k": 1})

    lane.tell(item(1, "a", 2))

    assert decode((await lane.ends(1))[1]) == ((2, [-12, -7], "a", "extra"), {"k": 1})
    await lane.close()


async def test_as_list_gives_the_values_as_one_list(lane: Lane) -> None:
    await lane.start(lambda xs, y: (xs, y), 9, args=(FromProducer(0), FromProducer(1)), as_list=True)

    lane.tell(item(1, 2, 3))

    assert decode((await lane.ends(1))[1]) == ([2, 3], 9)
    await lane.close()


async def test_state_is_made_once_given_first_and_closed(lane: Lane, tmp_path: Path) -> None:
    def add(state: list[int], x: int) -> tuple[int, list[int]]:
        state.append(x)
        return sum(state), state

    def close(state: list[int]) -> None:
        (tmp_path / "closed").write_text(str(state))

    await lane.start(add, init=lambda: [100], close=close)

    lane.tell(item(1, 1), item(2, 2))
    rows = await lane.next()
    while sum(len(row.ends) for row in rows if isinstance(row, ItemsEnded)) < 2:
        rows += await lane.next()

    ends = {number: outcome for row in rows if isinstance(row, ItemsEnded) for number, outcome, _ in row.ends}
    assert {number: value_of(outcome) for number, outcome in ends.items()} == {1: 101, 2: 103}
    assert not any(row.has_replaced_state for row in rows if isinstance(row, ItemsEnded))
    await lane.close()
    assert (tmp_path / "closed").read_text() == "[100, 1, 2]"


async def test_a_failed_item_keeps_the_state_and_another_object_is_told_of(lane: Lane) -> None:
    def count(state: int, x: int) -> Any:
        if x == 0:
            raise ValueError("zero")
        if x == 1:
            return "no pair"
        if x == 3:
            # It can't be pickled.
            return threading.Lock(), state + 1000
        return state, state + 1

    await lane.start(count, init=int)

    lane.tell(item(1, 0), item(2, 1), item(3, 3))
    ends = await lane.ends(3)
    lane.tell(item(4, 9), item(5, 9))
    rows = await lane.next()

    assert isinstance(error_of(ends[1]), ValueError)
    assert ends[1][0] == "exception"
    assert ends[1][3] == ""
    assert "stage 'double': it has init, so it must return (result, state)" in str(error_of(ends[2]))
    assert ends[2][3] == "TypeError is not retried unless retry_on says so"
    assert ends[3][0] == "serialization"
    assert isinstance(rows[0], ItemsEnded)
    assert value_of(rows[0].ends[0][1]) == 0
    assert rows[0].has_replaced_state
    await lane.ends(2 - len(rows[0].ends))
    await lane.close()


async def test_iterator_that_is_no_generator_s_is_refused_with_a_way_out(lane: Lane) -> None:
    await lane.start(lambda x: (each for each in range(x)))

    lane.tell(item(1, 3))

    error = error_of((await lane.ends(1))[1])
    assert isinstance(error, handoff.SerializationError)
    assert "stage 'double' returned an object of type generator, which can't travel" in str(error)
    assert "with yield in it" in str(error)
    await lane.close()


async def test_skip_ends_an_item_without_a_value(lane: Lane) -> None:
    await lane.start(lambda x: handoff.SKIP if x else x)

    lane.tell(item(1, 1), item(2, 0))

    ends = await lane.ends(2)
    assert ends[1] is None
    assert decode(ends[2]) == 0
    await lane.close()


async def test_an_inline_function_may_fail_or_skip_its_item(lane: Lane) -> None:
    def check(x: int) -> Any:
        return handoff.SKIP if x == 1 else 1 // x

    await lane.start(double, args=(InlineCall("check", check, (FromProducer(0),)),))

    lane.tell(item(1, 1), item(2, 0), item(3, -1))

    ends = await lane.ends(3)
    assert ends[1] is None
    assert isinstance(error_of(ends[2]), ZeroDivisionError)
    assert decode(ends[3]) == -2
    await lane.close()


async def test_system_exit_and_rules_of_retries_fail_the_item_alone(lane: Lane) -> None:
    def leave(x: int) -> None:
        raise SystemExit(x)

    await lane.start(leave, retry_on=KeyError)

    lane.tell(item(1, 1), RunItem(2, [b"no pickle"]), RunItem(3, [(99, 10)]))

    ends = await lane.ends(3)
    assert isinstance(error_of(ends[1]), SystemExit)
    assert ends[1][3] == "SystemExit is not among its retry_on"
    assert ends[2][0] == "serialization"
    assert ends[3][0] == "input"
    await lane.close()


async def test_init_that_raises_fails_the_function(harness: PoolHarness, lane: Lane) -> None:
    def init() -> None:
        raise OSError("no model")

    with pytest.raises(AssertionError):
        await lane.start(double, init=init)

    assert harness.failed[INDEX][0] == "exception"
    assert isinstance(decode_exception(harness.failed[INDEX][1]), OSError)


async def test_large_values_go_through_the_store(harness: PoolHarness, lane: Lane) -> None:
    await lane.start(lambda x: x * 2.0)
    array = np.ones(50_000)
    index = first_index(99, 1)
    (harness.store / f"{RUN:016x}-{index}").write_bytes(encode(array).to_bytes())

    lane.tell(RunItem(1, [(index, 400_000)]), item(2, array), item(3, 1.5))

    ends = await lane.ends(3)
    own = first_index(INDEX, 1)
    stored = [entry for _, _, stored in harness.answers for entry in stored]
    assert [place for place, _ in stored] == [own, own + 1]
    assert [tuple(ends[1]), tuple(ends[2])] == [tuple(entry) for entry in stored]
    encoded = (harness.store / f"{RUN:016x}-{own}.1").read_bytes()
    assert len(encoded) == stored[0][1]
    assert (decode(encoded) == 2.0).all()
    assert decode(ends[3]) == 3.0
    await lane.close()


async def test_batches_are_of_items_and_chunks(lane: Lane) -> None:
    def doubled(items: list[tuple[int]]) -> list[int]:
        return [2 * number for (number,) in items]

    await lane.start(doubled, is_batched=True)
    items = [(1, [enc(1)]), (2, [enc(2), b"?", enc(4)]), (3, [enc(5)])]
    lane.tell(RunBatch(items, (2,)))

    first, chunk, last = await lane.next()

    assert isinstance(first, ItemsEnded)
    assert isinstance(chunk, ChunkEnded)
    assert isinstance(last, ItemsEnded)
    assert [value_of(outcome) for _, outcome, _ in (*first.ends, *last.ends)] == [2, 10]
    assert [value_of(chunk.outcomes[0]), value_of(chunk.outcomes[2])] == [4, 8]
    assert isinstance(chunk.outcomes[1], tuple)
    assert chunk.outcomes[1][0] == "serialization"
    await lane.close()


async def test_batches_fail_as_one_and_their_items_fail_alone(lane: Lane) -> None:
    def code(state: int, items: list[tuple[int, int]], scale: int) -> tuple[Any, int]:
        if items[0] == (0, 0):
            return [1], state
        if items[0] == (1, 1):
            return None, state
        if items[0] == (2, 2):
            raise ValueError("a whole batch")
        return [scale * (x + y) for x, y in items], state + 1

    await lane.start(code, 10, args=(FromProducer(0), FromProducer(1)), init=int, is_batched=True)

    def batch(first: int, *values: int) -> RunBatch:
        return RunBatch([(first + place, [enc(value), enc(value)]) for place, value in enumerate(values)])

    lane.tell(batch(0, 0, 1), batch(10, 1, 1), batch(20, 2, 3), batch(30, 4, 5))
    lane.tell(RunBatch([(40, [enc(1), enc(2)]), (41, [b"?", enc(1)])]))
    ends = await lane.ends(10)

    assert "given a list of 2 items, so it must return a list of 2, not one of 1" in str(error_of(ends[0]))
    assert ends[0] == ends[1]
    assert "not None" in str(error_of(ends[11]))
    assert isinstance(error_of(ends[21]), ValueError)
    assert [decode(ends[30]), decode(ends[31])] == [80, 100]
    assert decode(ends[40]) == 30
    assert ends[41][0] == "serialization"
    await lane.close()


async def test_generators_give_what_they_are_allowed_and_leave_out_skip(lane: Lane) -> None:
    def count(n: int) -> Iterator[Any]:
        for number in range(n):
            yield handoff.SKIP if number % 2 else number

    await lane.start(count, is_generator=True)

    lane.tell(Generate(1, [enc(10)], 1, 2))
    assert [value_of(outcome) for outcome, _ in await _allowed(lane, 1, 2)] == [2, 4]
    lane.tell(Generate(2, [enc(1)], 0, 5))
    assert (await lane.results(2))[0] == [0]
    lane.tell(GenerateMore(1, 10), GenerateMore(77, 1))
    results, last = await lane.results(1)

    assert results == [6, 8]
    assert last.failure is None
    lane.tell(Generate(3, [enc(100)], 0, 1))
    await _allowed(lane, 3, 1)
    await lane.close()


async def _allowed(lane: Lane, number: int, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        for row in await lane.next():
            assert isinstance(row, Generated)
            assert row.number == number
            assert not row.is_end
            found += row.results
    return found


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_generator_that_is_allowed_no_more_is_closed(
    lane: Lane, tmp_path: Path, is_async: bool
) -> None:
    closed = tmp_path / "closed"

    def count(n: int) -> Iterator[int]:
        try:
            yield from range(n)
        finally:
            closed.touch()

    async def count_async(n: int) -> AsyncIterator[int]:
        try:
            for number in range(n):
                yield number
        finally:
            closed.touch()

    await lane.start(count_async if is_async else count, is_generator=True)
    lane.tell(Generate(1, [enc(10)], 0, 1))
    await _allowed(lane, 1, 1)

    lane.tell(GenerateMore(1, 0), GenerateMore(1, 5), Generate(2, [enc(1)], 0, 5))

    assert (await lane.results(2))[0] == [0]
    assert closed.exists()
    await lane.close()


async def test_a_generator_that_fails_gives_what_came_before(lane: Lane) -> None:
    def code(state: int, n: int) -> Generator[int, None, int]:
        yield state
        if n < 0:
            raise ValueError("negative")
        return state + n

    await lane.start(code, is_generator=True, init=int)

    lane.tell(Generate(1, [enc(-1)], 0, 9))
    results, last = await lane.results(1)
    assert results == [0]
    assert isinstance(error_of(last.failure), ValueError)
    lane.tell(Generate(2, [enc(5)], 0, 9))
    results, last = await lane.results(2)
    assert results == [0]
    assert last.has_replaced_state
    lane.tell(Generate(3, [enc(5)], 0, 9))
    assert (await lane.results(3))[0] == [5]
    lane.tell(Generate(4, [b"?"], 0, 9))
    failure = (await lane.results(4))[1].failure
    assert failure is not None
    assert failure[0] == "serialization"
    await lane.close()


@pytest.mark.parametrize(
    ("produced", "results"), [([1, 2], [1, 2]), (None, []), ((1, 2), [(1, 2)]), (iter([3]), [3])]
)
async def test_finish_gives_the_last_results(lane: Lane, produced: Any, results: list[Any]) -> None:
    await lane.start(double, init=int, finish=lambda state: produced)

    lane.tell(FinishStage(-1, 100))

    assert (await lane.results(-1))[0] == results
    await lane.close()


async def test_finish_that_raises_is_told(lane: Lane) -> None:
    await lane.start(double, init=int, finish=lambda state: 1 // state)

    lane.tell(FinishStage(-1, 100))

    _, last = await lane.results(-1)
    assert isinstance(error_of(last.failure), ZeroDivisionError)
    await lane.close()


async def test_keys_are_hashed_and_their_errors_fail_the_item(lane: Lane) -> None:
    await lane.start(lambda x: x, keys=(lambda x: x["user"], len))

    lane.tell(item(1, {"user": "ann"}), item(2, {}))
    rows = await lane.next()
    while sum(len(row.ends) for row in rows if isinstance(row, ItemsEnded)) < 2:
        rows += await lane.next()

    ends = [end for row in rows if isinstance(row, ItemsEnded) for end in row.ends]
    assert list(ends[0][2]) == [key_hash("ann"), 1]
    assert isinstance(error_of(ends[1][1]), KeyError)
    assert not ends[1][2]
    await lane.close()


async def test_output_and_the_current_function_belong_to_the_stage(harness: PoolHarness, lane: Lane) -> None:
    def say(x: int) -> tuple[int, int]:
        print(f"item {x}")
        current = handoff.current()
        current.emit(x)
        return current.attempt, os.getpid()

    await lane.start(say)

    lane.tell(item(1, 7))

    assert decode((await lane.ends(1))[1]) == (1, harness.pids[SYNC])
    await harness.until(lambda: len(harness.said) == 2)
    assert harness.said == [Printed(INDEX, 1, False, "item 7\n"), Emitted(INDEX, 1, enc(7))]
    await lane.close()


async def test_a_slow_item_does_not_wait_for_others_nor_others_for_it(lane: Lane) -> None:
    def wait(x: float) -> float:
        time.sleep(x)
        return x

    await lane.start(wait)
    lane.tell(item(1, 0.001))
    await lane.ends(1)

    lane.tell(item(2, 0.0), item(3, 0.05), item(4, 0.3))
    first = await lane.next()

    assert isinstance(first[0], ItemsEnded)
    assert [number for number, _, _ in first[0].ends] == [2]
    await lane.ends(2)
    await lane.close()


async def test_a_recall_is_answered_and_a_job_behind_is_not_lost(harness: PoolHarness, lane: Lane) -> None:
    await lane.start(double)
    harness.pool.give(SYNC, RunId(8), {0: template(double)}, [Job(1, 1, 0, [enc(4)], None)], None)

    lane.tell(item(1, 1))
    await lane.ends(1)
    await lane.close()
    await harness.end_of(1)

    assert harness.result(1) == 8


async def test_a_recall_gives_back_what_is_behind_a_stage(harness: PoolHarness, lane: Lane) -> None:
    await lane.start(double)
    harness.pool.give(SYNC, RunId(8), {0: template(double)}, [Job(1, 1, 0, [enc(4)], None)], None)

    harness.pool.recall(SYNC)
    await harness.until(lambda: bool(harness.recalls))
    lane.tell(item(1, 1))

    assert harness.recalls == [[(8, 1, 1)]]
    assert decode((await lane.ends(1))[1]) == 2
    await lane.close()


async def test_an_interrupt_fails_the_item_that_runs_and_no_other(harness: PoolHarness, lane: Lane) -> None:
    def interrupt(x: int) -> int:
        if x:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return x

    await lane.start(interrupt)

    lane.tell(item(1, 0), item(2, 1), item(3, 0))
    ends = await lane.ends(3)
    # Nothing runs now.
    os.kill(harness.pids[SYNC], signal.SIGINT)
    lane.tell(item(4, 0))

    assert [value_of(ends[1]), value_of(ends[3])] == [0, 0]
    assert isinstance(error_of(ends[2]), KeyboardInterrupt)
    assert value_of((await lane.ends(1))[4]) == 0
    await lane.close()


async def test_a_stage_is_recalled_and_killed_in_the_middle_of_an_item(
    harness: PoolHarness, lane: Lane
) -> None:
    await lane.start(time.sleep)
    lane.tell(item(1, 30.0))

    harness.pool.recall(SYNC)
    await harness.until(lambda: bool(harness.recalls))
    harness.pool.kill(SYNC)

    assert harness.recalls == [[]]
    assert await harness.exit_of(SYNC) == (9, None)


async def test_an_async_stage_answers_recalls(harness: PoolHarness, lane: Lane) -> None:
    await lane.start(asyncio.sleep, args=(FromProducer(0), FromProducer(1)), concurrency=2)
    lane.tell(item(1, 30.0, "late"), item(2, 0.0, "soon"))
    await lane.ends(1)

    harness.pool.recall(SYNC)
    await harness.until(lambda: bool(harness.recalls))

    assert harness.recalls == [[]]
    # What runs still is cancelled.
    await lane.close()


async def test_contents_that_arrive_in_pieces_are_put_together(harness: PoolHarness, lane: Lane) -> None:
    await lane.start(lambda text: text.upper())

    lane.tell(*(item(number, "x" * 30_000) for number in range(20)))

    ends = await lane.ends(20)
    assert {value_of(outcome) for outcome in ends.values()} == {"X" * 30_000}
    await lane.close()


async def test_a_fork_of_an_item_ends_with_it(lane: Lane) -> None:
    def fork(x: int) -> int:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        return x if pid else -1

    await lane.start(fork)

    lane.tell(item(1, 1), item(2, 2))

    ends = await lane.ends(2)
    assert [decode(ends[1]), decode(ends[2])] == [1, 2]
    await lane.close()


async def test_coroutines_work_on_several_items_at_once(lane: Lane) -> None:
    async def rest(state: list[int], x: float) -> tuple[Any, list[int]]:
        state[0] += 1
        state[1] = max(state)
        await asyncio.sleep(x)
        state[0] -= 1
        return (x, state[1]), state

    async def init() -> list[int]:
        return [0, 0]

    async def finish(state: list[int]) -> AsyncIterator[int]:
        yield state[1]

    await lane.start(rest, init=init, finish=finish, concurrency=3)

    lane.tell(item(1, 0.3), item(2, 0.01), item(3, 0.2), item(4, 0.01), item(5, 0.02))
    ends = await lane.ends(5)

    assert next(iter(ends)) == 2
    assert [decode(ends[n])[0] for n in range(1, 6)] == [0.3, 0.01, 0.2, 0.01, 0.02]
    lane.tell(FinishStage(-1, 5))
    assert (await lane.results(-1))[0] == [3]
    await lane.close()


async def test_async_generators_and_failures(lane: Lane) -> None:
    async def code(n: int) -> AsyncIterator[Any]:
        for number in range(n):
            await asyncio.sleep(0)
            yield handoff.SKIP if number == 1 else number
        if n == 5:
            raise ValueError("five")

    async def inc(x: int) -> int:
        return x + 1

    await lane.start(code, is_generator=True, args=(InlineCall("inc", inc, ONE),))

    lane.tell(Generate(1, [enc(3)], 1, 1))
    assert [value_of(outcome) for outcome, _ in await _allowed(lane, 1, 1)] == [2]
    lane.tell(GenerateMore(1, 5))
    assert (await lane.results(1))[0] == [3]
    lane.tell(Generate(2, [enc(4)], 0, 9))
    results, last = await lane.results(2)
    assert results == [0, 2, 3, 4]
    assert isinstance(error_of(last.failure), ValueError)
    lane.tell(Generate(3, [b"?"], 0, 9))
    failure = (await lane.results(3))[1].failure
    assert failure is not None
    assert failure[0] == "serialization"
    lane.tell(Generate(4, [enc(100)], 0, 2))
    await _allowed(lane, 4, 2)
    await lane.close()


async def test_async_batches_and_errors(lane: Lane) -> None:
    async def code(items: Sequence[tuple[int]]) -> Any:
        await asyncio.sleep(0)
        if items == [(1,)]:
            raise SystemExit(3)
        return [2 * x for (x,) in items]

    await lane.start(code, is_batched=True)

    lane.tell(RunBatch([(1, [enc(1)])]), RunBatch([(2, [enc(2)]), (3, [b"?"]), (4, [enc(4)])]))

    ends = await lane.ends(4)
    assert isinstance(error_of(ends[1]), SystemExit)
    assert [decode(ends[2]), decode(ends[4])] == [4, 8]
    assert ends[3][0] == "serialization"
    await lane.close()


async def test_code_that_gives_a_coroutine_unannounced_is_awaited(lane: Lane) -> None:
    async def rest(x: int) -> int:
        await asyncio.sleep(0)
        return 1 // x

    await lane.start(lambda x: rest(x + 0))

    lane.tell(item(1, 1), item(2, 0))

    ends = await lane.ends(2)
    assert value_of(ends[1]) == 1
    assert isinstance(error_of(ends[2]), ZeroDivisionError)
    await lane.close()


async def test_any_iterable_will_do_as_a_generator_and_nothing_else(lane: Lane) -> None:
    await lane.start(lambda x: [x, x + 1] if x else x, is_generator=True)

    lane.tell(Generate(1, [enc(1)], 0, 5))
    assert (await lane.results(1))[0] == [1, 2]
    lane.tell(Generate(2, [enc(0)], 0, 5))

    _, last = await lane.results(2)
    assert isinstance(error_of(last.failure), TypeError)
    await lane.close()


async def test_coroutines_beside_a_plain_generator_with_a_state(lane: Lane) -> None:
    async def inc(x: int) -> int:
        return x + 1

    def count(state: int, n: int) -> Generator[int, None, int]:
        yield from range(state, state + n)
        return state + n

    async def close(state: int) -> None:
        print(f"closed with {state}")

    await lane.start(
        count, is_generator=True, init=int, finish=str, close=close, args=(InlineCall("inc", inc, ONE),)
    )

    lane.tell(Generate(1, [enc(1)], 0, 9))
    results, last = await lane.results(1)
    assert (results, last.has_replaced_state) == ([0, 1], True)
    lane.tell(Generate(2, [enc(2)], 1, 1), GenerateMore(2, 9))
    assert (await lane.results(2))[0] == [3, 4]
    lane.tell(FinishStage(-1, 9))
    assert (await lane.results(-1))[0] == ["5"]
    await lane.close()


@pytest.mark.parametrize(("produced", "results"), [([1, 2], [1, 2]), (None, [])])
async def test_async_finish_gives_the_last_results(lane: Lane, produced: Any, results: list[Any]) -> None:
    async def finish(state: int) -> Any:
        return produced

    await lane.start(double, init=int, finish=finish)

    lane.tell(FinishStage(-1, 9))

    assert (await lane.results(-1))[0] == results
    await lane.close()


async def test_async_close_that_raises_fails_the_function(harness: PoolHarness, lane: Lane) -> None:
    async def close(state: int) -> None:
        raise OSError("busy")

    await lane.start(double, init=int, close=close)

    lane.tell(CloseStage())
    await harness.end_of(INDEX)

    assert isinstance(decode_exception(harness.failed[INDEX][1]), OSError)


async def test_a_worker_runs_one_stage_after_another(harness: PoolHarness, lane: Lane) -> None:
    await lane.start(double)
    lane.tell(item(1, 1))
    await lane.ends(1)
    # These come too late, and are nobody's.
    lane.tell(CloseStage(), item(2, 2))
    await harness.end_of(INDEX)
    harness.done.clear()
    harness.pool.pass_rows(SYNC, (RUN, INDEX, 2), content_of([item(3, 3)]))

    await lane.start(lambda x: -x)
    lane.tell(item(4, 4))

    assert {number: value_of(outcome) for number, outcome in (await lane.ends(1)).items()} == {4: -4}
    await lane.close()
