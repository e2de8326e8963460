"""Workers and nodes that are lost while items flow: each result comes out once, and in order."""

import asyncio
import importlib
import itertools
import os
import signal
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

import handoff_actors as handoff
from tests.client.streaming import stages
from tests.client.streaming.test_pipelines import chain
from tests.daemons import Daemons
from tests.processes.app import App
from tests.processes.pair import pair, start


async def test_items_of_a_worker_that_dies_run_again(app: App, tmp_path: Path) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    risky = dag.call(stages.die_once_at, number, 25, str(tmp_path / "died"))
    dag.call(stages.double, risky)
    async with app.session.stream(dag) as pipeline:
        results = [item async for item in pipeline.map(range(100))]

    assert results == [2 * number for number in range(100)]
    await app.until_idle()


async def test_quick_items_that_travel_together_come_out_once_whatever_becomes_of_one(
    app: App, tmp_path: Path
) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    risky = dag.call(stages.die_once_at, number, 3000, str(tmp_path / "died"))
    dag.call(stages.double, dag.call(stages.fail_or_skip, risky))
    async with app.session.stream(dag, in_flight=1000) as pipeline:
        results = [item async for item in pipeline.map(range(5000))]

    failed = [item.number for item in results if isinstance(item, handoff.ItemError)]
    assert failed == [number for number in range(5000) if number % 50 == 7]
    assert [item for item in results if isinstance(item, int)] == [
        2 * number for number in range(5000) if number % 50 != 7 and number % 20 != 3
    ]


async def test_worker_that_is_killed_from_outside_is_replaced(app: App) -> None:
    async with app.session.stream(chain(stages.increment, stages.pid_slowly)) as pipeline:
        results: list[int] = []
        killed: set[int] = set()
        async for number, pid in pipeline.map(range(150)):
            results.append(number)
            if number in {20, 90}:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)

    assert results == list(range(1, 151))
    assert len(killed) == 2


async def test_generator_that_is_lost_goes_on_behind_the_results_that_it_gave(
    app: App, tmp_path: Path
) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(stages.up_to_dying_once, number, str(tmp_path / "died"))
    async with app.session.stream(dag, in_flight=4) as pipeline:
        results = [item async for item in pipeline.map([3, 40, 2])]

    assert (tmp_path / "died").exists()
    assert results == [*range(3), *range(40), *range(2)]


@pytest.mark.parametrize("on_state_loss", [None, "fail"])
async def test_state_that_is_changed_in_place_begins_anew_unless_it_must_not(
    app: App, tmp_path: Path, on_state_loss: Any
) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    marker = str(tmp_path / "died")
    dag.call(stages.seen_before, number, marker, init=list, on_state_loss=on_state_loss)

    async def stream() -> list[list[int]]:
        async with app.session.stream(dag) as pipeline:
            return [await pipeline.call(number) for number in range(4)]

    if on_state_loss is None:
        assert await stream() == [[], [0], [], [2]]
    else:
        with pytest.raises(handoff.HandoffError, match=r"on node .* on_state_loss"):
            await stream()


async def test_item_that_kills_its_worker_each_time_fails_by_itself(app: App) -> None:
    async with app.session.stream(chain(stages.die_at_seven)) as pipeline:
        results = [item async for item in pipeline.map(range(20))]

    assert isinstance(results[7], handoff.ItemError)
    assert results[7].kind == "worker"
    assert [item for item in results if item is not results[7]] == [n for n in range(20) if n != 7]


async def test_large_values_outlive_the_worker_that_made_them(app: App, tmp_path: Path) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    risky = dag.call(stages.die_once_at, number, 12, str(tmp_path / "died"))
    dag.call(stages.check_large, dag.call(stages.large, risky))
    async with app.session.stream(dag) as pipeline:
        assert [item async for item in pipeline.map(range(40))] == list(range(40))
    await app.until_idle()


async def test_stages_on_two_nodes_hand_over_small_and_large_values() -> None:
    with pair() as (first, second):
        async with handoff.Session(seeds=[first.address]) as session:
            dag = handoff.DAG()
            number = dag.call(None, type="input", id="in")
            data = dag.call(stages.large, number, node="n1")
            dag.call(stages.check_large, dag.call(stages.same, data, node="n2"), node="n1")
            async with session.stream(dag) as pipeline:
                assert {each.node for each in pipeline.explain()} == {"n1", "n2"}
                assert [item async for item in pipeline.map(range(30))] == list(range(30))
            assert second.process.poll() is None


