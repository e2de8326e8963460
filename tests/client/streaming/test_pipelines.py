"""Items that are pushed into pipelines, and their results, on a real node with real workers."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import events
from tests.client.streaming import stages
from tests.processes.app import App


def chain(*codes: Any, **options: Any) -> handoff.DAG:
    """Stages behind one another, from one input; options are those of each of them."""
    dag = handoff.DAG()
    last = dag.call(None, type="input", id="in")
    for number, code in enumerate(codes):
        last = dag.call(code, last, id=f"stage{number}", **options)
    return dag


async def test_results_of_pushes_come_in_order_and_end_with_drain(app: App) -> None:
    async with app.session.stream(chain(stages.increment, stages.double)) as pipeline:

        async def push() -> list[int]:
            numbers = [await pipeline.push(number) for number in range(200)]
            await pipeline.drain()
            return numbers

        pushing = asyncio.ensure_future(push())
        results = [item async for item in pipeline]

    assert results == [2 * (number + 1) for number in range(200)]
    assert await pushing == list(range(200))
    await app.until_idle()


async def test_pushes_beyond_in_flight_wait_until_results_are_taken(app: App) -> None:
    async with app.session.stream(chain(stages.increment), in_flight=4) as pipeline:
        for number in range(4):
            await pipeline.push(number)
        waiting = asyncio.ensure_future(pipeline.push(4))
        await asyncio.sleep(0.2)
        assert not waiting.done()

        iterator = aiter(pipeline)
        assert await anext(iterator) == 1
        assert await waiting == 4
        assert [await anext(iterator) for _ in range(4)] == [2, 3, 4, 5]


async def test_push_that_is_cancelled_uses_no_number(app: App) -> None:
    async with app.session.stream(chain(stages.increment), in_flight=1) as pipeline:
        assert await pipeline.push(0) == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pipeline.push(1)
        iterator = aiter(pipeline)
        assert await anext(iterator) == 1
        assert await pipeline.push(10) == 1
        assert await anext(iterator) == 11


async def test_map_gives_results_in_the_order_of_the_items(app: App) -> None:
    dag = chain(stages.uneven, parallelism=2)
    async with app.session.stream(dag) as pipeline, aclosing(pipeline.map(range(30))) as results:
        assert [item async for item in results] == list(range(30))


async def test_map_without_order_gives_results_as_they_come(app: App) -> None:
    async with app.session.stream(chain(stages.uneven, parallelism=2), ordered=False) as pipeline:
        results = [item async for item in pipeline.map(range(20))]

    assert sorted(results) == list(range(20))
    assert results != list(range(20))


async def test_map_takes_no_more_from_an_endless_source_than_there_is_room(app: App) -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    async with app.session.stream(chain(stages.increment), in_flight=8) as pipeline:
        async with aclosing(pipeline.map(source())) as results:
            first = [await anext(results) for _ in range(20)]
        assert await pipeline.call(1) == 2

    assert first == list(range(1, 21))
    assert len(taken) < 40


async def test_results_do_not_wait_behind_a_source_that_blocks(app: App) -> None:
    taken: list[int] = []

    def camera() -> Iterator[int]:
        for number in range(200):
            time.sleep(0.02)
            taken.append(number)
            yield number

    async with app.session.stream(chain(stages.increment, stages.double)) as pipeline:
        async for result in pipeline.map(camera()):
            if len(taken) - result // 2 <= 2:
                break

    assert len(taken) < 200


async def test_map_reads_async_sources_and_passes_on_what_they_raise(app: App) -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(10):
            await asyncio.sleep(0)
            yield number
        raise LookupError("no more")

    results: list[int] = []

    async def stream() -> None:
        async with app.session.stream(chain(stages.increment)) as pipeline:
            async for item in pipeline.map(source()):
                results.append(item)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(LookupError, match="no more"):
        await stream()

    assert results == list(range(1, 11))


async def test_each_caller_gets_its_own_results(app: App) -> None:
    async with app.session.stream(chain(stages.double_later, parallelism=8)) as pipeline:

        async def mapped(start: int) -> list[int]:
            return [item async for item in pipeline.map(range(start, start + 20))]

        for number in range(5):
            await pipeline.push(1000 + number)
        first, second, own = await asyncio.gather(mapped(0), mapped(100), pipeline.call(7))
        iterator = aiter(pipeline)
        plain = [await anext(iterator) for _ in range(5)]

    assert first == [2 * number for number in range(20)]
    assert second == [2 * number for number in range(100, 120)]
    assert own == 14
    assert plain == [2 * (1000 + number) for number in range(5)]


async def test_iterator_that_is_left_loses_nothing(app: App) -> None:
    async with app.session.stream(chain(stages.increment)) as pipeline:
        for number in range(10):
            await pipeline.push(number)
        first: list[int] = []
        async for item in pipeline:
            first.append(item)
            if len(first) == 3:
                break
        await pipeline.drain()
        rest = [item async for item in pipeline]

    assert first == [1, 2, 3]
    assert rest == [4, 5, 6, 7, 8, 9, 10]


async def test_second_iterator_at_the_same_time_is_refused(app: App) -> None:
    async with app.session.stream(chain(stages.increment)) as pipeline:
        await pipeline.push(1)
        async for item in pipeline:
            assert item == 2
            with pytest.raises(handoff.HandoffError, match="one iterator"):
                aiter(pipeline)
            break
        await pipeline.push(2)
        assert await anext(aiter(pipeline)) == 3


async def test_errors_stand_in_the_place_of_results(app: App) -> None:
    async with app.session.stream(chain(stages.fail_on_multiples_of_three, stages.double)) as pipeline:
        results = [item async for item in pipeline.map(range(7))]

    errors = [item for item in results if isinstance(item, handoff.ItemError)]
    assert [item for item in results if item not in errors] == [2, 4, 8, 10]
    assert [results.index(error) for error in errors] == [0, 3, 6]
    assert errors[1].function_id == "stage0"
    assert errors[1].number == 3
    assert isinstance(errors[1].__cause__, ValueError)
    assert str(errors[1].__cause__) == "3 is a multiple"


async def test_errors_are_raised_in_their_place_and_iteration_goes_on(app: App) -> None:
    dag = chain(stages.fail_on_multiples_of_three)
    async with app.session.stream(dag, errors="raise") as pipeline:
        for number in range(2, 6):
            await pipeline.push(number)
        iterator = aiter(pipeline)
        assert await anext(iterator) == 2
        with pytest.raises(handoff.ItemError, match="3 is a multiple"):
            await anext(iterator)
        assert [await anext(iterator), await anext(iterator)] == [4, 5]


async def test_call_raises_the_error_of_its_item(app: App) -> None:
    async with app.session.stream(chain(stages.fail_on_multiples_of_three)) as pipeline:
        with pytest.raises(handoff.ItemError) as caught:
            await pipeline.call(3)
        assert await pipeline.call(4) == 4

    assert isinstance(caught.value.__cause__, ValueError)


async def test_call_gives_skip_and_lists_of_results(app: App) -> None:
    async with app.session.stream(chain(stages.keep_even)) as pipeline:
        assert await pipeline.call(1) is handoff.SKIP
        assert await pipeline.call(2) == 2
    async with app.session.stream(chain(stages.up_to, stages.increment)) as pipeline:
        assert await pipeline.call(3) == [1, 2, 3]
        assert await pipeline.call(0) == []


async def test_skipped_items_have_no_place_among_the_results(app: App) -> None:
    async with app.session.stream(chain(stages.keep_even, stages.double)) as pipeline:
        assert [item async for item in pipeline.map(range(6))] == [0, 4, 8]


async def test_value_that_can_not_be_pickled_uses_no_number(app: App) -> None:
    async with app.session.stream(chain(stages.same)) as pipeline:
        with pytest.raises(handoff.SerializationError, match="'in'"):
            await pipeline.push(number for number in range(3))
        assert await pipeline.push(1) == 0


async def test_dicts_are_values_where_there_is_one_input(app: App) -> None:
    async with app.session.stream(chain(stages.same)) as pipeline:
        assert await pipeline.call({"in": 3}) == {"in": 3}


async def test_several_inputs_and_several_sinks(app: App) -> None:
    dag = handoff.DAG()
    left, right = dag.call(None, type="input", id="left"), dag.call(None, type="input", id="right")
    total = dag.call(stages.add, left, right, id="total")
    double = dag.call(stages.double, total, id="double")
    more = dag.call(stages.increment, total, id="more")
    async with app.session.stream(dag) as pipeline:
        with pytest.raises(ValueError, match="right"):
            await pipeline.push({"left": 1})
        with pytest.raises(TypeError, match="left"):
            await pipeline.push(3)
        item = await pipeline.call({left: 1, "right": 2, "other": 5})
        items = [each async for each in pipeline.map({"left": n, "right": n} for n in range(10))]

    assert item == {"double": 6, "more": 4}
    assert [item[double], item[more]] == [6, 4]
    assert [each["double"] for each in items] == [4 * n for n in range(10)]
    with pytest.raises(KeyError):
        _ = item[total]


async def test_input_alone_passes_items_through(app: App) -> None:
    dag = handoff.DAG()
    dag.call(None, type="input", id="in")
    async with app.session.stream(dag) as pipeline:
        assert [item async for item in pipeline.map(range(100))] == list(range(100))
        assert len(await pipeline.call(b"x" * 1_000_000)) == 1_000_000


async def test_large_values_are_pushed_passed_on_and_brought_home(app: App) -> None:
    dag = chain(stages.large, stages.same)
    async with app.session.stream(dag) as pipeline:
        results = [item async for item in pipeline.map(range(20))]
    assert results == [bytes([number]) * 500_000 for number in range(20)]
    async with app.session.stream(chain(stages.same, stages.check_large)) as pipeline:
        pushed = (bytes([number]) * 500_000 for number in range(20))
        assert [item async for item in pipeline.map(pushed)] == list(range(20))
    await app.until_idle()


async def test_pipelines_side_by_side_keep_their_items_apart(app: App) -> None:
    async with (
        app.session.stream(chain(stages.increment)) as first,
        app.session.stream(chain(stages.double)) as second,
    ):
        both: list[int] = list(await asyncio.gather(first.call(5), second.call(5)))
    assert both == [6, 10]


async def test_busy_pipeline_leaves_room_for_another_one_and_for_runs(app: App) -> None:
    results = 0

    async def keep_busy(pipeline: handoff.Pipeline) -> None:
        nonlocal results
        async for _ in pipeline.map(itertools.count()):
            results += 1

    async with (
        app.session.stream(chain(stages.increment), in_flight=1000) as busy,
        app.session.stream(chain(stages.double)) as other,
    ):
        keeping = asyncio.ensure_future(keep_busy(busy))
        async with asyncio.timeout(10):
            for number in range(10):
                assert await other.call(number) == 2 * number
                assert await app.call(stages.increment, number) == number + 1
        assert results > 10
        keeping.cancel()
        await asyncio.wait([keeping])


async def test_report_names_the_bottleneck(app: App) -> None:
    async with app.session.stream(chain(stages.increment, stages.slow)) as pipeline:
        async for _ in pipeline.map(range(30)):
            pass
        report = pipeline.report
        explained = pipeline.explain()

    assert report.bottleneck == "stage1"
    assert "'stage1' is busy for" in str(report)
    assert str(report).splitlines()[1].split()[:2] == ["stage0", "30"]
    assert report.stages["stage1"].items == 30
    assert report.stages["stage1"].busy > report.stages["stage0"].busy
    assert {each.function_id for each in explained} == {"stage0", "stage1"}
    assert {each.node for each in explained} == {app.node.name}


async def test_call_that_is_cancelled_frees_its_room(app: App) -> None:
    async with app.session.stream(chain(stages.slow), in_flight=2) as pipeline:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await pipeline.call(1)
        assert await pipeline.call(2) == 2


async def test_map_that_is_left_early_frees_its_room(app: App) -> None:
    async with app.session.stream(chain(stages.increment), in_flight=4) as pipeline:
        for _ in range(10):
            async with aclosing(pipeline.map(itertools.count())) as results:
                assert await anext(results) == 1
        assert await pipeline.call(1) == 2


async def test_item_is_tried_again_as_often_as_it_may(app: App, tmp_path: Path) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(stages.fail_twice, number, str(tmp_path / "tries"), id="tries", retry_backoff=(0.2, 1, 0.2))
    async with app.session.stream(dag, max_retries=2) as pipeline:
        began_at = time.monotonic()
        assert await pipeline.call(5) == 5
        assert time.monotonic() - began_at >= 0.2
        assert (tmp_path / "tries").read_text() == "5\n5\n5\n"
    async with app.session.stream(dag, max_retries=1) as pipeline:
        with pytest.raises(handoff.ItemError) as caught:
            await pipeline.call(6)
    assert caught.value.attempts == 2


async def test_join_that_waits_too_long_fails_its_item(app: App) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(stages.add, dag.call(stages.slow_on_three, number), dag.call(stages.increment, number), id="sum")
    async with app.session.stream(dag, join_timeout=0.3) as pipeline:
        assert await pipeline.call(2) == 5
        with pytest.raises(handoff.ItemError) as caught:
            await pipeline.call(3)

    assert caught.value.kind == "join_timeout"
    assert caught.value.function_id == "sum"


async def test_result_that_can_not_be_pickled_fails_its_item(app: App) -> None:
    async with app.session.stream(chain(stages.generator_for_two)) as pipeline:
        results = [item async for item in pipeline.map(range(4))]

    assert [item for item in results if not isinstance(item, handoff.ItemError)] == [0, 1, 3]
    assert isinstance(results[2], handoff.ItemError)


async def test_key_that_raises_is_raised_by_push(app: App) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(stages.pid_of, number, parallelism=2, key=lambda number: 1 // number)
    async with app.session.stream(dag) as pipeline:
        with pytest.raises(ZeroDivisionError):
            await pipeline.push(0)
        assert await pipeline.push(1) == 0


async def test_stages_run_with_the_environment_of_the_stream(app: App, tmp_path: Path) -> None:
    dag = chain(stages.environment)
    async with app.session.stream(dag, env_vars={"STREAMED": "yes"}, working_dir=tmp_path) as pipeline:
        assert await pipeline.call("STREAMED") == ("yes", str(tmp_path))


async def test_stream_within_a_function_uses_its_cluster(app: App) -> None:
    assert await app.call(stages.stream_within, [1, 2, 3], max_retries=0) == [2, 3, 4]
    await app.until_idle()


async def test_losses_of_workers_are_events(app: App, tmp_path: Path) -> None:
    seen: list[handoff.RunEvent] = []
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(stages.die_once_at, number, 3, str(tmp_path / "died"), id="risky")
    async with app.session.stream(dag, on_event=seen.append) as pipeline:
        assert [item async for item in pipeline.map(range(6))] == list(range(6))

    assert [event.function_id for event in seen if isinstance(event, events.Lost)] == ["risky"]
    assert {event.dag_id for event in seen} == {dag.id}


async def test_pipeline_is_used_once(app: App) -> None:
    pipeline = app.session.stream(chain(stages.increment))
    async with pipeline:
        assert await pipeline.call(1) == 2

    with pytest.raises(handoff.HandoffError, match="before"):
        await pipeline.__aenter__()


async def test_watermark_says_up_to_which_push_everything_is_out(app: App) -> None:
    async with app.session.stream(chain(stages.keep_even)) as pipeline:
        assert pipeline.watermark == 0
        for number in range(6):
            await pipeline.push(number)
        assert pipeline.watermark == 0
        iterator = aiter(pipeline)
        assert await anext(iterator) == 0
        assert await anext(iterator) == 2
        # The one behind has no result.
        assert pipeline.watermark in {3, 4}
        await pipeline.drain()
        assert pipeline.watermark == 4
        assert await anext(iterator) == 4
        assert pipeline.watermark == 6


async def test_pipeline_says_which_event_loop_it_belongs_to(app: App) -> None:
    async with app.session.stream(chain(stages.increment)) as pipeline:
        await pipeline.push(1)

        async def refused(use: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(handoff.HandoffError, match="run_coroutine_threadsafe"):
                await use()

        uses: list[Callable[[], Awaitable[object]]] = [
            lambda: pipeline.push(2),
            lambda: pipeline.call(2),
            lambda: anext(pipeline.map([2]).__aiter__()),
            lambda: anext(aiter(pipeline)),
            pipeline.drain,
        ]
        for use in uses:
            await asyncio.to_thread(asyncio.run, refused(use))
        assert await pipeline.call(3) == 4
