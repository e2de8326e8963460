"""Sessions on the machines of a Ray cluster.

Each Ray node that is alive gets an actor, which claims cores, GPUs and memory of it and starts a node there with as much. Ray is
asked for its nodes again and again: those that come later, or become free, get one, too, and so do those that lost theirs.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Unpack

from handoff_actors.client.options import check_names, check_resources
from handoff_actors.client.session import Session
from handoff_actors.extras import how_to_install
from handoff_actors.ids import Resources
from handoff_actors.integrations.engines.lending import LentSessionOptions, session_on

if TYPE_CHECKING:
    from handoff_actors.integrations.engines.ray_engine import RayEngine

__all__ = ["on_ray"]

#: Seconds for the first node. Ray starts a process for it, and perhaps makes its environment.
_USABLE_WITHIN_S: Final = 60.0


@asynccontextmanager
async def on_ray(
    claim: Mapping[str, float] | None = None,
    *,
    runtime_env: Mapping[str, Any] | None = None,
    timeout: float = _USABLE_WITHIN_S,  # noqa: ASYNC109 - the error says why
    **options: Unpack[LentSessionOptions],
) -> AsyncIterator[Session]:
    """Give a session on the machines of a Ray cluster: one node on each Ray node, and on those that come meanwhile.

    The cluster is the one that this process is connected to; else `ray.init()` finds it by RAY_ADDRESS or on this machine, or
    starts one here for the block. Ray lends what is claimed to nothing else: at the end of the block, or of this process, it is free
    again, and no process is left there.

    :param claim: Resources to claim on each Ray node: cpu in cores, gpu in devices, memory in MB, others by their names in Ray.
        None: all whole cores and GPUs that are free, and memory in proportion to cores. Nodes that have less in all are not used.
    :param runtime_env: Ray's runtime environment for the nodes and the functions there. None: that of this process's job.
    :param timeout: Seconds to wait for a first node.
    :param options: Options of `Session`: on_event, progress, output, modules_by_value.
    :raises ImportError: Ray is not installed.
    :raises HandoffError: Ray can't be used, no Ray node has a node in time, or one of them can't have any.
    :raises VersionMismatch: A Ray node has a version of handoff_actors that can't be talked to.
    :raises ValueError: An amount is not allowed.
    """
    check_names("on_ray", options, LentSessionOptions.__annotations__)
    engine = await asyncio.to_thread(_engine, None if claim is None else check_resources(claim), runtime_env)
    async with engine.connected(), session_on(engine, timeout, **options) as session:
        yield session


def _engine(claim: Resources | None, runtime_env: Mapping[str, Any] | None) -> "RayEngine":
    """Import Ray, which takes a second."""
    try:
        from handoff_actors.integrations.engines.ray_engine import RayEngine  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(f"on_ray needs Ray: {how_to_install('ray')}") from error
    return RayEngine(claim, runtime_env)
