"""The time that a node has to drain before whoever runs it kills it."""

import os
from collections.abc import Callable, Collection, Mapping

from handoff_actors.actors.node.host.slurm import is_slurm_task

#: On shutdown, wait this many seconds for running functions.
DRAIN_S = 30.0
#: Kubernetes kills after 30 s, `docker stop` and `podman stop` after 10; the node needs a moment to end.
KUBERNETES_DRAIN_S = 25.0
CONTAINER_DRAIN_S = 8.0
#: Slurm kills KillWait seconds after SIGTERM, 30 unless the site has changed that.
SLURM_DRAIN_S = 25.0
_FIRST = 1
#: Docker and Podman put these files into each container.
MARKERS = ("/.dockerenv", "/run/.containerenv")


def usual_drain_s(
    variables: Mapping[str, str] = os.environ,
    exists: Callable[[str], bool] = os.path.exists,
    pids: Collection[int] | None = None,
) -> float:
    """The default of `--drain` where this process runs: no longer than containers are given to stop.

    `pids` are its own and its parent's. A container is stopped by a signal to its first process, which an init process may
    pass on; others hear nothing. Virtual machines that were made from images of containers have the markers, too.
    """
    if "KUBERNETES_SERVICE_HOST" in variables:
        return KUBERNETES_DRAIN_S
    if is_slurm_task(variables):
        return SLURM_DRAIN_S
    is_stopped_with_container = _FIRST in (pids or (os.getpid(), os.getppid()))
    return CONTAINER_DRAIN_S if is_stopped_with_container and any(map(exists, MARKERS)) else DRAIN_S
