"""The form of the rows between the app of a stream and the workers of its stages: a MessagePack list of rows."""

from typing import TYPE_CHECKING, Any, Final

import msgpack

from handoff_actors.ids import Attempt, Index
from handoff_actors.wire.messages.stage_rows import (
    ChunkEnded,
    CloseStage,
    FinishStage,
    FromStage,
    Generate,
    Generated,
    GenerateMore,
    ItemsEnded,
    RunBatch,
    RunChunk,
    RunItem,
    StageReady,
    ToStage,
)
from handoff_actors.workers.rows import NOT_A_MESSAGE, by_tag, no_message

if TYPE_CHECKING:
    from collections.abc import Iterable

_TO_STAGE: Final = by_tag(RunItem, RunChunk, RunBatch, Generate, GenerateMore, FinishStage, CloseStage)
_FROM_STAGE: Final = by_tag(StageReady, ItemsEnded, ChunkEnded, Generated)


def content_of(rows: "Iterable[ToStage | FromStage]") -> bytes:
    """Encode rows."""
    packed: bytes = msgpack.packb(list(rows))
    return packed


def to_stage(content: bytes) -> list[ToStage]:
    """Undo `content_of` at a stage. Raises AssertionError for anything else."""
    return _messages(_TO_STAGE, content)


def from_stage(content: bytes) -> list[FromStage]:
    """Undo `content_of` at the app. Raises AssertionError for anything else."""
    return _messages(_FROM_STAGE, content)


def _messages(by: dict[int, Any], content: bytes) -> list[Any]:
    rows: Any = msgpack.unpackb(content, use_list=False)
    try:
        return [by[row[-1]](row) for row in rows]
    except NOT_A_MESSAGE as error:
        raise no_message(rows) from error


#: Indices of stored items begin here, above those of functions and constants.
FIRST_ITEM_INDEX: Final = 1 << 62
_ATTEMPTS: Final = 12
_COUNTS: Final = 34


def first_index(index: Index, attempt: Attempt) -> Index:
    """Give the index of the first value that an attempt of a stage stores; those that follow count up."""
    return FIRST_ITEM_INDEX + (((index << _ATTEMPTS) + attempt % (1 << _ATTEMPTS)) << _COUNTS)


def item_indices(index: Index, attempt: Attempt) -> range:
    """Give the indices of all values that an attempt of a stage may store."""
    first = first_index(index, attempt)
    return range(first, first + (1 << _COUNTS))
