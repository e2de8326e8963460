"""Every snippet of docs/understanding.md is run, as it stands there."""

import ast
import json
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import handoff_actors as handoff
from handoff_actors.integrations.opentelemetry import instrument, uninstrument
from tests.daemons import Daemons
from tests.docs.pages import snippets

pytestmark = pytest.mark.processes

RUNNING, READING, STORY, TRACING, PLOTTING, TELLING = snippets("understanding.md", "python")


async def run_snippet(source: str, **names: Any) -> dict[str, Any]:
    code = compile(source, "understanding.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    namespace: dict[str, Any] = {"handoff": handoff, **names}
    running = eval(code, namespace)
    if running is not None:
        await running
    return namespace


@pytest.fixture(autouse=True)
async def _session_ends_with_the_test() -> AsyncIterator[None]:
    yield
    await handoff.shutdown()


async def test_the_report_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    await run_snippet(RUNNING)

    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split()[:3] == ["code", "count", "tries"]
    assert "61 functions in " in printed
    assert "critical path: " in printed


async def test_the_report_gives_values(capsys: pytest.CaptureFixture[str]) -> None:
    run = (await run_snippet(RUNNING))["run"]

    names = await run_snippet(READING, run=run)

    assert names["slowest"].code in {"resize", "max"}
    assert "'sheet'] " in capsys.readouterr().out


async def test_the_story_says_why_a_function_ran_three_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    run = (await run_snippet(STORY))["flaky_run"]

    story = run.story("flaky")
    assert [(entry.what, entry.attempt) for entry in story if entry.what != "ready"] == [
        ("sent", 1), ("retried", 1), ("sent", 2), ("worker lost", 2), ("sent", 3), ("done", 3),
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "failed and was tried again: ConnectionError: try later" in printed
    assert "attempt 2 of 'flaky' on node" in printed
    assert run.report["flaky"].attempts == 3


async def test_a_trace_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = (await run_snippet(RUNNING))["run"]

    await run_snippet(TRACING, run=run)

    assert json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]


async def test_a_picture_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = (await run_snippet(RUNNING))["run"]

    await run_snippet(PLOTTING, run=run)

    assert (tmp_path / "run.png").stat().st_size > 1000


async def test_spans_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)

    dag = handoff.new()
    dag.call(max, dag.call(bytes, 1000), dag.call(bytes, 2000))
    names = await run_snippet(TELLING, dag=dag)
    uninstrument()

    assert names["instrument"] is instrument
    assert sorted(span.name for span in exporter.get_finished_spans()) == [
        "bytes", "bytes", "handoff run", "max", "request",
    ]  # fmt: skip


def test_metrics_are_served(daemons: Daemons) -> None:
    [block] = snippets("understanding.md", "sh")
    handoff_, node, *options = block.split()
    node_options = [option.replace("9100", "0") for option in options]

    daemon = daemons.start(*node_options)

    assert (handoff_, node) == ("handoff", "node")
    with urllib.request.urlopen(daemon.metrics, timeout=10) as answer:
        assert b"handoff_node_info{" in answer.read()
