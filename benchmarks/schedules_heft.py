"""HEFT, which knows everything beforehand, and a lower bound of all schedules.

Source: Topcuoglu, Hariri, Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing",
IEEE Transactions on Parallel and Distributed Systems 13(3), 2002: ranks upward with mean costs, then, task by task, the
processor with the earliest finish, in gaps too.
"""

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True)
class Problem:
    """The tasks to schedule, and the processors. Producers come before their consumers."""

    #: By task, then by processor.
    seconds: Sequence[Sequence[float]]
    #: By task: (producer, seconds to move its value to another node).
    inputs: Sequence[Sequence[tuple[int, float]]]
    #: The node of each processor: nothing moves within one.
    nodes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Placement:
    """The processor and the time of a task."""

    processor: int
    start: float
    finish: float


def heft(problem: Problem) -> list[Placement]:
    """Place each task with HEFT."""
    ranks = upward_ranks(problem)
    placed: dict[int, Placement] = {}
    busy: list[list[tuple[float, float]]] = [[] for _ in problem.nodes]
    for task in sorted(range(len(ranks)), key=lambda task: (-ranks[task], task)):
        arrivals = {node: _arrival(problem, placed, task, node) for node in sorted(set(problem.nodes))}
        best: Placement | None = None
        for processor, node in enumerate(problem.nodes):
            seconds = problem.seconds[task][processor]
            start = _first_gap(busy[processor], arrivals[node], seconds)
            if best is None or start + seconds < best.finish:
                best = Placement(processor, start, start + seconds)
        assert best is not None, "there is a processor"
        placed[task] = best
        insort(busy[best.processor], (best.start, best.finish))
    return [placed[task] for task in range(len(ranks))]


def makespan(placements: Sequence[Placement]) -> float:
    """The end of the last task."""
    return max(placement.finish for placement in placements)


def upward_ranks(problem: Problem) -> list[float]:
    """By task: mean seconds from its start to the end of everything, along the longest way, with all values moving."""
    ranks = [fmean(seconds) for seconds in problem.seconds]
    means = list(ranks)
    for task in reversed(range(len(ranks))):
        for producer, moving in problem.inputs[task]:
            ranks[producer] = max(ranks[producer], means[producer] + moving + ranks[task])
    return ranks


def lower_bound(problem: Problem) -> float:
    """The longest chain at best speed with nothing moving, or all work spread evenly, whichever takes longer."""
    fastest = [min(seconds) for seconds in problem.seconds]
    ends: list[float] = []
    for task, seconds in enumerate(fastest):
        ends.append(seconds + max((ends[producer] for producer, _ in problem.inputs[task]), default=0.0))
    return max(*ends, sum(fastest) / len(problem.nodes))


def _arrival(problem: Problem, placed: dict[int, Placement], task: int, node: int) -> float:
    return max(
        (
            placed[producer].finish + (moving if problem.nodes[placed[producer].processor] != node else 0.0)
            for producer, moving in problem.inputs[task]
        ),
        default=0.0,
    )


def _first_gap(busy: list[tuple[float, float]], arrival: float, seconds: float) -> float:
    """The earliest start at or after `arrival`, between what is placed already."""
    position = bisect_right(busy, (arrival, float("inf")))
    start = max(arrival, busy[position - 1][1]) if position else arrival
    for begin, end in busy[position:]:
        if start + seconds <= begin:
            break
        start = max(start, end)
    return start
