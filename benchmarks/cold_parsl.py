"""A whole program: import, executor, first graph, exit."""

from benchmarks.with_parsl import parsl_cluster, results_of
from benchmarks.workloads import branching

if __name__ == "__main__":
    with parsl_cluster() as cluster:
        assert results_of(cluster.submit(branching())) == [branching().expected["join"]]
