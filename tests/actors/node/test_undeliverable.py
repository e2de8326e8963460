"""Tests of the messages that stand in for those that can't be encoded."""

import pytest

from handoff_actors.actors.node.undeliverable import instead_of
from handoff_actors.errors import SerializationError
from handoff_actors.ids import RunId
from handoff_actors.text import MOST_OF_REASON
from handoff_actors.wire.codec import encode
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.jobs import Done, Dropped, Printed, Traces
from handoff_actors.wire.messages.runs import (
    Closed,
    Completed,
    Crashed,
    Failed,
    Fetched,
    Output,
    Rejected,
    WorkerRetired,
)

RUN = RunId(1)
BAD = "\udcff"
GOOD, TOO_MUCH = Done(1, 1, b"", 1, 0.5), Done(2, 1, 2**70, 1, 0.5)


def failed(index: int, reason: str, printed: str = "") -> Failed:
    traces = Traces(printed=printed)
    return Failed(RUN, index, 1, "exception", b"", reason, None, None, None, 0.5, traces)


def delivered(message: FromNode) -> list[FromNode]:
    """The messages that arrive in the end."""
    try:
        encode([message])
    except SerializationError:
        return [arrived for part in instead_of(message, "too much") for arrived in delivered(part)]
    return [message]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            Completed(
                RUN, [GOOD, TOO_MUCH], {"cpu": 1.0}, [Fetched(3, 2**70, 0.5, 0.5), Fetched(4, 9, 0.5, 0.5)]
            ),
            [
                Completed(RUN, [GOOD], {}),
                Failed(RUN, 2, 1, "serialization", b"", "too much", None, None, None, 0.5),
                Completed(RUN, [], {}, [Fetched(4, 9, 0.5, 0.5)]),
            ],
        ),
        (Completed(RUN, [GOOD], {BAD: 1.0}), [Completed(RUN, [GOOD], {})]),
        (failed(1, f"no {BAD}"), [failed(1, r"no \udcff")]),
        (failed(1, "why", printed=BAD), [failed(1, "why")]),
        (failed(2**70, "why"), []),
        (
            Output(RUN, [Printed(1, 1, False, BAD), Printed(2, 1, False, "fine")]),
            [Output(RUN, [Dropped(1, 1, 1)]), Output(RUN, [Printed(2, 1, False, "fine")])],
        ),
        (Output(RUN, [Dropped(1, 1, 2**70)]), []),
        (Rejected(RUN, BAD), [Rejected(RUN, r"\udcff")]),
        (WorkerRetired(RUN, 1, 1, BAD), [WorkerRetired(RUN, 1, 1, r"\udcff")]),
        (Crashed(None, BAD), [Crashed(None, r"\udcff")]),
        (Crashed(RunId(2**70), "why"), []),
        (Closed(RunId(2**70)), []),
    ],
)
def test_as_much_arrives_as_can_be_said(message: FromNode, expected: list[FromNode]) -> None:
    assert delivered(message) == expected


def test_a_long_reason_is_shortened() -> None:
    [arrived] = delivered(failed(1, BAD * 10 * MOST_OF_REASON))

    assert isinstance(arrived, Failed)
    assert len(arrived.reason) <= MOST_OF_REASON
    assert "characters left out" in arrived.reason
