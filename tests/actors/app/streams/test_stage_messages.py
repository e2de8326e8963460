"""What workers of stages say, as events of the machine."""

from typing import TYPE_CHECKING

import pytest

from handoff_actors.actors.app.streams.stage_messages import events_of
from handoff_actors.core.stream.events import (
    SKIPPED,
    InputLost,
    ItemFailure,
    LanePlace,
    LaneUp,
    StageChunkEnded,
    StageEnd,
    StageEnded,
    StageGenerated,
    Stored,
    StreamEvent,
)
from handoff_actors.errors import RemoteProtocolError
from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.wire.messages.stage_rows import (
    ChunkEnded,
    FromStage,
    Generated,
    ItemsEnded,
    OutcomeRow,
    StageReady,
)
from handoff_actors.wire.messages.stages import StageInputLost, StageOutput
from handoff_actors.workers.stage_protocol import content_of

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACE = LanePlace("n1", Index(4), Attempt(2))
FAILURE = ("exception", b"error", "it raised", "")


def events(*rows: FromStage) -> list[StreamEvent]:
    return list(events_of("n1", StageOutput(RunId(1), Index(4), Attempt(2), content_of(rows))))


def test_every_outcome_of_an_item_is_told_apart() -> None:
    ends: list[tuple[int, OutcomeRow, Sequence[int]]] = [
        (1, b"value", (5, 6)),
        (2, (99, 1000), ()),
        (3, None, ()),
        (4, FAILURE, ()),
    ]

    assert events(ItemsEnded(ends, 0.5, has_replaced_state=True)) == [
        StageEnded(
            PLACE,
            [
                StageEnd(1, b"value", (5, 6)),
                StageEnd(2, Stored(99, 1000, "n1")),
                StageEnd(3, SKIPPED),
                StageEnd(4, ItemFailure(*FAILURE, node="n1")),
            ],
            0.5,
            has_replaced_state=True,
        )
    ]


def test_outcomes_of_a_chunk_are_in_order() -> None:
    outcomes: list[OutcomeRow] = [b"value", (99, 1000), None, FAILURE]

    assert events(
        ChunkEnded(1, [b"a", b"b"], 0.5, has_replaced_state=True),
        ChunkEnded(1, outcomes, 0.5, has_replaced_state=False),
    ) == [
        StageChunkEnded(PLACE, 1, (b"a", b"b"), 0.5, has_replaced_state=True),
        StageChunkEnded(
            PLACE, 1, [b"value", Stored(99, 1000, "n1"), SKIPPED, ItemFailure(*FAILURE, node="n1")], 0.5
        ),
    ]


def test_results_of_a_generator_are_those_of_its_item() -> None:
    row = Generated(
        7, [(b"one", ()), (None, ())], is_end=True, failure=FAILURE, seconds=0.1, has_replaced_state=False
    )

    assert events(row) == [
        StageGenerated(
            PLACE,
            7,
            [StageEnd(7, b"one"), StageEnd(7, SKIPPED)],
            is_end=True,
            failure=ItemFailure(*FAILURE, node="n1"),
            seconds=0.1,
        )
    ]


def test_rows_stay_in_order() -> None:
    found = events(StageReady(2, 1), ItemsEnded([], 0.0, has_replaced_state=False))

    assert found == [LaneUp(2, 1, PLACE), StageEnded(PLACE, [], 0.0)]


def test_lost_input_is_told() -> None:
    message = StageInputLost(RunId(1), Index(4), Attempt(2), Index(9), "no node has it")

    assert events_of("n1", message) == [InputLost(PLACE, Index(9), "no node has it")]


@pytest.mark.parametrize("content", [b"\xc1", b"\x91\x91\x63", b"\x05"])
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="n1"):
        events_of("n1", StageOutput(RunId(1), Index(4), Attempt(2), content))
