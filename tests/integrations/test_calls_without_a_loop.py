"""Single calls and maps for code that has no event loop."""

import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count

import pytest

import handoff_actors as handoff

pytestmark = pytest.mark.processes


def half(number: int) -> float:
    if number == 13:
        raise ValueError(number)
    return number / 2


def test_a_call_waits_for_its_result() -> None:
    assert handoff.call_sync(half, 4) == 2.0
    with pytest.raises(handoff.FunctionFailed) as raised:
        handoff.call_sync(half, 13)
    assert isinstance(raised.value.__cause__, ValueError)


async def test_a_call_may_be_made_where_a_loop_runs() -> None:
    assert handoff.call_sync(half, 4) == 2.0


def test_results_of_a_map_come_in_order_up_to_an_error() -> None:
    assert list(handoff.map_sync(half, range(20, 3000))) == [number / 2 for number in range(20, 3000)]
    got: list[float] = []
    with pytest.raises(handoff.FunctionFailed):
        got.extend(handoff.map_sync(half, range(10, 20)))
    assert list(handoff.map_sync(half, [])) == []
    with pytest.raises(TypeError, match="no source"):
        handoff.map_sync(half, 3)  # type: ignore[call-overload]


def test_results_before_an_error_come_first() -> None:
    results = handoff.map_sync(half, range(10, 20))

    assert [next(results) for _ in range(3)] == [5.0, 5.5, 6.0]
    with pytest.raises(handoff.FunctionFailed):
        next(results)


def test_an_endless_source_may_be_left() -> None:
    for result in handoff.map_sync(half, count(14)):
        if result > 500:
            break
    assert handoff.call_sync(half, 4) == 2.0


async def async_items() -> AsyncIterator[int]:
    yield 13


def items_of_calls() -> Iterator[float]:
    yield handoff.call_sync(half, 13)


def frames_of(error: BaseException) -> list[str]:
    return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize(
    "call",
    [
        lambda: handoff.call_sync(half, 13),
        lambda: handoff.call_sync(half, 1, 2),
        lambda: list(handoff.map_sync(half, [13])),
        lambda: list(handoff.map_sync(half, [13, 1], ordered=False)),
        lambda: list(handoff.map_sync(half, [1], [2])),
        lambda: list(handoff.map_sync(half, async_items())),
        lambda: handoff.map_sync(half, [1], ahead=0),
        lambda: handoff.map_sync(half, 1),  # type: ignore[call-overload]
    ],
)
def test_errors_show_frames_of_users_alone(call: Callable[[], object]) -> None:
    with pytest.raises((handoff.HandoffError, ValueError, TypeError)) as raised:
        call()

    assert frames_of(raised.value) == [__file__] * 2


def test_an_error_of_a_source_shows_the_frames_of_that() -> None:
    with pytest.raises(handoff.FunctionFailed) as raised:
        list(handoff.map_sync(half, items_of_calls()))

    last = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert (last.filename, last.name) == (__file__, items_of_calls.__name__)


def test_threads_share_the_session() -> None:
    results: list[float] = []
    threads = [
        threading.Thread(target=lambda number=number: results.append(handoff.call_sync(half, number)))
        for number in (2, 4, 6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == [1.0, 2.0, 3.0]
