from collections.abc import Sequence

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.endings.retries import UNREACHABLE_PAUSES_S
from handoff_actors.core.run.events import FetchResult, ResultFetched, ResultFetchFailed, RunEffect
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.result_fetch import WINDOW_NBYTES
from handoff_actors.errors import NodeLost
from handoff_actors.graph import Function
from tests.core.builders import assigned, code, completed, done, ends, error_of, node_up, started

HALF = WINDOW_NBYTES // 2


def _fetched(effects: Sequence[RunEffect]) -> list[int]:
    return [effect.index for effect in effects if isinstance(effect, FetchResult)]


def _run(count: int) -> RunMachine:
    run = started(*(Function(str(index), [], code) for index in range(count)), wanted=range(count))
    run.handle(node_up("a", {"cpu": 8.0}, workers=8), 0.1)
    return run


def test_values_come_home_in_order_and_no_more_at_once_than_the_window_holds() -> None:
    run = _run(5)

    first = run.handle(completed("a", *(done(index, value=HALF) for index in range(5))), 0.2)
    second = run.handle(ResultFetched(1), 0.3)
    third = run.handle(ResultFetched(0), 0.4)
    rest = [run.handle(ResultFetched(index), 0.5) for index in (2, 3, 4)]

    assert [_fetched(effects) for effects in (first, second, third)] == [[0, 1], [2], [3]]
    assert [_fetched(effects) for effects in rest] == [[4], [], []]
    assert [end.error for end in ends(rest[-1])] == [None]


def test_value_larger_than_the_window_comes_alone() -> None:
    run = _run(3)
    sizes = [1000, 10 * WINDOW_NBYTES, 1000]

    first = run.handle(
        completed("a", *(done(index, value=nbytes) for index, nbytes in enumerate(sizes))), 0.2
    )
    second = run.handle(ResultFetched(0), 0.3)
    third = run.handle(ResultFetched(1), 0.4)

    assert [_fetched(effects) for effects in (first, second, third)] == [[0], [1], [2]]


def test_value_that_is_lost_on_its_way_makes_room_for_the_next_and_is_made_again() -> None:
    run = _run(2)
    run.handle(completed("a", done(0, value=WINDOW_NBYTES), done(1, value=WINDOW_NBYTES)), 0.2)

    effects = run.handle(ResultFetchFailed(0, "gone"), 0.3)

    assert _fetched(effects) == [1]
    assert assigned(effects) == [("a", [0])]
    run.check()


def test_values_that_wait_when_their_node_is_lost_come_once_they_have_been_made_again() -> None:
    run = _run(2)
    run.handle(completed("a", done(0, value=WINDOW_NBYTES), done(1, value=WINDOW_NBYTES)), 0.2)
    run.handle(NodeDown("a", "gone"), 0.3)
    run.handle(ResultFetchFailed(0, "gone"), 0.4)
    anew = run.handle(node_up("b", {"cpu": 8.0}), 0.5)

    again = run.handle(
        completed("b", done(0, attempt=2, value=WINDOW_NBYTES), done(1, attempt=2, value=WINDOW_NBYTES)),
        0.6,
    )

    assert assigned(anew) == [("b", [0, 1])]
    assert _fetched(again) == [0]
    assert _fetched(run.handle(ResultFetched(0), 0.7)) == [1]
    run.check()


def test_value_whose_holder_cannot_be_reached_is_fetched_again_after_pauses() -> None:
    run = _run(1)
    run.handle(completed("a", done(0, value=HALF)), 0.2)
    now, tries = 0.2, [0]

    for pause_s in UNREACHABLE_PAUSES_S:
        run.handle(ResultFetchFailed(0, "no answer", is_unreachable=True), now)
        assert run.wake_at == now + pause_s
        now += pause_s
        tries += _fetched(run.wake(now))
        run.check()
    run.handle(ResultFetchFailed(0, "no answer", is_unreachable=True), now)

    assert tries == [0] * (len(UNREACHABLE_PAUSES_S) + 1)
    assert run.view.tries(0) == 1
    assert isinstance(error_of(run), NodeLost)


def test_value_that_is_made_again_during_such_a_pause_comes_once() -> None:
    run = _run(1)
    run.handle(completed("a", done(0, value=HALF)), 0.2)
    run.handle(ResultFetchFailed(0, "no answer", is_unreachable=True), 0.3)
    run.wake(0.3)
    run.handle(ResultFetchFailed(0, "no answer", is_unreachable=True), 0.3)
    run.handle(node_up("b", {"cpu": 8.0}), 0.4)
    again = run.handle(NodeDown("a", "gone"), 0.5)

    fetched = run.handle(completed("b", done(0, attempt=2, value=HALF)), 0.6)
    after = run.wake(1.3)

    assert assigned(again) == [("b", [0])]
    assert _fetched(fetched) == [0]
    assert _fetched(after) == []
    run.check()
