import pytest

from handoff_actors.token_bucket import TokenBucket


def test_a_burst_passes_and_more_does_not() -> None:
    bucket = TokenBucket(burst=10, rate=2, now=5.0)

    assert [bucket.take(4, 5.0) for _ in range(3)] == [True, True, False]
    assert bucket.tokens(5.0) == 2


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(burst=10, rate=2, now=0.0)

    assert not bucket.take(11, 0.0)
    assert bucket.take(10, 0.0)


@pytest.mark.parametrize(("seconds", "tokens"), [(0.5, 1.0), (4.0, 8.0), (5.0, 10.0), (99.0, 10.0)])
def test_tokens_come_back_with_time_up_to_the_burst(seconds: float, tokens: float) -> None:
    bucket = TokenBucket(burst=10, rate=2, now=0.0)
    bucket.take(10, 0.0)

    assert bucket.tokens(seconds) == tokens


def test_looking_often_gives_no_more_than_looking_once() -> None:
    bucket = TokenBucket(burst=10, rate=2, now=0.0)
    bucket.take(10, 0.0)

    for quarters in range(9):
        bucket.tokens(quarters / 4)

    assert bucket.tokens(2.0) == 4.0


def test_an_overdraft_is_paid_back_first() -> None:
    bucket = TokenBucket(burst=10, rate=2, now=0.0)

    bucket.overdraw(14)

    assert bucket.tokens(0.0) == -4
    assert not bucket.take(1, 2.0)
    assert bucket.take(1, 2.5)
