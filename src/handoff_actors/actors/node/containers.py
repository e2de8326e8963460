"""The time that a node has to drain before whoever runs it kills it."""

import os
from collections.abc import Callable, Mapping

#: On shutdown, wait this many seconds for running functions.
DRAIN_S = 30.0
#: Kubernetes kills after 30 s, `docker stop` and `podman stop` after 10; the node needs a moment to end.
KUBERNETES_DRAIN_S = 25.0
CONTAINER_DRAIN_S = 8.0
#: Docker and Podman put these files into each container.
MARKERS = ("/.dockerenv", "/run/.containerenv")


def usual_drain_s(
    variables: Mapping[str, str] = os.environ, exists: Callable[[str], bool] = os.path.exists
) -> float:
    """The default of `--drain` where this process runs: no longer than containers are given to stop."""
    if "KUBERNETES_SERVICE_HOST" in variables:
        return KUBERNETES_DRAIN_S
    return CONTAINER_DRAIN_S if any(map(exists, MARKERS)) else DRAIN_S
