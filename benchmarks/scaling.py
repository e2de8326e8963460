"""The growth of costs with functions and with nodes.

    python -m benchmarks.scaling [functions] [nodes] [discovery]

measures all, or the named ones, prints tables and keeps the figures in benchmarks/scaling.json, from which
`python -m benchmarks.scaling_plots` makes the plots of docs/scaling.md.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import scaling_discovery
from benchmarks.scaling_world import Costs, Shape, simulate

FIGURES = Path(__file__).with_name("scaling.json")
FUNCTIONS = (1_000, 10_000, 100_000, 1_000_000)
NODES = (10, 100, 1_000)
DISCOVERY_NODES = (10, 100, 1_000, 10_000)
DURATIONS_S = (0.001, 0.01, 0.1, 1.0)
CORES = 16
#: Functions for each core: enough for the start not to dominate.
ROUNDS = 4

Row = Mapping[str, float]


def functions() -> Iterator[Row]:
    """Measure real runs on an embedded node, each in a process of its own."""
    for size in FUNCTIONS:
        command = [sys.executable, "-m", "benchmarks.scaling_functions", str(size)]
        yield json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def nodes() -> Iterator[Row]:
    """Simulate runs on clusters of many sizes."""
    for count in NODES:
        for duration_s in DURATIONS_S:
            yield simulated(Shape(count, CORES, count * CORES * ROUNDS, duration_s), Costs())


def simulated(shape: Shape, costs: Costs) -> Row:
    outcome = simulate(shape, costs)
    return {
        "nodes": shape.nodes,
        "duration_s": shape.duration_s,
        "efficiency": outcome.efficiency(shape),
        "functions_per_s": shape.functions / outcome.makespan_s,
        "app_busy": outcome.app_busy_s / outcome.makespan_s,
        "adverts_per_s": outcome.adverts / outcome.makespan_s,
    }


def discovery() -> Iterator[Row]:
    """Measure the adverts that a member receives."""
    return map(scaling_discovery.measure, DISCOVERY_NODES)


MEASURES: Mapping[str, Callable[[], Iterator[Row]]] = {
    "functions": functions,
    "nodes": nodes,
    "discovery": discovery,
}


def main(names: list[str]) -> None:
    for name in names or MEASURES:
        rows: list[Row] = []
        for row in MEASURES[name]():
            if not rows:
                print(*row)
            print(*(f"{figure:.4g}" for figure in row.values()), flush=True)
            rows.append(row)
        figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        FIGURES.write_text(json.dumps({**figures, name: rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
