"""What functions know of themselves on real nodes, and what they report to the app that watches."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import events

pytestmark = pytest.mark.processes

#: Steps of each function that reports.
STEPS = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[handoff.LocalCluster]:
    with handoff.LocalCluster(nodes=2, cpu=1) as made:
        yield made


def report(marker: str) -> None:
    """Report, fail once, and report again."""
    function = handoff.current()
    for step in range(1, STEPS + 1):
        function.set_progress(step, STEPS)
        function.emit((function.id, step))
    if not Path(marker).exists():
        Path(marker).touch()
        raise ValueError("not yet")


async def report_later(marker: str) -> None:
    await asyncio.sleep(0)
    await asyncio.to_thread(report, marker)


def know() -> dict[str, Any]:
    function = handoff.current()
    return {name: getattr(function, name) for name in ("id", "attempt", "node", "worker", "run")}


def die_after_a_word(marker: str) -> None:
    function = handoff.current()
    function.emit("a word")
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(3)


async def watched(cluster: handoff.LocalCluster, dag: handoff.DAG) -> list[events.RunEvent]:
    seen: list[events.RunEvent] = []
    async with cluster.session() as session:
        await session.execute_distributed(dag, on_event=seen.append)
    return seen


@pytest.mark.parametrize("code", [report, report_later])
async def test_reports_of_each_attempt_come_in_order_and_before_its_end(
    cluster: handoff.LocalCluster, code: Any, tmp_path: Path
) -> None:
    dag = handoff.DAG("training")
    for number in range(3):
        dag.call(code, str(tmp_path / f"{number}"), id=("fit", number))

    seen = await watched(cluster, dag)

    kinds = (events.ValueEmitted, events.FunctionProgressed, events.Retried, events.Finished)
    for number in range(3):
        of_function = [
            event for event in seen if event.function_id == ("fit", number) and isinstance(event, kinds)
        ]
        # Attempts that were given back unstarted have reported nothing.
        attempts = sorted({event.attempt for event in of_function})
        ends = [event for event in of_function if isinstance(event, events.Retried | events.Finished)]
        assert [(event.kind, event.attempt) for event in ends] == [
            ("retried", attempts[0]),
            ("completed", attempts[1]),
        ]
        for attempt, end in zip(attempts, ends, strict=True):
            heard = [event for event in of_function if event.attempt == attempt]
            values = [event.value for event in heard if isinstance(event, events.ValueEmitted)]
            progress = [event for event in heard if isinstance(event, events.FunctionProgressed)]
            assert values == [(repr(("fit", number)), step) for step in range(1, STEPS + 1)]
            # A retried function starts anew.
            assert [event.done for event in progress] == sorted({event.done for event in progress})
            assert (progress[0].done, progress[-1].done, progress[-1].total) == (1, STEPS, STEPS)
            assert heard[-1] is end
            assert {event.node for event in heard} <= {"n1", "n2"}


async def test_functions_know_who_and_where_they_are(cluster: handoff.LocalCluster) -> None:
    dag = handoff.DAG("who")
    ids: list[Any] = ["a name", 5, -(2**62), ("a", "tuple"), 2.5]
    for function_id in ids:
        dag.call(know, id=function_id)
    first = dag.call(int, id="first")
    dag.call(lambda _value: know(), first, id="behind it")

    async with cluster.session() as session:
        run = await session.execute_distributed(dag)

    known = run.results
    assert [known[function_id]["id"] for function_id in ids] == [
        "a name",
        5,
        -(2**62),
        "('a', 'tuple')",
        "2.5",
    ]
    assert known["behind it"]["id"] == "behind it"
    for function_id in ids:
        of_function = run.report[function_id]
        assert (known[function_id]["node"], known[function_id]["worker"], known[function_id]["attempt"]) == (
            of_function.node,
            of_function.worker,
            of_function.attempts,
        )
    [number] = {entry["run"] for function_id, entry in known.items() if function_id != "first"}
    assert len(number) == 16


async def test_what_was_emitted_before_a_worker_died_is_heard(
    cluster: handoff.LocalCluster, tmp_path: Path
) -> None:
    dag = handoff.DAG("deadly")
    dag.call(die_after_a_word, str(tmp_path / "died"), id="f")

    seen = await watched(cluster, dag)

    kinds = [event.kind for event in seen if event.kind in {"emitted", "lost", "retried", "completed"}]
    assert kinds == ["emitted", "lost", "emitted", "completed"]


async def test_a_function_of_a_nested_run_is_another_one(cluster: handoff.LocalCluster) -> None:
    def outer() -> tuple[Any, Any, Any]:
        inner = handoff.DAG("inner")
        inner.call(know, id="within")
        nested = handoff.run_sync(inner).results["within"]
        return handoff.current().id, nested["id"], nested["run"] != handoff.current().run

    dag = handoff.DAG("outer")
    dag.call(outer, id="around")

    async with cluster.session() as session:
        run = await session.execute_distributed(dag)

    assert run.results["around"] == ("around", "within", True)


def name_itself(number: int) -> Any:
    function = handoff.current()
    function.set_progress(number)
    function.emit(number)
    return function.id


async def test_functions_of_an_open_run_are_told_apart_where_they_take_one_anothers_places(
    cluster: handoff.LocalCluster,
) -> None:
    seen: list[events.RunEvent] = []
    named: dict[int, Any] = {}
    async with cluster.session() as session, session.open_run(on_event=seen.append) as run:
        for number in range(60):
            named[number] = await run.call(name_itself, number)

    emitted = [event for event in seen if isinstance(event, events.ValueEmitted)]
    assert len(set(named.values())) == 60
    assert {event.value: event.function_id for event in emitted} == named
    progressed = [event for event in seen if isinstance(event, events.FunctionProgressed)]
    assert {event.done: event.function_id for event in progressed} == named
