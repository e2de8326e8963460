"""When a machine is asked when it wants to be woken."""

import asyncio
from contextlib import nullcontext

import pytest
import uvloop

from handoff_actors.actors.driver import LOOKS, Driver, clock


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


def test_machines_are_told_the_time_more_exactly_than_a_loop_knows_it() -> None:
    times: list[float] = []

    class Clocked(Counted):
        def handle(self, _event: str, now: float) -> list[str]:
            times.append(now)
            return []

    async def main() -> None:
        driver = driver_of(Clocked())
        for _ in range(20):
            times.append(clock())
            driver.feed("event")
        driver.close()

    # The clock of uvloop's loops has whole milliseconds.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())

    assert times == sorted(times)


async def test_many_events_at_once_ask_seldom_and_none_is_missed() -> None:
    machine = Counted()
    driver = driver_of(machine)
    for _ in range(1000):
        driver.feed("event")
    at_once, machine.due = machine.looks, clock()

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
    now = clock()
    machine.due = now + 100
    driver.feed("event")
    machine.due = now + 0.05
    driver.feed("event")

    assert await asyncio.wait_for(machine.woken_at, 10) >= now + 0.05
    driver.close()


async def test_timer_that_would_ring_far_too_early_is_moved() -> None:
    machine = Counted()
    driver = driver_of(machine)
    now = clock()
    machine.due = now + 0.01
    driver.feed("event")
    machine.due = now + 0.2
    driver.feed("event")
    looks = machine.looks

    await asyncio.wait_for(machine.woken_at, 10)

    # One to see that it is time, one after it.
    assert machine.looks <= looks + 2
    driver.close()


# --- Machines that raise ----------------------------------------------------------------------------------------


class Bug(Exception):
    """Of ours."""


class Recorder(Counted):
    """Answers an event with itself as the effect, and remembers all that it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def handle(self, event: str, _now: float) -> list[str]:
        self.asked.append(event)
        if event == "bug":
            raise Bug(event)
        return [event]

    def wake(self, _now: float) -> list[str]:
        self.asked.append("woken")
        return []


class Broken(Counted):
    """Raises when it is asked for its time."""

    @property
    def wake_at(self) -> float | None:
        raise Bug("wake_at")


async def test_machine_that_raised_is_never_asked_again_and_another_takes_what_comes() -> None:
    machine, successor = Recorder(), Recorder()
    seen: list[object] = []

    def perform(effect: str) -> None:
        seen.append(effect)
        if effect == "first":
            driver.feed("bug")
            driver.feed("second")

    def crashed(error: Exception) -> Recorder:
        seen.extend((type(error), driver.broken_by))
        return successor

    driver = Driver(machine, perform, crashed)

    driver.feed("first")
    driver.feed("third")

    assert seen == ["first", Bug, "bug", "second", "third"]
    assert machine.asked == ["first", "bug"]
    assert successor.asked == ["woken", "second", "third"]
    driver.close()


async def test_machine_that_raised_and_has_no_successor_ends_the_driver() -> None:
    machine = Recorder()
    machine.due = clock() + 0.01
    errors: list[Exception] = []
    driver = Driver(machine, lambda _: None, errors.append)

    driver.feed("before")
    driver.feed("bug")
    driver.feed("after")
    await asyncio.sleep(0)

    assert machine.asked == ["before", "bug"]
    assert len(errors) == 1
    assert driver._timer is None


async def test_effect_that_can_not_be_performed_is_the_end_of_its_machine_too() -> None:
    machine = Recorder()
    errors: list[Exception] = []

    def perform(_: str) -> None:
        raise Bug

    driver = Driver(machine, perform, errors.append)

    driver.feed("event")
    driver.feed("after")

    assert machine.asked == ["event"]
    assert [type(error) for error in errors] == [Bug]
    assert driver.broken_by == "event"


async def test_machine_that_can_not_say_when_to_wake_it_is_at_its_end() -> None:
    successor = Recorder()
    driver: Driver[str, str] = Driver(Broken(), lambda _: None, lambda _: successor)

    driver.start(lambda _: [])
    driver.feed("event")

    assert successor.asked == ["woken", "event"]
    assert driver.broken_by is None
    driver.close()


@pytest.mark.parametrize(
    "raised", [ValueError, asyncio.CancelledError, GeneratorExit, SystemExit, KeyboardInterrupt]
)
async def test_whatever_an_effect_raises_breaks_the_machine_once(raised: type[BaseException]) -> None:
    crashes: list[BaseException | None] = []

    def perform(_: str) -> None:
        raise raised

    def crashed(error: Exception) -> None:
        crashes.append(error.__cause__ or error)

    class Effective(Counted):
        def handle(self, _event: str, _now: float) -> list[str]:
            return ["effect"]

    driver = Driver(Effective(), perform, crashed)

    # These end the process, and its session with it.
    with pytest.raises(raised) if raised in {SystemExit, KeyboardInterrupt} else nullcontext():
        driver.feed("event")
    driver.feed("another")

    assert [type(error) for error in crashes] == [raised]
