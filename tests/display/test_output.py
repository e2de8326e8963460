"""Tests that the app gets what functions print and log, from its own node and from daemons over sockets."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import events
from handoff_actors.core.run.view import FunctionCounts
from handoff_actors.display.display import display
from handoff_actors.display.printing import OutputPrinter
from handoff_actors.display.snapshot import NodeSnapshot, ProgressView, RunSnapshot
from handoff_actors.graph import Plan
from handoff_actors.wire.messages.jobs import Dropped, Logged
from tests.client import functions
from tests.daemons import environment

pytestmark = pytest.mark.processes

FLOOD = 100_000


@pytest.fixture
async def daemons() -> AsyncIterator[handoff.Session]:
    """Two nodes, n1 and n2, in processes of their own."""
    async with handoff.LocalCluster(nodes=2, cpu=1) as cluster, cluster.session() as session:
        yield session


def only(code: Any, *args: Any, **options: Any) -> handoff.DAG:
    return handoff.DAG("dag").add_function(handoff.Function("only", [], code, extra_args=args, **options))


async def test_daemons_send_prints_home_with_node_and_function_in_front(
    daemons: handoff.Session, capfd: pytest.CaptureFixture[str]
) -> None:
    dag = handoff.DAG().add_functions(
        [
            handoff.Function("first", [], functions.say_both, node="n1"),
            handoff.Function("second", [], functions.say, extra_args=["two\nlines"], node="n2"),
            handoff.Function("third", ["second"], lambda _: print("after", end=" all"), node="n1"),
            handoff.Function("fourth", ["third"], lambda _: functions.say_async("gently"), node="n2"),
        ]
    )

    await daemons.execute_distributed(dag)

    # The output is complete when the run has ended, and the daemons themselves repeat none of it.
    captured = capfd.readouterr()
    assert sorted(captured.out.splitlines()) == [
        "[n1 first] this is fine",
        "[n1 third] after all",
        "[n2 fourth] gently",
        "[n2 second] lines",
        "[n2 second] two",
    ]
    assert captured.err == "[n1 first] this is not\n"


async def test_records_arrive_at_the_loggers_of_their_names(
    daemons: handoff.Session, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await daemons.execute_distributed(only(functions.log_some, node="n2"))

    records = [record for record in caplog.records if record.name == "users.library"]
    assert [(record.levelno, record.getMessage()) for record in records] == [
        (logging.INFO, "[n2 only] started with 3"),
        (logging.WARNING, "[n2 only] odd: very"),
        (logging.ERROR, "[n2 only] could not"),
    ]
    assert {vars(record)["handoff_node"] for record in records} == {"n2"}
    assert {vars(record)["handoff_function"] for record in records} == {"only"}
    assert {record.funcName for record in records} == {"log_some"}
    assert "invalid literal for int" in str(records[2].exc_text)


async def test_records_below_the_level_of_the_app_do_not_come(
    daemons: handoff.Session, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await daemons.execute_distributed(only(functions.log_some))

    levels = [record.levelno for record in caplog.records if record.name == "users.library"]
    assert levels == [logging.WARNING, logging.ERROR]


async def test_output_that_is_not_wanted_stays_where_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    async with handoff.Session(seeds=(), local_node={"cpu": 1}, output=False) as session:
        await session.execute_distributed(only(functions.say, "to the node"))
        await session.execute_distributed(only(functions.say, "to the app"), output=True)

    # The node of this process has its stdout, so that both are there.
    written = capfd.readouterr().out
    assert "to the node\n" in written
    assert "only] to the node" not in written
    assert "only] to the app\n" in written


async def test_lines_are_events_too(daemons: handoff.Session) -> None:
    seen: list[events.RunEvent] = []

    await daemons.execute_distributed(only(functions.say_both, node="n1"), on_event=seen.append)

    kinds = [type(event) for event in seen]
    lines = [event for event in seen if isinstance(event, events.Output)]
    assert [(event.stream, event.line, event.node, event.function_id, event.attempt) for event in lines] == [
        ("stdout", "this is fine", "n1", "only", 1),
        ("stderr", "this is not", "n1", "only", 1),
    ]
    assert kinds[-2:] == [events.Finished, events.RunFinished]
    assert kinds.index(events.Output) > kinds.index(events.Started)


#: Sets the title, clears the screen, and turns what follows around.
HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e"
SHOWN = r"\x1b]0;title\x07\x1b[2J\u202e"


async def test_what_functions_print_does_nothing_to_a_terminal(
    daemons: handoff.Session, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[events.RunEvent] = []
    line = f"\x1b[31mred\x1b[0m\t{HOSTILE}\r"
    dag = handoff.DAG(HOSTILE).add_functions(
        [
            handoff.Function(HOSTILE, [], functions.say, extra_args=[line], node="n1"),
            handoff.Function("logs", [HOSTILE], lambda _: functions.log_text(HOSTILE), node="n1"),
        ]
    )

    await daemons.execute_distributed(dag, on_event=seen.append, progress=True)

    captured = capfd.readouterr()
    assert captured.out == f"[n1 {SHOWN}] \x1b[31mred\x1b[0m\t{SHOWN}\n"
    # A name is cut where it is long.
    assert f"handoff: {SHOWN[:21]}...: done in " in captured.err
    assert all(text.isprintable() for text in captured.err.split("\n"))
    [record] = [record for record in caplog.records if "handoff_node" in vars(record)]
    assert record.getMessage() == f"[n1 logs] {SHOWN}"
    assert str(record.exc_text).endswith(f"ValueError: {SHOWN}")
    assert record.name == f"users.{SHOWN}"
    # Programs get what was printed and logged.
    assert [event.line for event in seen if isinstance(event, events.Output)] == [line, HOSTILE]
    assert seen[0].dag_id == HOSTILE


async def test_raw_output_is_as_it_was_printed(
    daemons: handoff.Session, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    dag = handoff.DAG().add_functions(
        [
            handoff.Function(HOSTILE, [], functions.say, extra_args=[f"{HOSTILE}\r"], node="n1"),
            handoff.Function("logs", [], functions.log_text, extra_args=[HOSTILE], node="n1"),
        ]
    )

    await daemons.execute_distributed(dag, output="raw")

    assert capfd.readouterr().out == f"[n1 {SHOWN}] {HOSTILE}\r\n"
    [record] = [record for record in caplog.records if "handoff_node" in vars(record)]
    assert record.getMessage() == f"[n1 logs] {HOSTILE}"
    assert str(record.exc_text).endswith(f"ValueError: {HOSTILE}")
    assert record.name == f"users.{SHOWN}"


async def test_lost_lines_are_told_under_harmless_names(capfd: pytest.CaptureFixture[str]) -> None:
    plan = Plan.compile(handoff.DAG().add_function(handoff.Function(HOSTILE, [], int)))
    printing = OutputPrinter(plan, None, is_raw=True)

    printing.output_received(f"n\n{HOSTILE}", [Dropped(0, 1, 7)])
    printing.end()

    # The thread that writes does so in its own time.
    await asyncio.to_thread(display.finish)
    assert capfd.readouterr().err == (
        rf"[n\n{SHOWN} {SHOWN}] (7 more lines were lost: too much output at once)" "\n"
    )


async def test_formatters_are_given_harmless_names(caplog: pytest.LogCaptureFixture) -> None:
    plan = Plan.compile(handoff.DAG().add_function(handoff.Function("f", [], int)))
    printing = OutputPrinter(plan, None, is_raw=True)
    path = f"/{HOSTILE}/file{HOSTILE}"

    printing.output_received(
        "n1", [Logged(0, 1, f"name{HOSTILE}", logging.ERROR, "text", path, 7, f"code{HOSTILE}", 0.0, "")]
    )

    await asyncio.to_thread(display.finish)
    [record] = caplog.records
    shown = (record.name, record.pathname, record.filename, record.funcName)
    assert shown == (f"name{SHOWN}", f"/{SHOWN}/file{SHOWN}", f"file{SHOWN}", f"code{SHOWN}")


async def test_names_of_nodes_are_shown_as_letters() -> None:
    dag = handoff.DAG(HOSTILE).add_function(handoff.Function("f", [], int))
    async with handoff.Session(seeds=(), local_node={"cpu": 1}) as session:
        run = await session.execute_distributed(dag)

    view = ProgressView(run._holdings.runner, list, list, 0.0, 0)
    view.latest = RunSnapshot(FunctionCounts(1, 0, 0, 0), [NodeSnapshot(f"n\n{HOSTILE}", 1, 2)])

    assert view.doings(1) == rf"n\n{SHOWN}: 1 running 2 queued"
    assert view.name == f"{SHOWN[:21]}..."
    assert view.last_line().isprintable()


@pytest.mark.parametrize("output", ["", "RAW", "yes", 1, 0, b"raw"])
async def test_other_values_of_output_are_refused_before_anything_starts(output: Any) -> None:
    complaint = rf"output={output!r}: it must be True, False, 'raw' or None"
    session = handoff.Session(seeds=())

    with pytest.raises(ValueError, match=complaint):
        await session.execute_distributed(only(functions.say, "never"), output=output)
    with pytest.raises(ValueError, match=complaint):
        handoff.Session(seeds=(), output=output)
    assert not session._hub.is_started


async def test_a_flood_delays_nobody_and_its_losses_are_told(
    daemons: handoff.Session, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[events.RunEvent] = []
    dag = handoff.DAG().add_functions(
        [
            handoff.Function("flood", [], functions.flood, extra_args=[FLOOD], node="n1"),
            handoff.Function("quiet", [], functions.make, extra_args=[10], node="n2"),
        ]
    )

    await daemons.execute_distributed(dag, on_event=seen.append)

    arrived = sum(isinstance(event, events.Output) for event in seen)
    lost = sum(event.lines for event in seen if isinstance(event, events.OutputLost))
    captured = capfd.readouterr()
    assert arrived + lost == FLOOD
    assert 100 < arrived < FLOOD
    assert captured.out.count("[n1 flood] line ") == arrived
    assert "[n1 flood] (" in captured.err
    assert "more lines were lost: too much output at once)" in captured.err
    assert isinstance(seen[-1], events.RunFinished)


async def test_the_last_words_of_a_worker_come_home(daemons: handoff.Session, capfd: Any) -> None:
    with pytest.raises(handoff.WorkerDied):
        await daemons.execute_distributed(only(functions.say_and_die, node="n1"))

    assert capfd.readouterr().out.count("[n1 only] last words\n") == 3


BLOCKED = """
import asyncio, time
import handoff_actors as handoff

def chatter():
    for _ in range(3000):
        print("x" * 100)

async def main():
    dag = handoff.DAG().add_functions(handoff.Function(n, [], chatter) for n in range(2))
    began = time.perf_counter()
    await handoff.execute_distributed(dag)
    return time.perf_counter() - began

took = asyncio.run(main())
import sys
print(took, file=sys.stderr, flush=True)
"""


def test_a_stdout_that_nobody_reads_does_not_hold_up_the_run() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as app:
        assert app.stderr is not None
        took = float(app.stderr.readline())
        app.communicate()

    assert took < 5
