from random import Random
from statistics import fmean

import pytest

from benchmarks.schedules import CLUSTERS, FAMILIES, Knowledge, compare, outcomes, table
from benchmarks.schedules_graphs import Task
from benchmarks.schedules_simulation import INLINE_NBYTES, Cluster, run

MOST_ON_AVERAGE = 1.10
MOST = 1.5


# Coverage makes it several times as long.
@pytest.mark.timeout(300)
def test_most_spare_takes_hardly_longer_than_heft() -> None:
    # Of each family one graph, on half of the clusters; `python -m benchmarks.schedules` looks at many more.
    fixed_set = list(outcomes(list(FAMILIES), [1], CLUSTERS[1:3]))

    assert fmean(outcome.to_heft for outcome in fixed_set) <= MOST_ON_AVERAGE, table(fixed_set)
    assert max(outcome.to_heft for outcome in fixed_set) <= MOST, table(fixed_set)
    assert all(outcome.bound <= min(outcome.ours, outcome.heft) + 1e-9 for outcome in fixed_set)


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_are_the_same_for_the_same_seed_and_in_order(family: str) -> None:
    graph = FAMILIES[family](Random(7))

    assert graph == FAMILIES[family](Random(7))
    assert all(producer < index for index, task in enumerate(graph) for producer in task.producers)
    assert all(len(set(task.producers)) == len(task.producers) for task in graph)


def test_a_schedule_is_the_same_each_time() -> None:
    first, second = (compare("in-tree", 1, CLUSTERS[0]) for _ in range(2))

    assert first == second


def test_what_an_earlier_run_learned_makes_later_ones_shorter() -> None:
    knowledges: tuple[Knowledge, ...] = ("nothing", "kinds")
    first, later = (
        fmean(compare("Cycles", seed, CLUSTERS[0], knowledge).to_heft for seed in range(5))
        for knowledge in knowledges
    )

    assert later < first


def test_a_chain_on_one_node_takes_its_seconds_and_what_is_said() -> None:
    chain = (Task("a", 1.0, 10**6, ()), Task("b", 2.0, 0, (0,)))

    took_s = run(chain, Cluster([1], latency_s=0.25, bandwidth=10**6))

    assert took_s == pytest.approx(1.0 + 2.0 + 4 * 0.25)


def test_a_value_that_moves_takes_its_size_over_the_bandwidth() -> None:
    # The two makers keep both nodes busy, so that one of the values has to move.
    join = (Task("a", 1.0, 2 * 10**6, ()), Task("a", 1.0, 2 * 10**6, ()), Task("b", 1.0, 0, (0, 1)))

    took_s = run(join, Cluster([1, 1], latency_s=0.0, bandwidth=10**6))

    assert took_s == pytest.approx(1.0 + 2.0 + 1.0)
    assert Cluster([1], 0.5, 10**6).moving_s(INLINE_NBYTES) == 0.5
