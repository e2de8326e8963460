"""Errors in a DAG or in the options of a run are raised before anything runs, each as its own class."""

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest

import handoff_actors as handoff
from tests.processes.app import App, single
from tests.workers import functions

pytestmark = pytest.mark.processes


def call(id: Any, args: list[Any], **options: Any) -> handoff.Function:  # noqa: A002 - as Function's
    return handoff.Function(id, args, lambda *_: None, **options)


async def test_missing_function_is_named(app: App) -> None:
    with pytest.raises(handoff.MissingFunctionError, match=r"'a'.*'nowhere'"):
        await app.run(handoff.DAG().add_function(call("a", ["nowhere"])))


async def test_cycle_is_shown(app: App) -> None:
    dag = handoff.DAG().add_functions([call("a", ["c"]), call("b", ["a"]), call("c", ["b"])])

    with pytest.raises(handoff.CycleError) as caught:
        await app.run(dag)

    assert caught.value.cycle[0] == caught.value.cycle[-1]
    assert set(caught.value.cycle) == {"a", "b", "c"}
    assert "'a' -> " in str(caught.value)


async def test_nothing_runs_of_a_dag_that_is_wrong(app: App) -> None:
    dag = handoff.DAG().add_functions([call("fine", []), call("a", ["b"]), call("b", ["a"])])
    events: list[handoff.RunEvent] = []

    with pytest.raises(handoff.DagError):
        await app.run(dag, on_event=events.append)

    assert events == []


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (
            lambda: handoff.DAG().add_functions([call("a", []), call("a", [])]),
            handoff.DuplicateFunctionError,
            "'a'",
        ),
        (lambda: single(len, cost={"cpu": -1}), handoff.InvalidFunctionError, "cost"),
        (lambda: single(len, cost={"cpu": "two"}), handoff.InvalidFunctionError, "cost"),
        (lambda: single(len, cost={"gpu": 1.5}), handoff.InvalidFunctionError, "gpu"),
        (lambda: single(len, cost={"cpu": float("nan")}), handoff.InvalidFunctionError, "cost"),
        (lambda: single(len, type="inline", cost={"cpu": 1}), handoff.InvalidFunctionError, "inline"),
        (lambda: single(len, type="inline", node="n1"), handoff.InvalidFunctionError, "inline"),
        (lambda: single(len, type="input"), handoff.InvalidFunctionError, "input"),
        (lambda: single(len, type="other"), handoff.InvalidFunctionError, "type"),
        (lambda: single(len, max_retries=-1), handoff.InvalidFunctionError, "max_retries"),
        (lambda: single(len, timeout=0), handoff.InvalidFunctionError, "timeout"),
        (lambda: single(3), handoff.InvalidFunctionError, "callable"),  # type: ignore[arg-type]  # the point
        (lambda: single(len, node=handoff.collocated("x")).validate(), handoff.MissingFunctionError, "'x'"),
    ],
)
def test_each_mistake_has_its_error(build: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        build()


def test_unknown_option_of_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match="retries"):
        single(len, retries=3)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"allocation_strategy": "best"},
            ValueError,
            "'best' is unknown; there are most_spare, first_available",
        ),
        ({"allocation_strategy": object()}, TypeError, "choose"),
        ({"max_retries": -1}, ValueError, "max_retries"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"allocation_timeout": -1}, ValueError, "allocation_timeout"),
        ({"retry_backoff": (1, 0.5, 3)}, ValueError, "retry_backoff"),
        ({"fetch": "only"}, ValueError, "fetch"),
        ({"fetch": ["other"]}, ValueError, "'other'"),
        ({"unknown": 1}, TypeError, "unknown"),
    ],
)
async def test_each_wrong_option_of_a_run_is_refused(
    app: App, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await app.run(single(functions.add, 1, 2), **options)

    assert app.node.is_idle


async def test_dag_of_a_stream_cannot_be_executed(app: App) -> None:
    dag = handoff.DAG().add_function(handoff.Function("in", [], None, type="input"))

    with pytest.raises(handoff.InvalidFunctionError, match="'in'"):
        await app.run(dag)


async def test_empty_dag_has_no_results(app: App) -> None:
    assert dict((await app.run(handoff.DAG())).results) == {}


@pytest.mark.parametrize("capabilities", [{"cpu": -1}, {"cpu": "two"}, {"cpu": float("inf")}, {"cpu": True}])
async def test_capabilities_that_are_no_amounts_are_refused(capabilities: dict[str, Any]) -> None:
    async with handoff.Session(seeds=()) as session:
        with pytest.raises(ValueError, match="cpu"):
            await session.register_local_node(capabilities)


def test_chain_of_10_000_validates() -> None:
    dag = handoff.DAG().add_functions(
        call(number, [number - 1] if number else []) for number in range(10_000)
    )

    dag.validate()


async def test_chain_of_300_runs(app: App) -> None:
    dag = handoff.DAG().add_function(handoff.Function(0, [], int))
    dag.add_functions(
        handoff.Function(number, [number - 1], lambda value: value + 1) for number in range(1, 300)
    )

    assert (await app.run(dag)).results[299] == 299


def test_100_000_functions_validate_in_under_a_second() -> None:
    dag = handoff.DAG().add_functions(
        call(number, [number // 2, number // 3] if number else []) for number in range(100_000)
    )
    # How long a collection takes depends on all that other tests have left in this process.
    gc.disable()
    began = time.process_time()

    dag.validate()

    ended = time.process_time()
    gc.enable()
    assert ended - began < 1
