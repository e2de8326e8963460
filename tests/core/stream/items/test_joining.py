from handoff_actors.core.stream.items.joining import Join
from handoff_actors.core.stream.items.scope import Scope

SCOPE = Scope()


def test_item_is_whole_once_each_producer_has_given_something() -> None:
    join = Join(2, None)

    assert join.add((0,), None, 1, b"b", SCOPE, 0.0) is None
    assert len(join) == 1
    assert join.add((0,), None, 0, b"a", SCOPE, 9.0) == [b"a", b"b"]
    assert len(join) == 0
    assert join.wake_at is None


def test_item_of_which_a_part_is_late_times_out_with_what_has_come() -> None:
    join = Join(2, 5.0)
    join.add((0,), None, 1, b"b", SCOPE, 1.0)

    assert join.wake_at == 6.0
    assert join.timed_out(5.9) == []
    assert join.timed_out(6.0) == [((0,), [b"b"], SCOPE)]
    assert join.wake_at is None


def test_part_that_comes_after_the_time_limit_is_nothing_and_then_nothing_is_left() -> None:
    join = Join(3, 5.0)
    join.add((0,), None, 1, b"b", SCOPE, 1.0)
    join.timed_out(6.0)

    assert join.add((0,), None, 0, b"a", SCOPE, 7.0) == []
    assert len(join) == 1
    assert join.add((0,), None, 2, b"c", SCOPE, 8.0) == []
    assert len(join) == 0


def test_closings_do_not_time_out() -> None:
    join = Join(2, 5.0)

    assert join.add((0,), 2, 0, b"a", SCOPE, 1.0) is None
    assert join.wake_at is None


def test_whole_items_behind_one_that_waits_for_long_take_no_memory() -> None:
    join = Join(2, 3600.0)
    join.add((0,), None, 0, b"a", SCOPE, 0.0)

    for number in range(1, 1000):
        join.add((number,), None, 0, b"a", SCOPE, 1.0)
        join.add((number,), None, 1, b"b", SCOPE, 1.0)

    assert len(join._deadlines) < 100
    assert join.timed_out(3600.0) == [((0,), [b"a"], SCOPE)]
