"""What the stages of a pipeline may be: with a state, parallel, batched, joined, generators."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

import handoff_actors as handoff
from tests.client.streaming import stages
from tests.client.streaming.test_pipelines import chain
from tests.processes.app import App


async def test_state_is_made_once_and_passed_on(app: App) -> None:
    async with app.session.stream(chain(stages.count, init=stages.start_counting)) as pipeline:
        assert [item async for item in pipeline.map([1, 2, 3])] == [101, 103, 106]


async def test_init_that_raises_is_raised_where_the_block_begins(app: App) -> None:
    with pytest.raises(handoff.FunctionFailed, match="no model") as caught:
        async with app.session.stream(chain(stages.with_state, init=stages.fail_to_start)):
            pytest.fail("it has begun")

    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.function_id == "stage0"
    await app.until_idle()


async def test_finish_gives_the_last_results(app: App) -> None:
    dag = chain(stages.count, init=stages.start_counting, finish=stages.total_at_last)
    async with app.session.stream(dag) as pipeline:
        for number in (1, 2, 3):
            await pipeline.push(number)
        await pipeline.drain()
        assert [item async for item in pipeline] == [101, 103, 106, -106]


async def test_parallel_workers_share_the_items(app: App) -> None:
    async with app.session.stream(chain(stages.pid_slowly, parallelism=2)) as pipeline:
        results = [item async for item in pipeline.map(range(40))]

    assert [number for number, _ in results] == list(range(40))
    assert len({pid for _, pid in results}) == 2


async def test_equal_keys_go_to_one_worker(app: App) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(stages.pid_of, number, parallelism=2, key=lambda number: number % 4)
    async with app.session.stream(dag) as pipeline:
        results = [item async for item in pipeline.map(range(40))]

    pids = {(number % 4, pid) for number, pid in results}
    assert len(pids) == 4
    assert len({pid for _, pid in pids}) == 2


async def test_batches_get_as_many_items_as_they_may(app: App) -> None:
    async with app.session.stream(chain(stages.sums, batch_size=5)) as pipeline:
        results = [item async for item in pipeline.map(range(12))]

    assert [item % 1000 for item in results] == list(range(12))
    assert [item // 1000 for item in results] == [5] * 10 + [2] * 2


async def test_coroutine_functions_work_on_many_items_at_once(app: App) -> None:
    async with app.session.stream(chain(stages.double_later, parallelism=32)) as pipeline:
        loop = asyncio.get_running_loop()
        began = loop.time()
        results = [item async for item in pipeline.map(range(200))]

    assert results == [2 * number for number in range(200)]
    assert loop.time() - began < 1.5


async def test_generators_give_any_number_of_results(app: App) -> None:
    async with app.session.stream(chain(stages.up_to, stages.double), in_flight=4) as pipeline:
        results = [item async for item in pipeline.map([3, 0, 200, 1])]

    assert results == [0, 2, 4, *(2 * number for number in range(200)), 0]


async def test_joins_match_the_parts_of_one_item(app: App) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    left, right = dag.call(stages.uneven, number), dag.call(stages.increment, number)
    dag.call(stages.add, left, right)
    async with app.session.stream(dag) as pipeline:
        results = [item async for item in pipeline.map(range(20))]

    assert results == [2 * number + 1 for number in range(20)]


async def test_arguments_besides_items_are_those_of_calls(app: App) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(partial(stages.add, 1), number, 10, extra_args=[100])
    async with app.session.stream(dag) as pipeline:
        assert await pipeline.call(1000) == 1111


async def test_results_may_be_arguments_by_name_and_more_than_once(app: App) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    rest = dag.call(stages.minus, 50, subtrahend=number, type="inline")
    twice = dag.call(stages.add, number, number)
    dag.call(stages.count_without, twice, left_out=rest, init=stages.start_counting)
    async with app.session.stream(dag) as pipeline:
        assert await pipeline.call(10) == 100 + 20 - 40


async def test_constants_follow_the_list_of_batched_code(app: App) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(stages.scaled, number, 10, batch_size=4, batch_timeout=0.01, extra_args=[1])
    async with app.session.stream(dag) as pipeline:
        assert [item async for item in pipeline.map(range(10))] == [10 * n + 1 for n in range(10)]


async def test_stages_see_the_devices_that_they_claim() -> None:
    async with handoff.Session(seeds=()) as session:
        await session.register_local_node({"cpu": 1, "gpu": 2})
        dag = chain(stages.shown_devices, parallelism=2, cost={"gpu": 1})
        async with session.stream(dag) as pipeline:
            shown = {item async for item in pipeline.map(range(20))}

    assert shown == {"0", "1"}


async def test_branch_that_is_held_up_does_not_hold_up_its_siblings(app: App, tmp_path: Path) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    # The first item takes until the last one has been through the other branch.
    held = dag.call(stages.wait_for_file, number, str(tmp_path / "go"))
    dag.call(stages.add, held, dag.call(stages.touch_at, number, 31, str(tmp_path / "go")))
    async with app.session.stream(dag, in_flight=32) as pipeline:
        assert [item async for item in pipeline.map(range(32))] == [2 * n for n in range(32)]


async def test_functions_with_claims_hold_them_until_the_block_is_left(app: App) -> None:
    async with app.session.stream(chain(stages.increment, cost={"cpu": 1, "memory": 500})) as pipeline:
        await app.until(lambda: app.node.advert().spare["cpu"] == 1)
        assert await pipeline.call(1) == 2
        assert app.node.advert().spare["memory"] == 7500
    assert app.node.is_idle


async def test_more_than_a_node_has_is_an_allocation_error(app: App) -> None:
    dag = chain(stages.increment, cost={"cpu": 16})
    with pytest.raises(handoff.AllocationError):
        async with app.session.stream(dag, allocation_timeout=0.1):
            pytest.fail("it has begun")
    await app.until_idle()


async def test_stages_that_do_not_fit_together_are_an_allocation_error(app: App) -> None:
    dag = chain(stages.increment, stages.double, cost={"cpu": 1.5})
    with pytest.raises(handoff.AllocationError, match="stage1"):
        async with app.session.stream(dag, allocation_timeout=0.2):
            pytest.fail("it has begun")
    await app.until_idle()


async def test_more_stages_than_cores_work_at_once(app: App) -> None:
    async with app.session.stream(chain(*[stages.increment] * 6)) as pipeline:
        assert [item async for item in pipeline.map(range(50))] == list(range(6, 56))
