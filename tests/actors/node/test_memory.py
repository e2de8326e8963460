"""Tests of the caches that a node gives up before it ends a function for want of memory."""

import pytest

from handoff_actors.actors.node.memory import take_sample

TOTAL = 100_000_000


@pytest.mark.parametrize(("available", "gives_up"), [(TOTAL // 2, 0), (TOTAL // 100, 1)])
def test_when_the_machine_is_short_what_nobody_needs_goes_first(
    monkeypatch: pytest.MonkeyPatch, available: int, gives_up: int
) -> None:
    looks = iter([(available, TOTAL), (TOTAL // 2, TOTAL)])
    monkeypatch.setattr("handoff_actors.actors.node.memory.machine_memory", lambda: next(looks))
    given_up: list[bool] = []

    sample = take_sample(1.0, {}, lambda: given_up.append(True))

    assert len(given_up) == gives_up
    assert (sample.available_nbytes, sample.total_nbytes) == (TOTAL // 2, TOTAL)
