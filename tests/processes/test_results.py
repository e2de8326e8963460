"""Results: those sent to the app, those that stay on their node until they are fetched, and the report of each function."""

import asyncio
import gc
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from tests.processes.app import App, single
from tests.workers import functions

pytestmark = pytest.mark.processes

LARGE = 1_000_000


def large_chain() -> handoff.DAG:
    """Two values of a megabyte, and their length."""
    return handoff.DAG("chain").add_functions(
        [
            handoff.Function("made", [], bytes, extra_args=[LARGE]),
            handoff.Function("copied", ["made"], lambda value: value + b"x"),
            handoff.Function("length", ["copied"], len),
        ]
    )


async def test_large_values_in_between_stay_on_their_node(app: App) -> None:
    run = await app.run(large_chain())

    assert run.results["length"] == LARGE + 1
    stored = run.results["copied"]
    assert isinstance(stored, handoff.StoredValue)
    assert stored.node == run.allocations["copied"] == app.node.name
    assert stored.nbytes > LARGE
    assert repr(stored) == f"StoredValue(node={app.node.name!r}, nbytes={stored.nbytes})"


async def test_stored_value_can_be_awaited_and_fetched(app: App) -> None:
    run = await app.run(large_chain())

    assert await run.results["made"] == bytes(LARGE)
    assert await run.fetch("copied") == bytes(LARGE) + b"x"
    assert run.results["made"] == bytes(LARGE)
    assert await run.fetch("length") == LARGE + 1


async def test_handles_work_wherever_ids_do(app: App) -> None:
    dag = handoff.DAG()
    made = dag.call(bytes, LARGE)
    length = dag.call(len, made)

    run = await app.run(dag, fetch=made)

    assert run.results[made] == await run.fetch(made) == bytes(LARGE)
    assert run.results.get(length) == LARGE
    assert made in run.results
    assert dag.call(len, made) not in run.results
    assert run.allocations[length] == app.node.name
    assert run.report[length].function_id == length.id
    assert run.story(length).entries == run.story(length.id).entries
    assert run.explain(length) is None
    assert await app.session.get_result(dag.id, length) == LARGE


async def test_unknown_ids_are_errors_that_name_ids_near_them(app: App) -> None:
    dag = handoff.DAG("mine")
    dag.call(len, "text")

    run = await app.run(dag)

    look_ups: list[Callable[[Any], object]] = [
        run.results.__getitem__,
        run.allocations.__getitem__,
        run.report.__getitem__,
        run.story,
    ]
    for look_up in look_ups:
        with pytest.raises(KeyError, match=r"DAG 'mine' has no function 'len' .* near it: 'len-1'"):
            look_up("len")
    for fetched in (run.fetch("len"), app.session.get_result("mine", "len")):
        with pytest.raises(KeyError, match="near it: 'len-1'"):
            await fetched
    with pytest.raises(
        ValueError, match=r"fetch='len': DAG 'mine' has no function 'len' .* near it: 'len-1'"
    ):
        await app.run(dag, fetch=["len"])
    with pytest.raises(ValueError, match="it is 'all', a handle, or a list"):
        await app.run(dag, fetch=5)


@pytest.mark.parametrize(
    ("fetch", "in_app"), [("all", {"made", "copied"}), (["made"], {"made"}), (None, set())]
)
async def test_fetch_says_which_results_come_into_the_app(app: App, fetch: Any, in_app: set[str]) -> None:
    run = await app.run(large_chain(), fetch=fetch)

    here = {name for name in ("made", "copied") if not isinstance(run.results[name], handoff.StoredValue)}
    assert here == in_app


async def test_result_of_a_sink_comes_into_the_app_whatever_its_size(app: App) -> None:
    assert await app.call(bytes, LARGE) == bytes(LARGE)


async def test_release_drops_what_is_on_nodes_and_keeps_what_is_here(app: App) -> None:
    run = await app.run(large_chain(), fetch=["made"])
    assert app.stored_files()

    await run.release()

    assert app.node.is_idle
    assert run.results["made"] == bytes(LARGE)
    with pytest.raises(handoff.NodeLost, match="'copied'"):
        await run.fetch("copied")


@pytest.fixture
def _no_garbage_is_collected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_garbage_is_collected")
@pytest.mark.parametrize("is_journaled", [False, True])
async def test_all_of_a_released_run_is_gone_with_the_last_reference_to_it(
    app: App, tmp_path: Path, is_journaled: bool
) -> None:
    journal = tmp_path / "journal" if is_journaled else None
    run = await app.run(large_chain(), fetch=["made"], journal=journal)
    runner = run._holdings.runner
    parts = [weakref.ref(part) for part in (runner, runner.machine, runner.machine.state)]
    await run.release()

    del run, runner

    assert [part() for part in parts] == [None, None, None]


async def test_values_are_dropped_once_nobody_refers_to_the_run(app: App) -> None:
    run = await app.run(large_chain())
    assert not app.node.is_idle

    del run
    gc.collect()

    await app.until_idle()


