"""The results of one owner between the stream and whoever takes them."""

import asyncio
from collections.abc import Callable

import pytest

from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.client.streaming.outlet import Outlet
from handoff_actors.core.stream.events import SKIPPED, ItemFailure, Stored, StreamResult
from handoff_actors.errors import HandoffError

SINK = 3
STORED = Stored(7, 1000, "n1")


class Source:
    """Fetches nothing by itself, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []
        self.fetches: dict[Stored, Callable[[Buffer | FetchFailure], None]] = {}
        self.given_up: list[Stored] = []

    def fetch(self, value: Stored, done: Callable[[Buffer | FetchFailure], None]) -> Callable[[], None]:
        self.fetches[value] = done
        return lambda: self.given_up.append(value)

    def taken(self, owner: int, results: int) -> None:
        self.told.append((owner, results))


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
async def outlet(source: Source) -> Outlet:
    return Outlet(5, source)


def result(number: int, value: bytes | Stored = b"x") -> StreamResult:
    return StreamResult(number, {SINK: value})


async def taken(outlet: Outlet) -> tuple[int, object] | None:
    arrival = await outlet.next()
    if arrival is None:
        return None
    outlet.take()
    return arrival.number, arrival.outcome


async def is_waiting(outlet: Outlet) -> bool:
    waiting = asyncio.ensure_future(outlet.next())
    for _ in range(5):
        await asyncio.sleep(0)
    is_waiting = not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    return is_waiting


async def test_results_count_as_in_flight_until_they_are_taken(outlet: Outlet, source: Source) -> None:
    outlet.arrived([result(0), result(1)])

    assert await outlet.next() is await outlet.next()
    assert source.told == []
    assert await taken(outlet) == (0, {SINK: b"x"})
    assert source.told == [(5, 1)]
    assert await taken(outlet) == (1, {SINK: b"x"})


async def test_it_ends_once_all_items_that_were_pushed_are_out(outlet: Outlet) -> None:
    outlet.pushed = 2
    outlet.arrived([result(0)])
    await taken(outlet)
    outlet.items_out(1)
    outlet.fed()

    assert await is_waiting(outlet)
    outlet.items_out(1)
    assert await taken(outlet) is None


async def test_stored_value_is_fetched_before_its_result_can_be_taken(outlet: Outlet, source: Source) -> None:
    outlet.arrived([result(0, STORED), result(1)])

    assert await is_waiting(outlet)
    source.fetches[STORED](b"large")
    assert await taken(outlet) == (0, {SINK: b"large"})


async def test_value_that_can_not_be_had_is_the_failure_of_its_item(outlet: Outlet, source: Source) -> None:
    outlet.arrived([result(0, STORED)])
    source.fetches[STORED](FetchFailure("input", "it is gone"))

    found = await taken(outlet)

    assert found is not None
    assert isinstance(found[1], ItemFailure)
    assert (found[1].kind, found[1].reason) == ("lost", "its value on node n1: it is gone")


async def test_results_that_are_freed_are_let_go_in_order_so_that_none_is_dropped_on_its_way(
    outlet: Outlet, source: Source
) -> None:
    outlet.free()
    outlet.arrived([result(0, STORED), result(1)])
    assert source.told == []

    source.fetches[STORED](b"large")

    assert source.told == [(5, 1)] * 2
    assert await taken(outlet) == (0, {SINK: b"large"})
    outlet.arrived([result(2)])
    assert source.told == [(5, 1)] * 3


async def test_results_that_are_freed_do_not_count_as_in_flight_and_wait(
    outlet: Outlet, source: Source
) -> None:
    outlet.arrived([result(0), result(1, STORED)])

    outlet.free()
    assert source.told == [(5, 1)]
    source.fetches[STORED](b"large")
    outlet.arrived([StreamResult(2, {SINK: SKIPPED})])
    assert source.told == [(5, 1)] * 3

    outlet.end()
    assert [await taken(outlet) for _ in range(4)] == [
        (0, {SINK: b"x"}),
        (1, {SINK: b"large"}),
        (2, {SINK: SKIPPED}),
        None,
    ]
    assert source.told == [(5, 1)] * 3


async def test_what_has_come_before_a_failure_can_be_taken(outlet: Outlet, source: Source) -> None:
    outlet.arrived([result(0), result(1, STORED)])

    outlet.fail(HandoffError("over"))

    assert source.given_up == [STORED]
    assert await taken(outlet) == (0, {SINK: b"x"})
    with pytest.raises(HandoffError, match="over"):
        await outlet.next()


async def test_what_is_dropped_is_not_fetched(outlet: Outlet, source: Source) -> None:
    outlet.arrived([result(0, STORED)])

    outlet.drop()

    assert source.given_up == [STORED]
