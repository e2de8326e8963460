"""Cached functions among those that are added to runs, by the app and by functions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from tests.processes.app import App
from tests.processes.test_cached_functions import cache, cached_files, make_writable_by_others, noted, times

__all__ = ["cache"]
pytestmark = pytest.mark.processes

LARGE = 1_000_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def test_a_call_that_is_cached_is_not_executed_again(app: App, log: Path) -> None:
    code = noted(log, abs)

    async with app.session.open_run() as run:
        first = [await run.call(code, number, cache="30d") for number in (1, 1, 2)]
    async with app.session.open_run() as run:
        second = [await run.call(code, number, cache="30d", id=f"other-{number}") for number in (1, 2)]

    assert (first, second) == ([1, 1, 2], [1, 2])
    assert times(log) == 2


async def test_single_calls_maps_and_tasks_are_cached(app: App, log: Path) -> None:
    task = handoff.task(noted(log, abs), cache=60)

    assert [await app.session.call(task, -1) for _ in range(3)] == [1, 1, 1]
    for _ in range(2):
        assert [value async for value in app.session.map(task, range(-3, 1))] == [3, 2, 1, 0]
    assert times(log) == 4


async def test_runs_and_calls_share_what_is_cached(app: App, log: Path) -> None:
    code = noted(log, abs)
    dag = handoff.new()
    dag.call(code, 7, id="a", cache=60)
    await app.run(dag)

    assert await app.session.call(code, 7, cache=60) == 7
    assert times(log) == 1


async def test_a_cached_call_counts_the_calls_whose_results_it_takes(app: App, tmp_path: Path) -> None:
    above, below = tmp_path / "above", tmp_path / "below"

    async def result(start: int) -> Any:
        async with app.session.open_run() as run:
            made = run.call(noted(above, abs), start)
            return await run.call(noted(below, float), made, cache="1h")

    assert [await result(1), await result(1), await result(2)] == [1.0, 1.0, 2.0]
    assert (times(above), times(below)) == (3, 2)


async def test_calls_after_a_cached_one_may_be_taken_by_the_next(app: App, tmp_path: Path) -> None:
    below = tmp_path / "below"
    for _ in range(2):
        async with app.session.open_run() as run:
            assert await run.call(abs, 1, cache="1h") == 1
            between = run.call(float, 2)
            assert await between == 2.0
            assert await run.call(noted(below, int), between, cache="1h") == 2

    assert times(below) == 1


async def test_what_takes_a_result_of_unknown_origin_cannot_be_cached(
    app: App, log: Path, tmp_path: Path
) -> None:
    async with app.session.open_run(on_failure="continue") as run:
        early = run.call(abs, 1)
        await early
        with pytest.raises(handoff.InvalidFunctionError, match=r"'abs-1'.*the option, too, or .* a journal"):
            await run.call(noted(log, float), early, cache="1h")
        assert await run.call(float, early) == 1.0
    for name in ("first", "second"):
        async with app.session.open_run(journal=tmp_path / "run.db") as run:
            early = run.call(abs, 1)
            await early
            assert await run.call(noted(log, float), early, cache="1h", id=name) == 1.0

    assert times(log) == 1


async def test_large_results_of_calls_are_cached_even_if_nothing_awaits_them(
    app: App, log: Path, cache: Path
) -> None:
    async with app.session.open_run() as run:
        length = run.call(len, run.call(noted(log, bytes), LARGE, cache="1h"))
        assert await length == LARGE
    assert len(cached_files(cache)) == 1
    async with app.session.open_run() as run:
        large = run.call(noted(log, bytes), LARGE, cache="1h")
        assert await run.call(len, large) == LARGE
        assert await large == bytes(LARGE)

    assert times(log) == 1


def parent_of(code: Callable[..., Any], argument: object, **options: Any) -> Callable[[], Any]:
    def parent() -> "handoff.Subgraph[Any]":
        dag = handoff.new()
        return handoff.Subgraph(dag, result=dag.call(float, dag.call(code, argument, **options)))

    return parent


async def test_functions_that_functions_add_are_cached(app: App, log: Path) -> None:
    parent = parent_of(noted(log, abs), 3, cache="1h")
    dag = handoff.new()
    dag.call(parent, id="p")

    run = await app.run(dag)
    again = await app.run(dag)
    called = await app.session.call(parent)
    same = await app.session.call(noted(log, abs), 3, cache="1h")

    assert (run.results["p"], again.results["p"], called, same) == (3.0, 3.0, 3.0, 3)
    assert (run.reused, again.reused) == (set(), {"p/0"})
    assert times(log) == 1


async def test_a_function_that_returns_a_graph_and_its_result_are_cached_both(
    app: App, tmp_path: Path
) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    result = noted(inner, abs)

    def parent(number: int) -> "handoff.Subgraph[int]":
        dag = handoff.new()
        return handoff.Subgraph(dag, result=dag.call(result, 4, cache="1h"))

    for number in (1, 1, 2):
        assert await app.session.call(noted(outer, parent), number, cache="1h") == 4

    assert (times(outer), times(inner)) == (2, 1)


@pytest.mark.parametrize("size", [1, LARGE], ids=["small", "parts"])
async def test_items_of_a_map_over_a_result_are_cached(app: App, log: Path, size: int) -> None:
    def items(count: int) -> "handoff.Parts[bytes]":
        return handoff.Parts([bytes([number]) * size for number in range(count)])

    lengths = []
    for _ in range(2):
        dag = handoff.new()
        mapped = dag.map(noted(log, len), over=dag.call(items, 3), cache="1h")
        lengths.append((await app.run(dag)).results[mapped])

    assert lengths == [[size] * 3] * 2
    assert times(log) == 3


async def test_an_unsafe_directory_ends_the_cached_call_alone(app: App, cache: Path) -> None:
    make_writable_by_others(cache)

    async with app.session.open_run(on_failure="continue") as run:
        with pytest.raises(handoff.HandoffError, match=r"others can write it; .*HANDOFF_CACHE"):
            await run.call(abs, 1, cache="1h")
        with pytest.raises(handoff.HandoffError, match=r"others can write it; .*HANDOFF_CACHE"):
            await run.call(parent_of(abs, 1, cache="1h"))
        assert await run.call(abs, 2) == 2
    await app.until_idle()


async def test_a_failure_of_a_cached_call_is_not_cached(app: App, log: Path, cache: Path) -> None:
    def fail(_: int) -> None:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(handoff.FunctionFailed):
            await app.session.call(noted(log, fail), 1, cache="1h")

    assert times(log) == 2
    assert cached_files(cache) == []


async def test_calls_of_an_open_run_with_a_journal_are_cached_too(
    app: App, log: Path, tmp_path: Path
) -> None:
    for name in ("one", "one", "other"):
        async with app.session.open_run(journal=tmp_path / name) as run:
            assert await run.call(noted(log, abs), 1, cache="1h") == 1

    assert times(log) == 1
