"""Functions that return graphs, and maps over results, on real nodes and workers."""

import json
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_actors as handoff
from tests.processes import growing
from tests.processes.app import App, single
from tests.report.trace_format import check_trace, slices

pytestmark = pytest.mark.processes


async def test_recursion_gives_its_result_to_whatever_takes_it(app: App) -> None:
    values = np.random.default_rng(1).permutation(200_000)
    dag = handoff.DAG()
    ordered = dag.call(growing.quicksort, values)
    length = dag.call(growing.how_many, ordered)

    run = await app.run(dag, fetch=[ordered])

    assert np.array_equal(run.results[ordered], np.arange(200_000))
    assert run.results[length] == 200_000
    await run.release()
    await app.until_idle()


@pytest.mark.parametrize("code", [growing.count_down, growing.count_down_later])
async def test_chain_of_graphs_leaves_one_function(app: App, code: Any) -> None:
    run = await app.run(single(code, 100))

    assert run.results["only"] == "done"
    assert len(run.report) == 1
    assert sum(entry.count for entry in run.report.by_code) == 101


async def test_report_and_trace_of_a_recursion_show_who_has_added_whom(app: App, tmp_path: Path) -> None:
    run = await app.run(single(growing.fibonacci, 8))

    run.to_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    report = run.report

    check_trace(trace)
    parents = {name: entry.parent for name, entry in report.items()}
    assert parents.pop("only") is None
    assert all(parent in report for parent in parents.values())
    assert {"only", "only/0"} <= set(parents.values())
    assert {entry.code: entry.count for entry in report.by_code} == {"fibonacci": 67, "add": 33}
    path = report.critical_path
    assert path.function_ids[0] == path.function_ids[-1] == "only"
    assert path.time.all_s == pytest.approx(report.duration_s)
    arrows = [event for event in trace["traceEvents"] if event["ph"] == "s" and event["cat"] == "parent"]
    assert len(arrows) == 99


async def test_report_of_an_open_run_has_functions_that_are_forgotten(app: App, tmp_path: Path) -> None:
    async with app.session.open_run() as run:
        assert await run.call(growing.fibonacci, 6, id="f") == 8
        for number in range(5):
            assert await run.call(operator.neg, number, id=f"neg {number}") == -number
        # Handles are let go of in the next turn of the loop.
        await run.call(operator.neg, 1, id="last")

        report = run.report
        run.to_trace(tmp_path / "trace.json")

    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    check_trace(trace)
    assert {"f", "f/0", *[f"neg {number}" for number in range(5)]} <= set(report)
    assert report["f/0"].parent == "f"
    assert {entry.code: entry.count for entry in report.by_code} == {"fibonacci": 25, "add": 12, "neg": 6}
    assert {event["name"] for event in slices(trace["traceEvents"], "function")} == set(report)


async def test_functions_of_a_graph_are_tried_again_and_their_parent_is_not(app: App, tmp_path: Path) -> None:
    noted = str(tmp_path / "noted")

    assert await app.call(growing.with_a_child_that_fails, noted, 2) == 42

    assert [Path(name).stat().st_size for name in (noted, f"{noted}.child")] == [1, 3]  # noqa: ASYNC240


async def test_failure_in_a_graph_names_the_function_and_fails_the_parent(app: App, tmp_path: Path) -> None:
    dag = single(growing.with_a_child_that_fails, str(tmp_path / "noted"), 9)

    run = await app.run(dag, max_retries=0, on_failure="continue")

    error = run.failures["only"]
    assert isinstance(error, handoff.DependencyFailed)
    assert error.failed_id == "only/0"
    assert isinstance(run.failures["only/0"].__cause__, ValueError)


async def test_failure_at_the_end_of_a_graph_names_the_function_beside_its_parent(app: App) -> None:
    run = await app.run(single(growing.ends_in_a_failure), max_retries=0, on_failure="continue")

    error = run.failures["only"]
    assert isinstance(error, handoff.FunctionFailed)
    assert "function 'only' (in 'the-leaf', which it has returned as its result) failed" in str(error)
    assert "attempt 1 of 'the-leaf' in place of 'only'" in str(run.story("only"))