async def test_items_take_modules_along_that_nodes_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking.py").write_text("class Item(int):\n    pass\n")
    with pair() as (first, _):
        monkeypatch.syspath_prepend(tmp_path)
        lacking = importlib.import_module("lacking")
        async with handoff.Session(seeds=[first.address]) as session:
            async with session.stream(chain(stages.increment), modules_by_value=[lacking]) as pipeline:
                assert await pipeline.call(lacking.Item(3)) == 4
            async with session.stream(chain(stages.same, stages.same, stages.increment)) as pipeline:
                assert await pipeline.call(2) == 3
                assert await pipeline.call(lacking.Item(3)) == 4
                assert await asyncio.gather(*(pipeline.call(lacking.Item(n)) for n in range(5))) == [
                    1,
                    2,
                    3,
                    4,
                    5,
                ]


async def test_stream_ends_when_the_nodes_that_are_left_can_not_hold_its_stages() -> None:
    with pair() as (first, second):
        async with handoff.Session(seeds=[first.address, second.address]) as session:
            dag = chain(stages.slow, stages.same, cost={"cpu": 1})

            async def stream() -> None:
                async with session.stream(dag, allocation_timeout=0.5) as pipeline:
                    async for item in pipeline.map(range(10_000)):
                        if item == 10:
                            psutil.Process(second.process.pid).kill()

            with pytest.raises(handoff.AllocationError, match="stage"):
                await stream()


async def test_stages_stay_beside_one_another_also_when_one_starts_again(tmp_path: Path) -> None:
    with pair() as (first, _):
        async with handoff.Session(seeds=[first.address]) as session:
            dag = handoff.DAG()
            number = dag.call(None, type="input", id="in")
            same = dag.call(stages.same, number, id="same")
            slow = dag.call(
                stages.sleep_once, same, str(tmp_path / "slept"), timeout=0.3, node=handoff.collocated(same)
            )
            dag.call(stages.increment, slow, node=handoff.collocated(slow))
            async with session.stream(dag, max_retries=1) as pipeline:
                assert len({each.node for each in pipeline.explain()}) == 1
                assert [item async for item in pipeline.map(range(20))] == list(range(1, 21))
                assert len({each.node for each in pipeline.explain()}) == 1


@pytest.mark.parametrize("code", [stages.increment, stages.large])
async def test_stages_of_a_node_that_is_killed_move(code: object) -> None:
    with pair() as (first, second):
        async with handoff.Session(seeds=[first.address, second.address]) as session:
            async with session.stream(chain(stages.same, code, stages.slow, stages.same)) as pipeline:
                nodes = {each.node for each in pipeline.explain()}
                results: list[object] = []
                async for item in pipeline.map(range(100)):
                    results.append(item)
                    if len(results) == 20:
                        victim = second if "n2" in nodes else first
                        psutil.Process(victim.process.pid).kill()

            assert results == [code(number) for number in range(100)]  # type: ignore[operator]


async def test_stages_move_from_a_node_that_drains_which_then_ends_while_the_stream_goes_on() -> None:
    with pair() as (first, second):
        async with handoff.Session(seeds=[first.address, second.address]) as session:
            async with session.stream(chain(stages.same, stages.large, stages.slow)) as pipeline:
                victim = first if {each.node for each in pipeline.explain()} == {"n1"} else second
                results: list[object] = []
                async for item in pipeline.map(range(100)):
                    results.append(item)
                    if len(results) == 20:
                        victim.process.send_signal(signal.SIGTERM)

                async with asyncio.timeout(20):
                    while victim.process.poll() is None:
                        assert await pipeline.call(0) == stages.large(0)

            assert results == [stages.large(number) for number in range(100)]
            assert victim.process.returncode == 0


async def test_additional_worker_starts_on_a_node_that_joins() -> None:
    daemons = Daemons()
    try:
        first = start(daemons, "n1")
        dag = chain(stages.pid_slowly, parallelism=(1, 2), cost={"cpu": 1})
        async with handoff.Session(seeds=[first.address]) as session, session.stream(dag) as pipeline:
            results: list[int] = []
            pids: set[int] = set()
            async with asyncio.TaskGroup() as tasks, aclosing(pipeline.map(itertools.count())) as items:
                tasks.create_task(asyncio.to_thread(start, daemons, "n2", "--join", first.address))
                while len(pids) < 2:
                    number, pid = await anext(items)
                    results.append(number)
                    pids.add(pid)
            assert {each.node for each in pipeline.explain()} == {"n1", "n2"}
            assert results == list(range(len(results)))
    finally:
        daemons.close()


async def test_stream_whose_state_was_its_truth_fails(app: App) -> None:
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(stages.pid_of, dag.call(stages.count, number, init=stages.start_counting))

    async def stream() -> None:
        async with app.session.stream(dag) as pipeline:
            assert (await pipeline.call(1))[0] == 101
            for pid in app.node._listener.pids.values():
                os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                while True:
                    await pipeline.call(1)

    with pytest.raises(handoff.HandoffError, match="state"):
        await stream()
    await app.until_idle()
