import logging
from collections.abc import Callable
from typing import Any

import pytest

from handoff_actors.actors.node.protocol_errors import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MOST_PEERS,
    ProtocolErrors,
)


class Timers:
    """Stands in for the timers of a loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: dict[Callable[[], None], float] = {}

    def call_later(self, delay_s: float, callback: Callable[[Any], None], key: Any) -> "Timers.Handle":
        def ring() -> None:
            callback(key)

        self.waiting[ring] = self.now + delay_s
        return Timers.Handle(self, ring)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.waiting and min(self.waiting.values()) <= end:
            ring = min(self.waiting, key=self.waiting.__getitem__)
            self.now = self.waiting.pop(ring)
            ring()
        self.now = end

    class Handle:
        def __init__(self, timers: "Timers", ring: Callable[[], None]) -> None:
            self._timers, self._ring = timers, ring

        def cancel(self) -> None:
            self._timers.waiting.pop(self._ring, None)


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def errors(timers: Timers) -> ProtocolErrors:
    return ProtocolErrors("n1", timers.call_later)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int]]:
    """Kind, peer and number of each line so far."""
    return [(record.message, getattr(record, "peer", ""), vars(record)["times"]) for record in caplog.records]


def test_the_first_is_logged_at_once_and_the_others_together(
    errors: ProtocolErrors, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        errors.note("stranger refused", "it holds another key")
    errors.note("malformed message", "nonsense", "n2")
    timers.advance(FIRST_PAUSE_S)

    assert errors.counts == {"stranger refused": 1000, "malformed message": 1}
    assert logged(caplog) == [
        ("stranger refused", "", 1),
        ("malformed message", "n2", 1),
        ("stranger refused", "", 999),
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_one_that_goes_on_is_logged_ever_more_rarely(
    errors: ProtocolErrors, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(24 * 3600):
        errors.note("stranger refused", "it holds another key")
        timers.advance(1.0)

    # Ten pauses until they are an hour long, and then one line an hour.
    assert len(caplog.records) < 2 + 10 + 24
    assert sum(times for _, _, times in logged(caplog)) > 23 * 3600
    assert max(times for _, _, times in logged(caplog)) == LONGEST_PAUSE_S


def test_after_a_pause_without_any_the_next_is_logged_at_once(
    errors: ProtocolErrors, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    errors.note("member refused", "another version", "n2")
    timers.advance(FIRST_PAUSE_S)
    errors.note("member refused", "another version", "n2")

    assert logged(caplog) == [("member refused", "n2", 1)] * 2


def test_peers_are_told_apart_as_far_as_they_are_few(
    errors: ProtocolErrors, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        errors.note("member refused", "another version", f"n{number}")
    timers.advance(FIRST_PAUSE_S)

    peers = [peer for _, peer, _ in logged(caplog)]
    assert peers[:MOST_PEERS] == [f"n{number}" for number in range(MOST_PEERS)]
    assert peers[MOST_PEERS:] == ["others", "others"]
    assert sum(times for _, _, times in logged(caplog)) == 1000


def test_the_end_tells_of_those_not_told_yet(
    errors: ProtocolErrors, timers: Timers, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        errors.note("stranger refused", "it holds another key")

    errors.close()

    assert logged(caplog)[-1] == ("stranger refused", "", 2)
    assert timers.waiting == {}
