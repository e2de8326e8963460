"""Single calls and maps for code that has no event loop."""

import threading
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
        handoff.map_sync(half, 3)  # type: ignore[arg-type]


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
