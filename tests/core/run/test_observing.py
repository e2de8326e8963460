"""Tests of a run's reports to its observers, and of the nodes' messages that these need."""

from handoff_actors.core.node.events import OutputReceived
from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import (
    FunctionObserved,
    MessageFromNode,
    NodeJoinObserved,
    NodeLeaveObserved,
    Observation,
    RunEffect,
    SendToNode,
    TransferObserved,
)
from handoff_actors.graph import Function
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.jobs import Printed, Ticket
from handoff_actors.wire.messages.runs import (
    Assign,
    Close,
    Completed,
    Fetched,
    Output,
    Started,
    WorkerRetired,
)
from tests.core.builders import (
    RUN,
    code,
    done,
    failed,
    gives,
    job,
    node_up,
    replies,
    run_of,
    said,
    started_node,
    template,
)


def observations(effects: list[RunEffect]) -> list[RunEffect]:
    return [effect for effect in effects if isinstance(effect, Observation)]


def asks_for_events(effects: list[RunEffect]) -> list[bool]:
    messages = [effect.message for effect in effects if isinstance(effect, SendToNode)]
    return [message.is_watched for message in messages if isinstance(message, Assign)]


def test_a_run_that_nobody_watches_asks_for_nothing_and_tells_nothing() -> None:
    run = run_of(Function("x", [], code))

    effects = run.start(0.0, [node_up()])
    lost = run.handle(NodeDown("a", "gone"), 0.1)

    assert asks_for_events(effects) == [False]
    assert observations([*effects, *lost]) == []


def test_a_watched_run_tells_of_nodes_starts_and_moves() -> None:
    run = run_of(Function("x", [], code), observe=True)

    seen = [
        *run.start(0.0, [node_up()]),
        *run.handle(MessageFromNode("a", Started(RUN, [Ticket(0, 1), Ticket(0, 7)])), 0.1),
        *run.handle(NodeDown("a", "gone"), 0.2),
        *run.handle(node_up("b"), 0.3),
        *run.handle(
            MessageFromNode("b", Completed(RUN, [done(0, attempt=2)], {}, [Fetched(1, 10, 0.5, 0.1)])), 0.4
        ),
    ]

    assert asks_for_events(seen) == [True, True]
    assert [
        (type(effect), getattr(effect, "kind", ""), getattr(effect, "attempt", 0))
        for effect in observations(seen)
    ] == [
        (NodeJoinObserved, "", 0),
        (FunctionObserved, "assigned", 1),
        (FunctionObserved, "started", 1),
        (NodeLeaveObserved, "", 0),
        (FunctionObserved, "lost", 1),
        (NodeJoinObserved, "", 0),
        (FunctionObserved, "assigned", 2),
        (TransferObserved, "", 0),
        (FunctionObserved, "completed", 2),
    ]


def test_what_fails_for_good_is_told_as_such() -> None:
    run = run_of(Function("x", [], code), observe=True, max_retries=0)
    run.start(0.0, [node_up()])

    seen = observations(run.handle(failed("a", 0), 0.1))

    assert [(effect.kind, effect.attempt) for effect in seen if isinstance(effect, FunctionObserved)] == [
        ("failed", 1)
    ]
    assert run.view.counts().failed == 1


def test_a_node_tells_of_starts_where_that_is_wanted() -> None:
    node = started_node({"cpu": 2.0}, workers=2)
    other = RunId(RUN + 1)

    watched = node.handle(said(Assign(RUN, [template(0)], [job(0)], is_watched=True)), 0.1)
    unwatched = node.handle(said(Assign(other, [template(0)], [job(0)])), 0.2)
    node.handle(said(Close(RUN)), 0.3)

    reported = [message for message in replies(watched) if isinstance(message, Started)]
    assert reported
    assert [ticket.index for message in reported for ticket in message.jobs] == [
        index for _, indices in gives(watched) for index in indices
    ]
    assert gives(unwatched)
    assert [message for message in replies(unwatched) if isinstance(message, Started)] == []


def test_what_functions_say_goes_to_whoever_asked_for_them() -> None:
    node = started_node()
    node.handle(said(Assign(RUN, [template(0)], [job(0)])), 0.1)
    line = Printed(0, 1, False, "hello\n")

    reported = node.handle(OutputReceived(RUN, [line]), 0.2)
    stale = node.handle(OutputReceived(RunId(RUN + 1), [line]), 0.3)

    assert replies(reported) == [Output(RUN, [line])]
    assert replies(stale) == []


def test_retirement_of_a_worker_is_told_and_kept_for_the_report() -> None:
    run = run_of(Function("x", [], code), Function("y", [], code), observe=True)
    run.start(0.0, [node_up()])

    seen = [
        *run.handle(MessageFromNode("a", WorkerRetired(RUN, 1, 1, "it left a thread")), 0.1),
        # Of an attempt, or a function, that there is not.
        *run.handle(MessageFromNode("a", WorkerRetired(RUN, 0, 2, "it left a task")), 0.2),
        *run.handle(MessageFromNode("a", WorkerRetired(RUN, 7, 1, "it left a task")), 0.3),
    ]

    assert observations(seen) == [FunctionObserved("worker_retired", 1, "a", 1, "it left a thread")]
    assert run.view.retired == {1: "it left a thread"}
