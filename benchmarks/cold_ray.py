"""A whole program: import, cluster, first graph, exit."""

import ray

from benchmarks.with_ray import ray_cluster
from benchmarks.workloads import branching

if __name__ == "__main__":
    with ray_cluster() as cluster:
        assert ray.get(cluster.submit(branching())) == [branching().expected["join"]]
