"""Tests of the end of a run whose own machine has raised."""

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.endings.abort import AbortMachine
from handoff_actors.core.run.events import (
    Cancel,
    MessageFromNode,
    Release,
    RunEnded,
    RunForgotten,
    SendToNode,
)
from handoff_actors.errors import HandoffError
from handoff_actors.wire.messages.runs import Close
from tests.core.builders import CLOSED, RUN, completed, done, node_up

ERROR = HandoffError("a bug")


def test_every_node_is_told_once_and_the_run_is_over_when_all_have_closed_it_or_are_gone() -> None:
    machine = AbortMachine(RUN, ERROR, ["a", "b"])

    assert machine.wake(1.0) == [SendToNode("a", Close(RUN)), SendToNode("b", Close(RUN))]
    assert machine.handle(MessageFromNode("a", CLOSED), 1.1) == []
    assert machine.handle(NodeDown("b", "gone"), 1.2) == [RunEnded(ERROR), RunForgotten()]
    assert machine.wake(1.3) == []


def test_whatever_else_comes_changes_nothing() -> None:
    machine = AbortMachine(RUN, ERROR, ["a"])
    machine.wake(1.0)

    for event in (completed("a", done(0)), node_up("b"), Cancel(), Release(), NodeDown("c", "gone")):
        assert machine.handle(event, 1.1) == []

    assert machine.wake_at is None
    machine.check()


def test_run_that_knows_no_node_is_over_at_once() -> None:
    assert AbortMachine(RUN, ERROR, []).wake(1.0) == [RunEnded(ERROR), RunForgotten()]
