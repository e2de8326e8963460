import pytest

from handoff_actors.core.fetching import CHUNK_NBYTES, MAX_VALUE_NBYTES, Ask, Fetching
from handoff_actors.ids import RunId

TOTAL = CHUNK_NBYTES + 10


@pytest.fixture
def fetching() -> Fetching:
    """With transfer 1, of which the first chunk has come, and 2, of which none has."""
    made = Fetching()
    made.want(1, RunId(5), 3, TOTAL, ["a", "b"])
    made.chunk(1, CHUNK_NBYTES, TOTAL)
    made.want(2, RunId(5), 4, TOTAL, ["a"])
    return made


def test_transfer_comes_from_one_holder_at_a_time(fetching: Fetching) -> None:
    before = fetching.asks(1)
    effects = fetching.gone(1)

    assert (before, fetching.asks(1), fetching.asks(3)) == ("a", "b", None)
    assert {effect.holder for effect in effects if isinstance(effect, Ask)} == {"b"}


def test_the_next_chunk_is_awaited(fetching: Fetching) -> None:
    assert fetching.awaits(1, CHUNK_NBYTES, 10, TOTAL)
    assert fetching.awaits(2, 0, CHUNK_NBYTES, TOTAL)
    # Only the first chunk tells how large the value is now.
    assert fetching.awaits(2, 0, 7, 7)


@pytest.mark.parametrize(
    ("request_number", "offset", "nbytes", "total"),
    [
        (1, 0, CHUNK_NBYTES, TOTAL),
        (1, CHUNK_NBYTES, 10, TOTAL + 1),
        (1, CHUNK_NBYTES, 11, TOTAL),
        (1, CHUNK_NBYTES, 0, TOTAL),
        (2, 2**63, 1, 2**64 - 1),
        (2, 0, 1, MAX_VALUE_NBYTES + 1),
        (2, 0, 1, 0),
    ],
    ids=["again", "size has changed", "too long", "empty", "beyond", "too large", "more than all"],
)
def test_what_cannot_be_the_next_chunk_is_not_awaited(
    fetching: Fetching, request_number: int, offset: int, nbytes: int, total: int
) -> None:
    assert not fetching.awaits(request_number, offset, nbytes, total)
