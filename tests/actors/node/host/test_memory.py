"""Tests of the samples of memory and CPU time, and of the caches that a node gives up for want of memory."""

import os
import time

import pytest

from handoff_actors.actors.node.host.memory import take_sample
from handoff_actors.ids import WorkerId

TOTAL = 100_000_000


@pytest.mark.parametrize(("available", "gives_up"), [(TOTAL // 2, 0), (TOTAL // 100, 1)])
def test_when_the_machine_is_short_what_nobody_needs_goes_first(
    monkeypatch: pytest.MonkeyPatch, available: int, gives_up: int
) -> None:
    looks = iter([(available, TOTAL), (TOTAL // 2, TOTAL)])
    monkeypatch.setattr("handoff_actors.actors.node.host.memory.machine_memory", lambda: next(looks))
    given_up: list[bool] = []

    sample = take_sample(1.0, {}, lambda: given_up.append(True))

    assert len(given_up) == gives_up
    assert (sample.available_nbytes, sample.total_nbytes) == (TOTAL // 2, TOTAL)


def test_cpu_time_of_a_process_is_in_its_sample() -> None:
    worker, gone = WorkerId(1), WorkerId(2)
    while time.process_time() < 0.05:
        """Until it has used some."""
    used_s = time.process_time()

    sample = take_sample(1.0, {worker: os.getpid(), gone: 2**22 + 1}, lambda: None)

    assert sample.cpu_s[gone] == 0.0
    # In ticks of 10 ms for the process itself, besides its children.
    assert sample.cpu_s[worker] >= used_s - 0.03
