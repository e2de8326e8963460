"""What `on_event` and `explain` tell of a stream, with real workers."""

import json
from pathlib import Path

import pytest

import handoff_actors as handoff
from handoff_actors import events
from tests.client.streaming import stages
from tests.client.streaming.test_pipelines import chain
from tests.processes.app import App
from tests.report.trace_format import check_trace, slices


async def test_items_that_fail_are_events(app: App) -> None:
    seen: list[handoff.RunEvent] = []
    dag = chain(stages.fail_on_multiples_of_three, max_retries=1)
    async with app.session.stream(dag, on_event=seen.append) as pipeline:
        async for _ in pipeline.map(range(5)):
            pass
        report, [worker] = pipeline.report.stages["stage0"], pipeline.explain()

    retried = [event for event in seen if isinstance(event, events.ItemRetried)]
    failed = [event for event in seen if isinstance(event, events.ItemFailed)]
    assert sorted((event.number, event.attempt) for event in retried) == [(0, 1), (3, 1)]
    assert sorted((event.number, event.attempt) for event in failed) == [(0, 2), (3, 2)]
    assert {event.failure_kind for event in failed} == {"exception"}
    for event in (*retried, *failed):
        assert (event.dag_id, event.function_id, event.node) == (dag.id, "stage0", worker.node)
        assert "is a multiple" in event.reason
    assert (report.items, report.failed, report.retried) == (5, 2, 2)


async def test_workers_of_stages_that_come_and_go_are_events(app: App, tmp_path: Path) -> None:
    seen: list[handoff.RunEvent] = []
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    dag.call(stages.die_once_at, number, 3, str(tmp_path / "died"), id="risky")
    async with app.session.stream(dag, on_event=seen.append) as pipeline:
        async for _ in pipeline.map(range(6)):
            pass
        [worker] = pipeline.explain()

    workers = [event for event in seen if isinstance(event, events.StageUp | events.StageDown)]
    assert [event.kind for event in workers] == ["stage_up", "stage_down", "stage_up", "stage_down"]
    assert {(event.function_id, event.worker, event.node) for event in workers} == {("risky", 0, worker.node)}
    assert "lost" in workers[1].reason


async def test_progress_of_stages_is_told_at_the_end_at_the_latest(app: App) -> None:
    seen: list[handoff.RunEvent] = []
    async with app.session.stream(chain(stages.increment, stages.double), on_event=seen.append) as pipeline:
        async for _ in pipeline.map(range(7)):
            pass

    progressed = {event.function_id: event for event in seen if isinstance(event, events.StageProgressed)}
    assert [(event.function_id, event.items, event.failed) for event in progressed.values()] == [
        ("stage0", 7, 0),
        ("stage1", 7, 0),
    ]
    assert isinstance(seen[-1], events.RunFinished)


async def test_progress_of_stages_is_told_while_items_come(app: App) -> None:
    seen: list[handoff.RunEvent] = []
    async with app.session.stream(chain(stages.slow), on_event=seen.append, in_flight=4) as pipeline:
        async for _ in pipeline.map(range(1000)):
            progressed = [event for event in seen if isinstance(event, events.StageProgressed)]
            if progressed:
                break

    assert progressed[0].items > 0
    assert progressed[0].workers == 1
    assert progressed[0].items_per_s > 0


async def test_item_is_explained_from_its_push_until_it_is_out(app: App) -> None:
    dag = chain(stages.increment, stages.fail_on_multiples_of_three)
    async with app.session.stream(dag) as pipeline:
        assert pipeline.explain(0).state == "not pushed"
        number = await pipeline.push(2)
        assert pipeline.explain(number).places[0].function_id == "stage0"
        await pipeline.push(3)
        results = aiter(pipeline)
        assert isinstance(await anext(results), handoff.ItemError)
        assert await anext(results) == 4
        await app.until(lambda: pipeline.explain(1).state == "done")

        assert str(pipeline.explain(number)).startswith("item 0: it has failed at function 'stage1' on node ")


async def test_item_of_a_pipeline_that_has_ended_says_so(app: App) -> None:
    pipeline = app.session.stream(chain(stages.sleep_for_ever))

    async def fail() -> None:
        async with pipeline:
            assert pipeline.explain(await pipeline.push(1)).reason == ""
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert "has ended: its block was left with ZeroDivisionError" in pipeline.explain(0).reason


async def test_trace_shows_when_workers_of_stages_were_busy(app: App, tmp_path: Path) -> None:
    dag = chain(stages.increment, stages.slow)
    async with app.session.stream(dag) as pipeline:
        async for _ in pipeline.map(range(10)):
            pass
        [first, _] = pipeline.explain()
    pipeline.to_trace(tmp_path / "trace.json")

    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    check_trace(trace)
    spans = [event for event in slices(trace["traceEvents"]) if event["name"] == "stage1"]
    assert sum(event["args"]["items"] for event in spans) == 10
    assert sum(event["dur"] for event in spans) > 10 * 18_000
    names = {event["args"].get("name") for event in trace["traceEvents"] if event["ph"] == "M"}
    assert names >= {f"node {first.node}", "stage0, worker 0", "stage1, worker 0"}
