"""A worker whose last message came soon stays awake for a moment; one that waited long sleeps."""

import pytest

from handoff_actors.workers.child.waiting import AWAKE_S, Waiting

LOOK_S = AWAKE_S / 10
DESCRIPTOR = 5


class SteppedPoll:
    """A clock, and a descriptor that becomes readable at a time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready_at = 0.0
        self.sleeps = 0
        self.ways_given = 0
        self.given_back: list[str] = []
        self._waiting = Waiting(self, lambda: self.now, self._give_way)

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        if timeout == 0:
            self.now += LOOK_S
        else:
            self.sleeps += 1
            ends_at = self.ready_at if timeout is None else self.now + timeout / 1e3
            self.now = max(self.now, min(self.ready_at, ends_at))
        return [(DESCRIPTOR, 1)] if self.now >= self.ready_at else []

    def wait(self, seconds: float) -> tuple[int, bool]:
        """Wait for a message that comes after so long; gives how often it slept, and if it was awake first."""
        sleeps, ways_given = self.sleeps, self.ways_given
        self.ready_at = self.now + seconds
        then = [
            (0.05, lambda: self.given_back.append("first")),
            (1.0, lambda: self.given_back.append("second")),
        ]
        assert self._waiting.until_ready(then) == [DESCRIPTOR]
        return self.sleeps - sleeps, self.ways_given > ways_given

    def _give_way(self) -> None:
        self.ways_given += 1


def test_message_that_comes_soon_finds_the_worker_awake_the_next_time() -> None:
    poll = SteppedPoll()

    assert poll.wait(1.5 * AWAKE_S) == (1, False)
    assert poll.wait(0.9 * AWAKE_S) == (0, True)
    assert poll.wait(0.5 * AWAKE_S) == (0, True)


@pytest.mark.parametrize("later_s", [2.1 * AWAKE_S, 0.01, 0.5])
def test_message_that_comes_late_finds_the_worker_asleep_each_time(later_s: float) -> None:
    poll = SteppedPoll()

    assert [poll.wait(later_s)[1] for _ in range(3)] == [False] * 3


def test_worker_that_was_awake_in_vain_sleeps() -> None:
    poll = SteppedPoll()
    poll.wait(AWAKE_S / 2)

    assert poll.wait(1.5 * AWAKE_S) == (1, True)
    assert poll.wait(1.5 * AWAKE_S) == (1, False)


def test_worker_is_not_awake_for_longer_than_a_moment() -> None:
    poll = SteppedPoll()
    poll.wait(AWAKE_S / 2)

    poll.wait(10.0)

    assert poll.ways_given <= AWAKE_S / LOOK_S


def test_kept_memory_is_given_back_bit_by_bit() -> None:
    poll = SteppedPoll()

    poll.wait(0.04)
    assert poll.given_back == []
    poll.wait(0.5)
    assert poll.given_back == ["first"]
    poll.wait(5.0)
    assert poll.given_back == ["first", "first", "second"]
