"""Large graphs are worked on in a thread, which lets the loop go on."""

import sys
import threading
from collections.abc import Iterator

import pytest

from handoff_actors.actors.offload import MIN_FUNCTIONS, offload


@pytest.fixture(autouse=True)
def usual() -> Iterator[float]:
    before = sys.getswitchinterval()
    yield before
    sys.setswitchinterval(before)


async def test_little_is_done_at_once() -> None:
    assert await offload(MIN_FUNCTIONS - 1, threading.get_ident) == threading.get_ident()


async def test_much_is_done_in_a_thread_that_gives_way_more_often(usual: float) -> None:
    thread, interval = await offload(MIN_FUNCTIONS, lambda: (threading.get_ident(), sys.getswitchinterval()))

    assert thread != threading.get_ident()
    assert interval < usual
    assert sys.getswitchinterval() == usual


async def test_interval_that_the_app_has_set_meanwhile_stays(usual: float) -> None:
    await offload(MIN_FUNCTIONS, lambda: sys.setswitchinterval(2 * usual))

    assert sys.getswitchinterval() == 2 * usual


async def test_interval_that_is_short_already_stays() -> None:
    sys.setswitchinterval(0.0001)

    assert await offload(MIN_FUNCTIONS, sys.getswitchinterval) == pytest.approx(0.0001)
    assert sys.getswitchinterval() == pytest.approx(0.0001)
