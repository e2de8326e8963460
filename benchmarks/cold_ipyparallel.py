"""A whole program: import, controller and engines, first graph, exit."""

from benchmarks.floor import run_graph
from benchmarks.with_ipyparallel import engines
from benchmarks.workloads import branching

if __name__ == "__main__":
    with engines() as executor:
        assert run_graph(executor, branching())["join"] == branching().expected["join"]
