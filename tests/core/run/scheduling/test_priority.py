from functools import partial
from math import inf
from typing import Any

from handoff_actors.core.run.scheduling.priority import Priority
from handoff_actors.core.run.scheduling.ready_queue import Destination, ReadyQueue
from handoff_actors.core.run.scheduling.requirements import Requirements
from handoff_actors.graph import Function
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from tests.core.builders import code, program_of


def slow(*args: object) -> None: ...


def other(*args: object) -> None: ...


def plan_of(*functions: tuple[str, list[str], Any]) -> Plan:
    return program_of(*(Function(name, args, function) for name, args, function in functions)).plan


def mixed() -> Plan:
    """A quick and a slow function, a chain of two quick ones, and another slow one."""
    return plan_of(
        ("quick", [], code),
        ("slow", [], slow),
        ("head", [], code),
        ("tail", ["head"], code),
        ("late", [], slow),
    )


def test_longest_path_counts_functions_until_durations_are_known() -> None:
    assert Priority(mixed()).level == [1, 1, 2, 1, 1]


def test_seconds_count_once_functions_have_ended() -> None:
    priority = Priority(mixed())

    assert priority.learn(Index(0), 1.0)
    assert priority.level == [1.0, 1.0, 2.0, 1.0, 1.0]
    assert priority.learn(Index(1), 5.0)
    assert priority.level == [1.0, 5.0, 2.0, 1.0, 5.0]


def test_later_functions_of_a_kind_correct_what_was_learned() -> None:
    priority = Priority(mixed())
    priority.learn(Index(0), 1.0)

    assert priority.learn(Index(2), 2.0)
    assert priority.level[0] == 1.3


def test_levels_are_not_computed_again_for_functions_that_take_no_time() -> None:
    priority = Priority(mixed())

    assert not priority.learn(Index(0), 0.000001)
    assert priority.level == [1, 1, 2, 1, 1]


def test_levels_are_computed_again_ever_more_rarely() -> None:
    priority = Priority(mixed())

    changes = [priority.learn(Index(0), 1.0) for _ in range(12)]

    assert changes == [True] * 4 + [True, False, True, False, True, False, False, True]


def test_nothing_is_recorded_if_all_functions_are_of_one_kind() -> None:
    priority = Priority(plan_of(("a", [], code), ("b", ["a"], code)))

    assert not priority.learn(Index(0), 1.0)
    assert priority.level == [2, 1]


def test_ready_functions_are_sorted_again_by_new_levels() -> None:
    plan = mixed()
    queue = ReadyQueue(plan)
    destination = Destination(Requirements(plan).classes[0], None)
    queue.push([Index(0), Index(1)], destination)
    [lane] = queue.lanes()
    for _ in range(2):
        queue.pop(lane, 1)
    queue.push([Index(2), Index(4)], destination)
    [lane] = queue.lanes()
    assert lane.first == 2

    queue.learn(Index(0), 1.0)
    queue.learn(Index(1), 5.0)

    assert queue.pop(lane, 2) == ([4], (0, 2, -5.0))
    assert queue.pop(lane, 2) == ([2], (0, 2, -2.0))


def test_durations_of_earlier_runs_count_from_the_start() -> None:
    priority = Priority(mixed())

    priority.assume({0: 1.0, 1: 5.0})

    assert priority.level == [1.0, 5.0, 2.0, 1.0, 5.0]


def test_functions_that_took_no_time_are_ranked_by_their_number() -> None:
    priority = Priority(mixed())

    priority.assume({0: 0.000001, 1: None})

    assert priority.level == [1, 1, 2, 1, 1]


def several() -> Plan:
    """Two kinds with several functions each, and one with a single function."""
    return plan_of(
        ("quick", [], code),
        ("quick too", [], code),
        ("slow", [], slow),
        ("slow too", [], slow),
        ("only", ["slow"], other),
    )


def test_first_function_of_an_unknown_kind_goes_first() -> None:
    priority = Priority(several())

    assert [priority.of(Index(index)) for index in range(5)] == [inf, 1, inf, 1, 1]
    assert priority.of(Index(0)) == inf, "still, when it is tried again"


def test_known_kinds_have_no_probe() -> None:
    priority = Priority(several())
    priority.assume({0: 1.0, 1: None})
    priority.learn(Index(3), 2.0)

    assert [priority.of(Index(index)) for index in range(5)] == [1.0, 1.0, 4.0, 2.0, 2.0]


def test_unknown_kind_counts_as_the_longest() -> None:
    priority = Priority(several())

    priority.assume({0: 1.0, 1: 3.0})

    assert priority.level == [1.0, 1.0, 6.0, 3.0, 3.0]


def test_kinds_with_a_negligible_share_of_all_work_go_first() -> None:
    priority = Priority(several())

    priority.assume({0: 0.01, 1: 1.0, 2: 1.0})

    assert priority.level == [inf, inf, 2.0, 1.0, 1.0]


def test_many_kinds_of_one_function_each_are_not_all_negligible() -> None:
    codes = [partial(code, number) for number in range(1000)]
    priority = Priority(plan_of(*((str(number), [], each) for number, each in enumerate(codes))))

    priority.assume(dict.fromkeys(range(1000), 1.0))

    assert sum(level == inf for level in priority.level) == 9
