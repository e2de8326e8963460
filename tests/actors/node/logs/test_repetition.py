import logging

import pytest

from handoff_actors.actors.node.logs.repetition import FIRST_PAUSE_S, Repetition


class Told:
    """The lines that are written, with the times that each stands for."""

    def __init__(self) -> None:
        self.now = 100.0
        self.written: list[int] = []
        self._repetition = Repetition(lambda: self.now)

    def log(self, message: str = "malformed advert", level: int = logging.WARNING, **fields: object) -> int:
        record = logging.LogRecord("handoff", level, __file__, 1, message, None, None)
        vars(record).update(fields)
        times = self._repetition.times(record)
        if times:
            self.written.append(times)
        return times


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_warning_that_goes_on_is_written_ever_more_rarely_and_counted(told: Told) -> None:
    for _ in range(24 * 3600):
        told.log(reason="nonsense")
        told.now += 1

    assert told.written[:4] == [1, 5, 10, 20]
    assert len(told.written) < 2 + 10 + 24


def test_after_a_long_silence_it_is_written_at_once(told: Told) -> None:
    told.log()
    told.now += 1
    assert told.log() == 0
    told.now += 3 * FIRST_PAUSE_S

    assert told.log() == 2
    told.now += 1
    assert told.log() == 0


def test_lines_that_differ_in_a_field_are_each_written(told: Told) -> None:
    assert [told.log(peer=peer) for peer in ("n1", "n2", "n1")] == [1, 1, 0]


def test_what_is_no_fault_or_is_counted_already_is_always_written(told: Told) -> None:
    assert [told.log("member up", logging.INFO) for _ in range(3)] == [1, 1, 1]
    assert [told.log("stranger refused", times=1) for _ in range(3)] == [1, 1, 1]
