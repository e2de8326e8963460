import pytest

from handoff_actors.wire.messages.stage_rows import (
    ChunkEnded,
    CloseStage,
    FinishStage,
    FromStage,
    Generate,
    Generated,
    GenerateMore,
    ItemEnd,
    ItemsEnded,
    RunBatch,
    RunChunk,
    RunItem,
    StageReady,
    ToStage,
)
from handoff_actors.workers.stage_protocol import content_of, first_index, from_stage, to_stage

FAILURE = ("exception", b"error", "reason", "")


def test_each_row_to_a_stage_arrives_as_it_was_sent() -> None:
    sent: list[ToStage] = [
        RunItem(1, (b"v", (1 << 62, 100_000))),
        RunChunk(2, (b"v", b"w")),
        RunBatch(((2, (b"v",)), (3, ()))),
        RunBatch(((2, (b"v", b"w")),), (2,)),
        Generate(4, (b"v",), 2, 10),
        GenerateMore(4, 10),
        FinishStage(-1, 10),
        CloseStage(),
    ]

    assert to_stage(content_of(sent)) == sent


def test_items_of_chunks_are_in_a_batch_as_those_beside_them() -> None:
    batch = RunBatch([(1, [b"a", b"b"]), (2, [b"c", b"d"]), (3, [b"e"])], (2,))

    assert batch.values == [[b"a", b"b"], (b"c",), (b"d",), [b"e"]]


def test_each_row_from_a_stage_arrives_as_it_was_sent() -> None:
    ends = (ItemEnd(1, b"v", (7,)), ItemEnd(2, None), ItemEnd(3, FAILURE), ItemEnd(4, (1 << 62, 100_000)))
    sent: list[FromStage] = [
        StageReady(3, 1),
        ItemsEnded(ends, 0.5, has_replaced_state=True),
        ChunkEnded(2, (b"v", None, FAILURE), 0.5, has_replaced_state=False),
        Generated(4, ((b"v", ()),), False, None, 0.5, False),
        Generated(4, (), True, FAILURE, 0.5, False),
    ]

    assert from_stage(content_of(sent)) == sent


@pytest.mark.parametrize("row", [(), (99,), (b"x",), 5])
def test_what_is_no_row_is_a_bug_of_ours(row: object) -> None:
    with pytest.raises(AssertionError, match="no message of the worker protocol"):
        to_stage(content_of([row]))  # type: ignore[list-item]


def test_attempts_of_stages_store_values_of_indices_of_their_own() -> None:
    firsts = {first_index(index, attempt) for index in range(20) for attempt in range(1, 20)}

    assert len(firsts) == 20 * 19
    assert min(firsts) >= 1 << 62
    assert max(firsts) < 1 << 63