async def test_stored_value_keeps_its_run_alive(app: App) -> None:
    value = (await app.run(large_chain())).results["made"]
    gc.collect()

    assert await value == bytes(LARGE)


async def test_closed_session_refuses_what_has_not_come_home(app: App) -> None:
    run = await app.run(large_chain())

    await app.session.close()

    assert run.results["length"] == LARGE + 1
    with pytest.raises(handoff.NodeLost, match="'made'"):
        await run.fetch("made")


async def test_unknown_ids_are_refused(app: App) -> None:
    run = await app.run(single(functions.add, 1, 2))

    with pytest.raises(KeyError):
        await run.fetch("other")
    with pytest.raises(KeyError):
        run.results["other"]
    with pytest.raises(ValueError, match="other"):
        await app.run(single(functions.add, 1, 2), fetch=["other"])


async def test_results_are_a_mapping_in_the_order_of_adding(app: App) -> None:
    run = await app.run(large_chain())

    assert list(run.results) == list(run.allocations) == list(run.report) == ["made", "copied", "length"]
    assert run.dag_id == "chain"


async def test_get_result_waits_for_a_run_that_goes_on(app: App) -> None:
    dag = handoff.DAG("mine").add_function(
        handoff.Function("soon", [], functions.double_later, extra_args=[4])
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(dag))
        await app.until(lambda: bool(app.session._hub.runs._known))

        assert await app.session.get_result("mine", "soon") == 8

    assert running.result().results["soon"] == 8


async def test_get_result_gives_results_of_runs_that_are_still_referred_to(app: App) -> None:
    run = await app.run(large_chain())
    small = await app.run(
        handoff.DAG("small").add_function(handoff.Function("sum", [], sum, extra_args=[[1, 2]]))
    )
    await app.until(lambda: len(app.session._hub.runs._runs) == 1)

    assert await app.session.get_result("chain", "made") == bytes(LARGE)
    assert await app.session.get_result("small", "sum") == 3
    assert (run.dag_id, small.dag_id) == ("chain", "small")


async def test_get_result_refuses_what_there_is_not(app: App) -> None:
    run = await app.run(large_chain())

    with pytest.raises(KeyError, match="other"):
        await app.session.get_result("other", "made")
    with pytest.raises(KeyError):
        await app.session.get_result(run.dag_id, "other")


async def test_get_result_gives_up_in_time(app: App) -> None:
    dag = handoff.DAG("slow").add_function(handoff.Function("never", [], asyncio.sleep, extra_args=[600]))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(dag))
        await app.until(lambda: app.node.advert().running == 1)

        with pytest.raises(TimeoutError):
            await app.session.get_result("slow", "never", timeout=0.05)

        running.cancel()


async def test_report_tells_how_each_function_went(app: App) -> None:
    dag = large_chain().add_function(handoff.Function("pid", ["length"], lambda _: os.getpid()))

    run = await app.run(dag)

    entry = run.report["pid"]
    assert (entry.function_id, entry.node, entry.attempts) == ("pid", app.node.name, 1)
    assert entry.worker == run.results["pid"]
    assert 0 <= entry.queued_at <= entry.started_at <= entry.finished_at
    assert run.report["copied"].finished_at <= run.report["length"].finished_at
    assert entry.ran_s >= 0
    assert run.report["made"].result_nbytes > LARGE
    assert 0 < entry.result_nbytes < 100
    assert entry.moved_nbytes == 0
    assert entry.time.all_s == pytest.approx(entry.finished_at)


async def test_events_tell_the_life_of_each_function(app: App) -> None:
    events: list[handoff.RunEvent] = []

    await app.run(single(functions.add, 1, 2), on_event=events.append)

    assert [(event.kind, event.function_id, event.node, event.attempt) for event in events] == [
        ("run_started", None, "", 0),
        ("node_joined", None, app.node.name, 0),
        ("assigned", "only", app.node.name, 1),
        ("started", "only", app.node.name, 1),
        ("completed", "only", app.node.name, 1),
        ("run_finished", None, "", 0),
    ]


@pytest.mark.parametrize("where", ["extra_args", "kwargs", "argument"])
async def test_large_constants_arrive_whole(app: App, where: str) -> None:
    value = os.urandom(10_000_000)
    dag = handoff.DAG()
    if where == "argument":
        dag.call(functions.same, value, id="only")
    elif where == "kwargs":
        dag.add_function(handoff.Function("only", [], functions.same, kwargs={"value": value}))
    else:
        dag.add_function(handoff.Function("only", [], functions.same, extra_args=[value]))

    run = await app.run(dag)

    assert run.results["only"] == value
    await run.release()
    await app.until_idle()


async def test_large_constant_of_an_inline_function_arrives_whole(app: App) -> None:
    dag = handoff.DAG()
    value = dag.call(lambda constant: constant, b"x" * LARGE, type="inline", id="value")
    other = dag.call(
        lambda *, constant: constant, kwargs={"constant": b"y" * LARGE}, type="inline", id="other"
    )
    dag.call(lambda left, right: (left[:1], right[:1]), value, other, id="both")

    run = await app.run(dag)

    assert run.results["both"] == (b"x", b"y")
