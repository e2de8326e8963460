"""Tests of the messages that a node sends before it ends because of a bug of its own."""

import pytest

from handoff_actors.core.node.crash import MOST_REASON, crash_report
from handoff_actors.core.node.events import (
    InputFetched,
    InputMissing,
    Leave,
    NodeEvent,
    OutputReceived,
    SpillFailed,
    ValueSpilled,
)
from handoff_actors.wire.messages.jobs import Ticket
from handoff_actors.wire.messages.members import Beat
from handoff_actors.wire.messages.runs import Close, Copy, Crashed, Recall
from tests.core.builders import RUN, assign, done, exited, job, said, worker_done, worker_failed

OF_ONE_RUN: list[NodeEvent] = [
    said(assign([job(0)])),
    said(Copy(RUN, [])),
    said(Recall(RUN, [Ticket(0, 1)], room=1)),
    said(Close(RUN)),
    worker_done(done(0)),
    worker_failed(0),
    OutputReceived(RUN, []),
    InputFetched(RUN, 0, 1),
    InputMissing(RUN, 0, "gone"),
    ValueSpilled(RUN, 0),
    SpillFailed(RUN, 0, "full"),
]


@pytest.mark.parametrize("event", OF_ONE_RUN)
def test_run_that_is_concerned_is_named(event: NodeEvent) -> None:
    assert crash_report(KeyError("x"), event) == Crashed(RUN, "KeyError: 'x'")


@pytest.mark.parametrize("event", [None, exited(), Leave(), said(Beat())])
def test_no_run_is_named_where_none_can_be_told(event: NodeEvent | None) -> None:
    assert crash_report(AssertionError("a bug"), event) == Crashed(None, "AssertionError: a bug")


def test_last_words_are_short_and_can_be_sent() -> None:
    reason = crash_report(AssertionError("\udcff" * MOST_REASON), None).reason

    assert len(reason) == MOST_REASON
    assert reason.startswith("AssertionError: \\udcff")
    assert "characters left out" in reason
