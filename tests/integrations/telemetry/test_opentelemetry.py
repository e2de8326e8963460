"""Traces that go on from the app into functions on real daemons."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

import handoff_actors as handoff
from handoff_actors.integrations.opentelemetry import instrument, uninstrument
from tests.daemons import Daemons
from tests.integrations.telemetry.functions import (
    add,
    baggage_of,
    fail,
    fail_once,
    span_within,
    span_within_coroutine,
    total,
    unwrap,
    wrap,
)

pytestmark = pytest.mark.processes


class Spans:
    """The spans that the app has exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def within(self, name: str) -> Any:
        return self.provider.get_tracer("the app").start_as_current_span(name)

    def named(self, name: str) -> ReadableSpan:
        (span,) = (span for span in self._exporter.get_finished_spans() if span.name == name)
        return span

    def of(self, function_id: str) -> ReadableSpan:
        (span,) = (
            span for span in self._exporter.get_finished_spans() if attribute(span, "function") == function_id
        )
        return span

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def forget(self) -> None:
        self._exporter.clear()

    def count(self) -> int:
        return len(self._exporter.get_finished_spans())


def attribute(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {}).get(f"handoff.{name}")


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Trace and span, in hexadecimal."""
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    instrument(made.provider)
    yield made
    uninstrument()


@pytest.fixture
async def session(daemons: Daemons) -> AsyncIterator[handoff.Session]:
    _, n2 = daemons.cluster(2, "--cpu", "1")
    async with handoff.Session(seeds=[n2.address]) as app:
        yield app


async def test_the_apps_trace_goes_on_into_functions(session: handoff.Session, spans: Spans) -> None:
    dag = handoff.new()
    dag.add_function(handoff.Function("sync", [], span_within, node="n1"))
    dag.add_function(handoff.Function("async", ["sync"], span_within_coroutine, node="n2"))

    with spans.within("request"):
        run = await session.execute_distributed(dag)

    request, of_run = spans.named("request"), spans.named("handoff run")
    assert parent_of(of_run) == request.context.span_id
    for name, node in (("sync", "n1"), ("async", "n2")):
        span = spans.of(name)
        assert parent_of(span) == of_run.context.span_id
        assert run.results[name] == ids(span)
        assert span.context.trace_id == request.context.trace_id
        assert attribute(span, "node") == node
        assert attribute(span, "worker") == run.report[name].worker
    assert spans.of("sync").name == "span_within"


async def test_spans_of_functions_lie_within_that_of_their_run(
    session: handoff.Session, spans: Spans
) -> None:
    dag = handoff.new()
    for number in range(20):
        dag.add_function(handoff.Function(str(number), [str(number - 1)] if number else [], span_within))

    run = await session.execute_distributed(dag)

    of_run = spans.named("handoff run")
    assert spans.count() == 21
    assert len({run.results[str(number)] for number in range(20)}) == 20
    for number in range(20):
        span = spans.of(str(number))
        assert (
            (of_run.start_time or 0)
            <= (span.start_time or 0)
            <= (span.end_time or 0)
            <= (of_run.end_time or 0)
        )


async def test_spans_begin_after_those_that_they_follow_have_ended(
    session: handoff.Session, spans: Spans
) -> None:
    dag = handoff.new()
    for number in range(200):
        dag.add_function(handoff.Function(str(number), [str(number - 1)] if number % 50 else [], span_within))

    # Once the functions are known to be quick, they are fused.
    for _ in range(2):
        spans.forget()
        await session.execute_distributed(dag)

    for number in range(200):
        if number % 50:
            assert (spans.of(str(number - 1)).end_time or 0) <= (spans.of(str(number)).start_time or 0)


async def test_results_are_what_they_are_without_spans(session: handoff.Session, spans: Spans) -> None:
    dag = handoff.new()
    three = dag.call(add, 1, 2)
    inline = dag.call(add, three, 10, type="inline")
    dag.call(add, inline, three, id="same_code", extra_args=[100])
    dag.call(total, three, inline, id="listed", argument_inclusion="as_list", kwargs={"more": 1000})
    dag.call(total, [three, inline], id="placed", kwargs={"more": three})
    hooked = handoff.Argument(three.id, serialize=wrap, deserialize=unwrap)
    dag.add_function(handoff.Function("hooked", [hooked], add, extra_args=[5]))

    run = await session.execute_distributed(dag)

    assert {name: run.results[name] for name in ("same_code", "listed", "placed", "hooked")} == {
        "same_code": 116,
        "listed": 1016,
        "placed": 19,
        "hooked": 8,
    }


async def test_baggage_travels_too(session: handoff.Session, spans: Spans) -> None:
    dag = handoff.new().add_function(handoff.Function("only", [], baggage_of))
    token = context.attach(baggage.set_baggage("tenant", "blue"))

    run = await session.execute_distributed(dag)
    context.detach(token)

    assert run.results["only"] == "blue"


async def test_failed_attempts_are_events_of_the_span_that_ended_well(
    session: handoff.Session, spans: Spans, tmp_path: Any
) -> None:
    flaky = handoff.Function("flaky", [], fail_once, extra_args=[str(tmp_path / "marker")])

    run = await session.execute_distributed(handoff.new().add_function(flaky))

    span = spans.of("flaky")
    assert run.results["flaky"] == ids(span)
    assert attribute(span, "attempt") == 2
    (event,) = span.events
    assert event.name == "attempt failed"
    assert (event.attributes or {})["handoff.reason"] == "ValueError: not the first time"


async def test_a_function_that_fails_ends_its_span_and_that_of_the_run_in_error(
    session: handoff.Session, spans: Spans
) -> None:
    dag = handoff.new().add_function(handoff.Function("fails", [], fail, max_retries=1))

    with pytest.raises(handoff.FunctionFailed):
        await session.execute_distributed(dag)

    span, of_run = spans.of("fails"), spans.named("handoff run")
    assert (span.status.status_code, span.status.description) == (
        StatusCode.ERROR,
        "ValueError: as it should",
    )
    assert len(span.events) == 2
    assert of_run.status.status_code == StatusCode.ERROR
    assert [event.name for event in of_run.events] == ["exception"]


async def test_what_can_not_be_encoded_ends_the_span_in_error(session: handoff.Session, spans: Spans) -> None:
    dag = handoff.new().add_function(handoff.Function("a", [], add, extra_args=[sys._getframe()]))

    with pytest.raises(handoff.SerializationError, match="function 'a'"):
        await session.execute_distributed(dag)

    assert spans.named("handoff run").status.status_code == StatusCode.ERROR


async def test_events_still_reach_the_caller(session: handoff.Session, spans: Spans) -> None:
    seen: list[str] = []
    dag = handoff.new().add_function(handoff.Function("only", [], add))

    await session.execute_distributed(dag, on_event=lambda event: seen.append(event.kind))

    assert [kind for kind in seen if not kind.startswith(("run_", "node_"))] == [
        "assigned",
        "started",
        "completed",
    ]


async def test_without_an_sdk_everything_runs_without_spans(session: handoff.Session) -> None:
    instrument()
    try:
        run = await session.execute_distributed(
            handoff.new().add_function(handoff.Function("only", [], add, extra_args=[1, 2]))
        )
    finally:
        uninstrument()

    assert run.results["only"] == 3


async def test_a_journal_knows_functions_with_and_without_spans(
    session: handoff.Session, spans: Spans, tmp_path: Any
) -> None:
    dag = handoff.DAG("same").add_function(handoff.Function("only", [], add, extra_args=[1, 2]))

    await session.execute_distributed(dag, journal=tmp_path / "run.db")
    uninstrument()
    again = await session.execute_distributed(dag, journal=tmp_path / "run.db")

    assert again.reused == {"only"}


def test_workers_without_opentelemetry_call_the_function_all_the_same() -> None:
    script = """
