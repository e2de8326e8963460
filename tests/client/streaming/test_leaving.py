"""How pipelines end: drained, left with an exception, cancelled, failed."""

import asyncio
import time
from pathlib import Path
from random import Random

import pytest

import handoff_actors as handoff
from tests.client.streaming import stages
from tests.client.streaming.test_pipelines import chain
from tests.processes.app import App


async def test_leaving_finishes_what_was_pushed_and_drops_its_results(app: App, tmp_path: Path) -> None:
    dag = handoff.DAG()
    pushed = dag.call(None, type="input", id="in")
    dag.call(stages.record, pushed, str(tmp_path / "seen"))
    async with app.session.stream(dag) as pipeline:
        for number in range(50):
            await pipeline.push(number)

    assert (tmp_path / "seen").read_text() == "".join(f"{number}\n" for number in range(50))
    assert [item async for item in pipeline] == []
    await app.until_idle()


async def test_results_of_finish_that_nobody_takes_are_told_of(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    dag = chain(stages.count, init=stages.start_counting, finish=stages.total_at_last)
    async with app.session.stream(dag) as pipeline:
        assert [item async for item in pipeline.map([1, 2])] == [101, 103]
    assert "nobody took these results of a pipeline: 1 of finish. To have them, iterate" in caplog.text

    caplog.clear()
    async with app.session.stream(dag) as pipeline:
        await pipeline.push(1)
        await pipeline.drain()
        assert [item async for item in pipeline] == [101, -101]
    assert "nobody" not in caplog.text


async def test_errors_that_nobody_takes_are_told_of(app: App, caplog: pytest.LogCaptureFixture) -> None:
    for is_early in (True, False):
        caplog.clear()
        async with app.session.stream(chain(stages.fail_on_multiples_of_three)) as pipeline:
            for number in range(1, 7):
                await pipeline.push(number)
            if is_early:
                await pipeline.drain()
        assert "nobody took these results of a pipeline: 2 that failed" in caplog.text
        assert "the first error: item 2 of the stream failed at function 'stage0'" in caplog.text
    await app.until_idle()


async def test_push_that_waits_while_nobody_takes_results_is_told_of(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handoff_actors.client.streaming.pipeline.STALLED_AFTER_S", 0.05)
    async with app.session.stream(chain(stages.increment), in_flight=2) as pipeline:
        for number in range(2):
            await pipeline.push(number)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pipeline.push(2), 0.2)
        assert caplog.text.count("a push has waited for 0.05 s, since 2 items are in flight") == 1

        caplog.clear()
        iterator = aiter(pipeline)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pipeline.push(2), 0.2)
        assert await anext(iterator) == 1
    assert "waited" not in caplog.text


async def test_iterator_in_another_task_gets_the_rest(app: App) -> None:
    results: list[bytes] = []

    async def consume(pipeline: handoff.Pipeline) -> None:
        async for item in pipeline:
            await asyncio.sleep(0.005)
            results.append(item)

    async with app.session.stream(chain(stages.increment, stages.large)) as pipeline:
        consuming = asyncio.ensure_future(consume(pipeline))
        for number in range(30):
            await pipeline.push(number)
    await consuming

    assert results == [bytes([number]) * 500_000 for number in range(1, 31)]
    await app.until_idle()


async def test_exception_in_the_block_stops_everything_at_once(app: App) -> None:
    began = time.monotonic()
    pipeline = app.session.stream(chain(stages.sleep_for_ever, cost={"cpu": 1}))

    async def stream() -> None:
        async with pipeline:
            await pipeline.push(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stream()

    assert time.monotonic() - began < 10
    assert app.node.is_idle
    with pytest.raises(handoff.HandoffError, match="ZeroDivisionError"):
        await pipeline.push(2)
    await app.until_idle()


async def test_cancelling_the_block_stops_everything_at_once(app: App) -> None:
    begun = asyncio.Event()

    async def stream() -> None:
        async with app.session.stream(chain(stages.sleep_for_ever, cost={"cpu": 1})) as pipeline:
            await pipeline.push(1)
            begun.set()
            # Its drain would wait for ever, too.

    task = asyncio.ensure_future(stream())
    await begun.wait()
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert app.node.is_idle
    await app.until_idle()


async def test_callers_in_other_tasks_hear_of_the_end(app: App) -> None:
    waiting: list[asyncio.Future[object]] = []

    async def stream() -> None:
        async with app.session.stream(chain(stages.sleep_for_ever), in_flight=1) as pipeline:
            waiting.append(asyncio.ensure_future(pipeline.call(1)))
            await asyncio.sleep(0.05)
            waiting.append(asyncio.ensure_future(pipeline.push(2)))
            waiting.append(asyncio.ensure_future(anext(aiter(pipeline))))
            await asyncio.sleep(0.05)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await stream()

    for task in waiting:
        with pytest.raises(handoff.HandoffError, match="ZeroDivisionError"):
            await task


async def test_nothing_is_pushed_after_drain(app: App) -> None:
    async with app.session.stream(chain(stages.increment)) as pipeline:
        await pipeline.drain()
        with pytest.raises(handoff.HandoffError, match="drained"):
            await pipeline.push(1)
        await pipeline.drain()


async def test_calls_in_other_tasks_get_their_results_when_the_block_is_left(app: App) -> None:
    async with app.session.stream(chain(stages.slow)) as pipeline:
        calls = [asyncio.ensure_future(pipeline.call(number)) for number in range(5)]
        await asyncio.sleep(0)

    assert await asyncio.gather(*calls) == list(range(5))


async def test_closing_the_session_ends_its_pipelines(app: App) -> None:
    waiting: list[asyncio.Future[object]] = []

    async def stream() -> None:
        async with app.session.stream(chain(stages.increment)) as pipeline:
            assert await pipeline.call(1) == 2
            waiting.append(asyncio.ensure_future(anext(aiter(pipeline))))
            await asyncio.sleep(0)
            await app.session.close()
            waiting.append(asyncio.ensure_future(pipeline.push(1)))

    with pytest.raises(handoff.HandoffError, match="session"):
        await stream()

    for task in waiting:
        with pytest.raises(handoff.HandoffError, match="session"):
            await task


async def test_pipeline_is_used_within_its_block(app: App) -> None:
    pipeline = app.session.stream(chain(stages.increment))

    with pytest.raises(handoff.HandoffError, match="async with"):
        await pipeline.push(1)


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_left_whenever_it_is_cancelled(app: App, seed: int) -> None:
    random = Random(seed)

    async def stream() -> None:
        dag = chain(stages.large_sometimes, stages.undo_sometimes, cost={"cpu": 0.5})
        async with app.session.stream(dag, in_flight=8) as pipeline:
            for number in range(20):
                await pipeline.push(number)
                if number % 4 == 3:
                    assert await pipeline.call(number) == number
                    await anext(aiter(pipeline))
            async for _ in pipeline.map(range(30)):
                pass

    for _ in range(8):
        task = asyncio.ensure_future(stream())
        await asyncio.sleep(random.uniform(0, 0.25))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
        assert app.node.is_idle
    assert not any("pipeline" in task.get_name() for task in asyncio.all_tasks())


async def test_results_that_nobody_takes_hold_up_no_end_though_they_came_together(app: App) -> None:
    async with app.session.stream(chain(stages.increment), in_flight=400) as pipeline:
        for number in range(400):
            await pipeline.push(number)