async def test_failure_in_a_map_names_the_function_and_the_item(app: App) -> None:
    dag = handoff.DAG()
    chain = dag.map(growing.square, over=dag.call(growing.numbers, 5)).map(growing.not_nine)
    total = chain.reduce(operator.add)

    run = await app.run(dag, max_retries=0, on_failure="continue")

    (failed,) = [each for each in run.failures.values() if isinstance(each, handoff.FunctionFailed)]
    assert f"function '{total.id}/7' (not_nine of item 3) failed" in str(failed)
    assert isinstance(run.failures[total], handoff.DependencyFailed)


async def test_growth_without_end_is_ended(app: App) -> None:
    with pytest.raises(
        handoff.TooManyFunctions, match=r"\(without_end\).* max_functions=50 functions"
    ) as caught:
        await app.call(growing.without_end, 0, max_functions=50)

    assert str(caught.value.function_id).startswith("only/0/0/0")


async def test_lambdas_grow_too(app: App) -> None:
    def twice(value: int) -> Any:
        dag = handoff.DAG()
        return handoff.Subgraph(dag, result=dag.call(lambda x: 2 * x, value))

    assert await app.call(twice, 21) == 42


async def test_open_runs_grow_from_within(app: App) -> None:
    async with app.session.open_run() as run:
        handle = run.call(growing.count_down, 20)
        several = run.call_each(growing.all_of, [3, 0])

        assert await handle == "done"
        assert [await each for each in several] == [[0, 1, 4], []]
    await app.until_idle()


@pytest.mark.parametrize("count", [0, 1, 300])
async def test_maps_over_results(app: App, count: int) -> None:
    dag = handoff.DAG()
    listed = dag.call(growing.numbers, count)
    squares = dag.map(growing.square, over=listed)
    total = squares.filter(lambda number: number % 2 == 1).reduce(operator.add, initial=0)
    length = dag.call(growing.how_many, squares)

    run = await app.run(dag)

    assert run.results[total] == sum(number**2 for number in range(count) if number % 2)
    assert run.results[length] == count
    await app.until_idle()


async def test_parts_stay_where_they_were_made(app: App) -> None:
    dag = handoff.DAG()
    frames = dag.call(growing.frames, 5, 20_000)
    firsts = dag.map(growing.first, over=frames)
    length = dag.call(growing.how_many, frames)

    run = await app.run(dag)

    assert run.results[firsts] == [0, 1, 2, 3, 4]
    assert run.results[length] == 5
    assert len(app.stored_files()) == 5
    await run.release()
    await app.until_idle()


async def test_list_in_parts_is_put_together_in_the_app(app: App) -> None:
    run = await app.run(single(growing.frames, 3, 20_000))

    assert [len(frame) for frame in run.results["only"]] == [20_000] * 3
    assert [int(frame[0]) for frame in run.results["only"]] == [0, 1, 2]
    await run.release()
    await app.until_idle()


async def test_journal_has_the_result_of_a_function_that_has_grown(app: App, tmp_path: Path) -> None:
    noted, journal = str(tmp_path / "noted"), tmp_path / "journal"
    dag = single(growing.with_a_child_that_fails, noted, 0)

    first, second = [await app.run_one(dag, journal=journal) for _ in range(2)]

    assert (first, second) == (42, 42)
    assert [Path(name).stat().st_size for name in (noted, f"{noted}.child")] == [1, 1]  # noqa: ASYNC240


async def test_values_of_other_runs_are_mapped_over_and_taken_by_all_items(app: App) -> None:
    frames = await app.run(single(growing.frames, 3, 20_000), fetch=[])
    put = await app.session.put([3, 4])
    dag = handoff.DAG()
    firsts = dag.map(growing.first, over=frames.results["only"])
    squares = dag.map(growing.square, over=put)
    # As large as to be stored, and sent to each function by reference.
    large = dag.call(bytes, 300_000)
    lengths = dag.map(growing.plus_length, over=dag.call(growing.numbers, 3), of=large)
    put_lengths = lengths.map(growing.plus_length, kwargs={"of": put}).filter(bool)
    total = put_lengths.reduce(operator.add, initial=dag.call(growing.add, 1000))
    true, false = await app.session.put(1), await app.session.put(0)
    runs = dag.call(growing.square, 2, when=true)
    skipped = dag.call(growing.square, 2, when=[true, false])

    run = await app.run(dag)

    assert run.results[firsts] == [0, 1, 2]
    assert run.results[squares] == [9, 16]
    assert run.results[total] == 1000 + 3 * 300_000 + 3 + 3 * 2
    assert (run.results[runs], run.results[skipped]) == (4, handoff.SKIP)
    await run.release()
    await frames.release()
