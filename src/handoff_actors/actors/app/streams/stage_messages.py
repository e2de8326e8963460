"""Translates between the messages of stages and the events of a stream's machine."""

from collections.abc import Sequence
from typing import assert_never, cast

from handoff_actors.core.stream.events import (
    SKIPPED,
    InputLost,
    ItemFailure,
    ItemOutcome,
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
from handoff_actors.wire.messages.stage_rows import (
    ChunkEnded,
    Generated,
    ItemsEnded,
    OutcomeRow,
    StageReady,
)
from handoff_actors.wire.messages.stages import StageInputLost, StageOutput
from handoff_actors.workers.stage_protocol import from_stage


def events_of(name: str, message: StageOutput | StageInputLost) -> Sequence[StreamEvent]:
    """List what a message of a stage on a node says, in order. Raises RemoteProtocolError for content that is none."""
    try:
        return _events_of(name, message)
    except (AssertionError, ValueError, TypeError) as error:
        reason = f"the worker of a stage on node {name!r} has sent what is no part of the protocol: {error}"
        raise RemoteProtocolError(reason) from error


def _events_of(name: str, message: StageOutput | StageInputLost) -> Sequence[StreamEvent]:
    place = LanePlace(name, message.index, message.attempt)
    if isinstance(message, StageInputLost):
        return [InputLost(place, message.lost, message.reason)]
    events: list[StreamEvent] = []
    for row in from_stage(message.content):
        match row:
            case ItemsEnded(ends, seconds, has_replaced_state):
                ended = [StageEnd(number, _outcome_of(value, name), keys) for number, value, keys in ends]
                events.append(StageEnded(place, ended, seconds, has_replaced_state))
            case ChunkEnded(number, outcomes, seconds, has_replaced_state):
                came = _outcomes_of(outcomes, name)
                events.append(StageChunkEnded(place, number, came, seconds, has_replaced_state))
            case Generated():
                events.append(_generated(place, row))
            case StageReady(stage, lane):
                events.append(LaneUp(stage, lane, place))
            case _:
                assert_never(row)
    return events


def _generated(place: LanePlace, row: Generated) -> StageGenerated:
    results = [StageEnd(row.number, _outcome_of(value, place.node), keys) for value, keys in row.results]
    failure = None if row.failure is None else ItemFailure(*row.failure, node=place.node)
    return StageGenerated(
        place, row.number, results, row.is_end, failure, row.seconds, row.has_replaced_state
    )


def _outcomes_of(rows: Sequence[OutcomeRow], node: str) -> Sequence[ItemOutcome]:
    # Most often these are values and nothing else, and they are many.
    if set(map(type, rows)) == {bytes}:
        return cast("Sequence[bytes]", rows)
    return [_outcome_of(row, node) for row in rows]


def _outcome_of(row: OutcomeRow, node: str) -> ItemOutcome:
    if isinstance(row, bytes):
        return row
    if row is None:
        return SKIPPED
    match row:
        case (index, nbytes):
            return Stored(index, nbytes, node)
        case (kind, error, reason, not_retried):
            return ItemFailure(kind, error, reason, not_retried, node=node)
        case _:
            assert_never(row)