import sys
sys.modules["opentelemetry"] = None
from handoff_actors.integrations.continuation import Continued
print(Continued(max, as_list=False)({"traceparent": "x"}, 0, 3, 5))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert done.stdout == "5\n"


async def test_workers_of_stages_have_spans_for_as_long_as_they_take_items(
    session: handoff.Session, spans: Spans
) -> None:
    dag = handoff.DAG("stream")
    number = dag.call(None, type="input", id="number")
    dag.call(abs, number, id="positive", parallelism=2)
    with spans.within("request"):
        async with session.stream(dag) as pipeline:
            assert await pipeline.call(-1) == 1

    run = spans.named("handoff run")
    workers = [span for span in spans.all() if span.name == "stage positive"]
    assert sorted(attribute(span, "worker") for span in workers) == [0, 1]  # type: ignore[type-var]
    assert {parent_of(span) for span in workers} == {run.context.span_id}
    assert {attribute(span, "reason") for span in workers} == {"it is not needed any more"}


async def test_functions_of_open_runs_have_no_spans_and_harm_no_callback(
    session: handoff.Session, spans: Spans
) -> None:
    seen: list[handoff.RunEvent] = []
    async with session.open_run(on_event=seen.append) as run:
        assert await run.call(abs, -1) == 1

    assert [event.kind for event in seen if event.kind == "completed"] == ["completed"]
    assert spans.count() == 1
