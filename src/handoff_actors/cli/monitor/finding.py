"""Finds the cluster that a command is to look at."""

from handoff_actors.actors.node.cluster_monitor import ClusterMonitor
from handoff_actors.cli.options.join import JoinOptions


async def find_cluster(monitor: ClusterMonitor, join: JoinOptions) -> None:
    """Have a monitor join by the options of a command. Raises as `ClusterMonitor.join` and `meet` do."""
    if join.file is not None:
        await monitor.meet(join.file, join.wait_s)
    if join.seeds:
        await monitor.join(join.seeds, join.wait_s)
