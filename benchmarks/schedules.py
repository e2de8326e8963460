"""Durations of runs with `most_spare`, against HEFT, which knows all durations beforehand, and a lower bound.

python -m benchmarks.schedules [family ...] [--seeds N] [--knowing kinds]
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Literal, get_args

from benchmarks.schedules_graphs import BANDWIDTH, LATENCY_S, SYNTHETIC, Family, Graph
from benchmarks.schedules_heft import Problem, heft, lower_bound, makespan
from benchmarks.schedules_simulation import Cluster, run
from benchmarks.schedules_workflows import WORKFLOWS
from handoff_actors.core.run.scheduling.durations import Durations

FAMILIES: Mapping[str, Family] = {**SYNTHETIC, **WORKFLOWS}
#: Our side's knowledge of durations beforehand.
Knowledge = Literal["nothing", "kinds"]
#: Cores of each node.
CLUSTERS: Sequence[Sequence[int]] = ((2, 2, 2, 2), (4, 4), (8, 4, 2, 2), (4,) * 8)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The durations of one graph on one cluster, in seconds."""

    family: str
    seed: int
    cores: Sequence[int]
    ours: float
    heft: float
    bound: float

    @property
    def to_heft(self) -> float:
        """Our duration as a multiple of HEFT's."""
        return self.ours / self.heft

    @property
    def to_bound(self) -> float:
        """Our duration as a multiple of the lower bound."""
        return self.ours / self.bound


def problem_of(graph: Graph, cluster: Cluster) -> Problem:
    """The graph and the cluster as HEFT sees them: each core is a processor."""
    nodes = [node for node, cores in enumerate(cluster.cores) for _ in range(cores)]
    return Problem(
        [[task.seconds] * len(nodes) for task in graph],
        [
            [(producer, cluster.moving_s(graph[producer].nbytes)) for producer in task.producers]
            for task in graph
        ],
        nodes,
    )


def compare(family: str, seed: int, cores: Sequence[int], knowledge: Knowledge = "nothing") -> Outcome:
    """Schedule one graph both ways; with "kinds" our side has run it once before."""
    graph = FAMILIES[family](Random(f"{family} {seed}"))
    cluster = Cluster(cores, LATENCY_S, BANDWIDTH)
    durations = Durations()
    if knowledge == "kinds":
        run(graph, cluster, durations=durations)
    ours = run(graph, cluster, durations=durations)
    problem = problem_of(graph, cluster)
    return Outcome(family, seed, cores, ours, makespan(heft(problem)), lower_bound(problem))


def outcomes(
    families: Sequence[str],
    seeds: Sequence[int],
    clusters: Sequence[Sequence[int]] = CLUSTERS,
    knowledge: Knowledge = "nothing",
) -> Iterator[Outcome]:
    """Compare on every graph, on every cluster."""
    for family in families:
        for seed in seeds:
            for cores in clusters:
                yield compare(family, seed, cores, knowledge)


def table(all_outcomes: Sequence[Outcome]) -> str:
    """Format outcomes as Markdown: a row for each family, and one for all."""
    lines = [
        "| family | runs | to HEFT, mean | to HEFT, max | to the bound, mean | to the bound, max | HEFT to the bound, mean |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    families = list(dict.fromkeys(outcome.family for outcome in all_outcomes))
    for name in [*families, "all"]:
        these = [outcome for outcome in all_outcomes if name in {outcome.family, "all"}]
        figures = (
            fmean(outcome.to_heft for outcome in these),
            max(outcome.to_heft for outcome in these),
            fmean(outcome.to_bound for outcome in these),
            max(outcome.to_bound for outcome in these),
            fmean(outcome.heft / outcome.bound for outcome in these),
        )
        lines.append(
            " | ".join([f"| {name}", str(len(these)), *(f"{figure:.3f}" for figure in figures)]) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedules", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="family", help=f"any of {', '.join(FAMILIES)}; all")
    parser.add_argument("--seeds", type=int, default=20, help="graphs of each family (20)")
    parser.add_argument(
        "--knowing",
        choices=get_args(Knowledge),
        default="nothing",
        help="kinds: the durations of an earlier run",
    )
    chosen = parser.parse_args()
    families = chosen.families or list(FAMILIES)
    if unknown := set(families) - set(FAMILIES):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    done = list(outcomes(families, range(chosen.seeds), CLUSTERS, chosen.knowing))
    print(table(done))
    worst = max(done, key=lambda outcome: outcome.to_heft)
    print(f"\nworst: {worst.family}, seed {worst.seed}, on nodes of {list(worst.cores)} cores")


if __name__ == "__main__":
    main()
