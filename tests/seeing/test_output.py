"""What functions print and log comes home, from this process's node and from daemons over sockets."""

import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

import handoff_actors as handoff
from daemons import environment
from handoff_actors import events
from seeing import functions

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

    # It is there when the run has ended; and nothing of it comes a second time from the daemons themselves.
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
