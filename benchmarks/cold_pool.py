"""A whole program: import, pool, first graph, exit."""

from concurrent.futures import ProcessPoolExecutor

from benchmarks.floor import run_graph
from benchmarks.workloads import branching

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        assert run_graph(pool, branching())["join"] == branching().expected["join"]
