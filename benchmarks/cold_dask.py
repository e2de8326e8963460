"""A whole program: import, cluster, first graph, exit."""
# mypy: allow-untyped-calls

import logging

from dask.task_spec import Task, TaskRef
from distributed import Client, LocalCluster

from benchmarks.workloads import branching


def main() -> None:
    workload = branching()
    graph = {key: Task(key, code, *map(TaskRef, takes)) for key, code, takes in workload.steps}
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        assert client.get(graph, ["join"]) == [workload.expected["join"]]


if __name__ == "__main__":
    main()
