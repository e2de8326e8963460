"""What functions report while they run, and the ids that they and monitors ask for."""

import pytest
from msgspec.structs import replace

from handoff_actors.core.node.events import IdAsked, NodeEffect, OutputReceived, PeerConnected, Reply, TellId
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import PeerId
from handoff_actors.wire.messages.jobs import Emitted, Printed, Progressed, Said
from handoff_actors.wire.messages.members import MOST_RUNNING, ListRuns, RunningFunction, Runs
from handoff_actors.wire.messages.nested import Identified, Identify
from handoff_actors.wire.messages.runs import Close, Output
from tests.core.builders import (
    APP,
    RUN,
    assign,
    done,
    job,
    replies,
    said,
    started_node,
    template,
    worker_done,
)

STRANGER = PeerId(b"stranger")
ASKED = IdAsked(RUN, 0, 1)
HALF = Progressed(0, 1, 5, 10)
VALUE = Emitted(0, 1, b"value")


def running(*, sends_progress: bool = True) -> NodeMachine:
    """A node that runs function 0 of a run."""
    node = started_node()
    node.handle(said(assign([job(0)], [replace(template(), sends_progress=sends_progress)])), 0.0)
    # What has changed is advertised before what is tested.
    node.wake(0.5)
    return node


def hears(node: NodeMachine, *parts: Said) -> list[NodeEffect]:
    return node.handle(OutputReceived(RUN, parts), 1.0)


def listed(node: NodeMachine) -> list[RunningFunction]:
    [answer] = replies(node.handle(said(ListRuns()), 1.0))
    assert isinstance(answer, Runs)
    return answer.runs[0].reporting


def test_reports_go_to_the_app_in_their_order() -> None:
    printed = Printed(0, 1, False, "line\n")

    effects = hears(running(), HALF, printed, VALUE)

    assert effects == [Reply(APP, Identify(RUN, 0)), Reply(APP, Output(RUN, [HALF, printed, VALUE]))]


def test_progress_is_not_sent_to_an_app_that_shows_none() -> None:
    node = running(sends_progress=False)

    assert hears(node, HALF) == [Reply(APP, Identify(RUN, 0))]
    assert hears(node, HALF, VALUE) == [Reply(APP, Output(RUN, [VALUE]))]


def test_reports_of_a_run_that_is_over_are_dropped() -> None:
    node = running()
    node.handle(said(Close(RUN)), 0.5)

    assert hears(node, HALF, VALUE) == []


def test_monitors_see_the_latest_progress_under_the_functions_id() -> None:
    node = running()
    assert listed(node) == []
    hears(node, HALF)
    assert listed(node) == [RunningFunction("", 5, 10)]

    node.handle(said(Identified(RUN, 0, "'fit'", "fit")), 1.0)
    effects = hears(node, Progressed(0, 1, 7.5, None))

    assert effects == [Reply(APP, Output(RUN, [Progressed(0, 1, 7.5, None)]))]
    assert listed(node) == [RunningFunction("'fit'", 7.5, None)]


@pytest.mark.parametrize("stale", [Progressed(0, 2, 1, 2), Progressed(5, 1, 1, 2)])
def test_monitors_do_not_see_progress_of_other_attempts(stale: Progressed) -> None:
    node = running()

    assert hears(node, stale) == [Reply(APP, Output(RUN, [stale]))]
    assert listed(node) == []


def test_progress_is_gone_with_its_function() -> None:
    node = running()
    hears(node, HALF)
    node.handle(said(assign([job(1)], [])), 1.0)
    node.handle(worker_done(done(0)), 2.0)

    assert listed(node) == []


def test_monitors_see_a_bounded_number_of_functions() -> None:
    node = started_node()
    number = MOST_RUNNING + 3
    node.handle(said(assign([job(index) for index in range(number + 1)])), 0.0)
    # That was short, so the worker is given many at once.
    node.handle(worker_done(done(0, ran_s=1e-6)), 1.0)
    hears(node, *(Progressed(index, 1, 1, 2) for index in range(1, number + 1)))

    assert len(listed(node)) == MOST_RUNNING


def test_a_function_that_asks_is_told_its_id_once_the_app_has_said_it() -> None:
    node = running()

    asked = node.handle(ASKED, 1.0)
    again = node.handle(ASKED, 1.0)
    told = node.handle(said(Identified(RUN, 0, "'fit'", "fit")), 1.0)
    later = node.handle(ASKED, 1.0)

    assert asked == [Reply(APP, Identify(RUN, 0))]
    assert again == []
    assert told == later == [TellId(RUN, 0, 1, "fit")]


def test_an_id_that_no_message_can_have_is_told_as_text() -> None:
    node = running()
    node.handle(ASKED, 1.0)

    assert node.handle(said(Identified(RUN, 0, "('fit', 3)")), 1.0) == [TellId(RUN, 0, 1, "('fit', 3)")]


def test_an_id_of_zero_is_an_id() -> None:
    node = running()
    node.handle(ASKED, 1.0)

    assert node.handle(said(Identified(RUN, 0, "0", 0)), 1.0) == [TellId(RUN, 0, 1, 0)]


@pytest.mark.parametrize("asked", [IdAsked(RUN, 0, 2), IdAsked(RUN, 1, 1)])
def test_a_function_that_has_ended_is_told_no_id(asked: IdAsked) -> None:
    assert running().handle(asked, 1.0) == [TellId(asked.run, asked.index, asked.attempt, None)]


def test_a_function_of_a_run_that_is_over_is_told_no_id() -> None:
    node = running()
    node.handle(said(Close(RUN)), 0.5)

    assert node.handle(ASKED, 1.0) == [TellId(RUN, 0, 1, None)]


def test_an_id_is_taken_from_the_runs_own_app_alone() -> None:
    node = running()
    node.handle(PeerConnected(STRANGER), 0.5)
    node.handle(ASKED, 1.0)

    assert node.handle(said(Identified(RUN, 0, "'theirs'", "theirs"), STRANGER), 1.0) == []
    assert node.handle(said(Identified(RUN, 5, "'another'", "another")), 1.0) == []
