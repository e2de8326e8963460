"""What is shown of a stream: a line for all of it, and one for each stage."""

import io

import pytest
from rich.console import Console

import handoff_actors as handoff
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.display.bars import _row
from handoff_actors.display.canvases import _line_about
from handoff_actors.display.stream_snapshot import StreamProgressView
from handoff_actors.graph import Function
from tests.core.stream.builders import code, ended, failure, push, stream_of, taken


def some_stream() -> StreamMachine:
    """Make a stream of four items: one is out, one has failed, and two are with the first stage."""
    stream = stream_of(Function("quick", ["x"], code, max_retries=1), Function("slow\n", ["quick"], code))
    for _ in range(4):
        push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=0.0), 0.0)
    stream.handle(ended(2, (5, b"a"), seconds=1.0), 0.0)
    stream.handle(ended(1, (2, failure()), seconds=0.0), 0.0)
    stream.handle(ended(1, (2, failure()), seconds=0.0), 0.0)
    taken(stream)
    return stream


async def test_stream_has_a_line_and_one_for_each_stage() -> None:
    view = StreamProgressView(some_stream().view, "cats", 0.0)
    file = io.StringIO()

    Console(file=file, width=120, color_system=None).print(_row(view))

    head, quick, slow = (line.strip() for line in file.getvalue().splitlines())
    assert head.startswith("cats 1 item done, 1 failed, 3 in flight, ")
    assert quick.startswith("quick: 2 done, 1 failed, 1 retried, ")
    assert quick.endswith("2 with 1 worker")
    assert slow.startswith(r"slow\n: 1 done, ")
    assert _line_about(view, 1).startswith("cats: 1 item done, 1 failed, 3 in flight, ")
    assert _line_about(view, 1).endswith("; 1 more stage")


async def test_stream_that_has_ended_leaves_a_line() -> None:
    view = StreamProgressView(some_stream().view, "cats", 0.0)

    view.end("done")
    view.look()

    assert view.last_line().startswith("cats: done in ")
    assert view.last_line().endswith(", 1 item done, 1 failed")


@pytest.mark.parametrize(
    ("of_session", "of_stream", "is_shown"),
    [(None, None, False), (True, None, True), (True, False, False), (None, True, True)],
)
async def test_progress_is_an_option_of_the_stream_and_of_its_session(
    of_session: bool | None,
    of_stream: bool | None,
    is_shown: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    dag = handoff.DAG("cats")
    dag.call(abs, dag.call(None, type="input", id="in"), id="abs")
    async with handoff.Session(seeds=(), local_node={"cpu": 1}, progress=of_session) as session:
        async with session.stream(dag, progress=of_stream) as pipeline:
            assert await pipeline.call(-1) == 1
        shown = capfd.readouterr().err.splitlines()

        with pytest.raises(ZeroDivisionError):
            async with session.stream(dag, progress=of_stream):
                raise ZeroDivisionError
        broken = capfd.readouterr().err.splitlines()

    assert [line for line in shown if "done in" in line] == ([shown[-1]] if is_shown else [])
    assert [line for line in broken if "failed in" in line] == ([broken[-1]] if is_shown else [])
    if is_shown:
        assert shown[-1].startswith("handoff: cats: done in ")
        assert shown[-1].endswith(", 1 item done")
