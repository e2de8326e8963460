"""When a machine is asked when it wants to be woken."""

import asyncio

from handoff_actors.actors.driver import LOOKS, Driver


class Counted:
    """A machine that counts how often it is asked."""

    def __init__(self) -> None:
        self.looks = 0
        self.due: float | None = None
        self.woken_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def handle(self, _event: str, _now: float) -> list[str]:
        return []

    def wake(self, now: float) -> list[str]:
        self.woken_at.set_result(now)
        self.due = None
        return []

    @property
    def wake_at(self) -> float | None:
        self.looks += 1
        return self.due

    def check(self) -> None: ...


def driver_of(machine: Counted) -> Driver[str, str]:
    def crashed(error: Exception) -> None:
        raise error

    return Driver(machine, lambda _: None, crashed)


async def test_many_events_at_once_ask_seldom_and_none_is_missed() -> None:
    machine = Counted()
    driver = driver_of(machine)
    for _ in range(1000):
        driver.feed("event")
    at_once, machine.due = machine.looks, asyncio.get_running_loop().time()

    driver.feed("event")
    await asyncio.wait_for(machine.woken_at, 10)

    assert at_once < 1000 / 2
    driver.close()


async def test_events_that_are_few_are_asked_about_at_once() -> None:
    machine = Counted()
    driver = driver_of(machine)

    for _ in range(LOOKS):
        driver.feed("event")

    assert machine.looks == LOOKS
    driver.close()


async def test_timer_that_rings_later_than_is_wanted_is_moved() -> None:
    machine = Counted()
    driver = driver_of(machine)
    now = asyncio.get_running_loop().time()
    machine.due = now + 100
    driver.feed("event")
    machine.due = now + 0.05
    driver.feed("event")

    assert await asyncio.wait_for(machine.woken_at, 10) >= now + 0.05
    driver.close()


async def test_timer_that_would_ring_far_too_early_is_moved() -> None:
    machine = Counted()
    driver = driver_of(machine)
    now = asyncio.get_running_loop().time()
    machine.due = now + 0.01
    driver.feed("event")
    machine.due = now + 0.2
    driver.feed("event")
    looks = machine.looks

    await asyncio.wait_for(machine.woken_at, 10)

    # One to see that it is time, one after it.
    assert machine.looks <= looks + 2
    driver.close()
