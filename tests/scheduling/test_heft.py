import pytest

from benchmarks.schedules_heft import Placement, Problem, heft, lower_bound, makespan, upward_ranks

#: Topcuoglu, Hariri and Wu 2002, figure 2: ten tasks, three processors.
SECONDS = [
    (14, 16, 9),
    (13, 19, 18),
    (11, 13, 19),
    (13, 8, 17),
    (12, 13, 10),
    (13, 16, 9),
    (7, 15, 11),
    (5, 11, 14),
    (18, 12, 20),
    (21, 7, 16),
]
#: By task, counted from 1 as in the paper: the tasks that feed it, and what each edge costs.
EDGES = {
    2: {1: 18},
    3: {1: 12},
    4: {1: 9},
    5: {1: 11},
    6: {1: 14},
    7: {3: 23},
    8: {2: 19, 4: 27, 6: 15},
    9: {2: 16, 4: 23, 5: 13},
    10: {7: 17, 8: 11, 9: 13},
}


def published() -> Problem:
    inputs = [
        [(producer - 1, cost) for producer, cost in EDGES.get(task, {}).items()] for task in range(1, 11)
    ]
    return Problem(SECONDS, inputs, nodes=[0, 1, 2])


def test_the_published_example_takes_as_long_as_published() -> None:
    assert makespan(heft(published())) == 80


def test_ranks_are_those_of_the_published_example() -> None:
    published_ranks = [108, 77, 80, 80, 69, 63.333, 42.667, 35.667, 44.333, 14.667]

    assert upward_ranks(published()) == pytest.approx(published_ranks, abs=0.001)


def test_a_short_task_goes_into_a_gap() -> None:
    # The third waits for the second's value, which has to move; the last fits in before it.
    seconds = [(10, 99), (99, 2), (10, 99), (3, 99)]

    placements = heft(Problem(seconds, [[], [(0, 4)], [(1, 4)], []], nodes=[0, 1]))

    assert placements[3] == Placement(0, 10, 13)
    assert placements[2] == Placement(0, 20, 30)


def test_nothing_moves_within_a_node() -> None:
    problem = Problem([(1, 1), (1, 1), (1, 1)], [[], [(0, 100)], [(0, 100)]], nodes=[0, 0])

    assert makespan(heft(problem)) == 2


def test_the_bound_is_the_longest_chain_or_the_work_for_each_processor() -> None:
    chain = Problem([(2, 3), (2, 3)], [[], [(0, 9)]], nodes=[0, 1])
    side_by_side = Problem([(2, 3)] * 6, [[]] * 6, nodes=[0, 1])

    assert lower_bound(chain) == 4
    assert lower_bound(side_by_side) == 6
    assert lower_bound(published()) <= 80
