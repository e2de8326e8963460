"""`on_ray`: a session whose nodes are on the machines of a Ray cluster.

Each Ray node that is alive gets an actor, which claims cores, GPUs and memory of it and starts a node there with as much. Ray is
asked for its nodes again and again: those that come later, or become free, get one, too, and so do those that lost theirs.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Unpack

from handoff_actors.client.options import check_names, check_resources
from handoff_actors.client.session import Session
from handoff_actors.extras import how_to_install
from handoff_actors.ids import Resources
from handoff_actors.integrations.engines.lending import LentSessionOptions, session_on

if TYPE_CHECKING:
    from handoff_actors.integrations.engines.ray_engine import RayEngine

__all__ = ["on_ray"]


@asynccontextmanager
async def on_ray(
    *,
    cpu: float | None = None,
    gpu: float | None = None,
    memory: float | None = None,
    resources: Mapping[str, float] | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    start_timeout: float = 60.0,
    **options: Unpack[LentSessionOptions],
) -> AsyncIterator[Session]:
    """Use the machines of a Ray cluster for runs: each Ray node, and each that comes later, has a node while the block lasts.

    The cluster is the one that this process is connected to. Else `ray.init()` finds one, by RAY_ADDRESS or on this machine, or
    starts one here that ends with the block. An actor on each Ray node claims what its node offers, so Ray lends that to nothing
    else meanwhile. A Ray node that is too busy gets its node once there is room; one that never has as much as is to be claimed
    gets none. When the block ends, however it does, or this process dies, nothing is left, and the claims are free again.

    :param cpu: Cores to claim on each Ray node; None: all whole ones that are free there, one at least.
    :param gpu: GPUs to claim on each; None: all whole ones that are free. 0: none.
    :param memory: MB to claim on each; None: the part of Ray's memory there that its claimed cores are of all its cores.
    :param resources: Other resources to claim on each, by their names in Ray. Functions claim them by the same names.
    :param runtime_env: Runtime environment, in Ray's sense, for the nodes and the functions there; None: that of this process.
    :param start_timeout: Seconds to wait for the first node.
    :param options: Further options of `Session`: on_event, progress, output, modules_by_value.
    :returns: A context manager for `async with`, which gives the session. It has a key of its own.
    :raises HandoffError: Ray can't be used, no Ray node has a node in time, or one of those that are there can't have one.
    :raises VersionMismatch: A Ray node has a version of this library that can't be used.
    :raises ImportError: Ray is not installed here.
    :raises ValueError: An amount, or `runtime_env`, is not allowed.
    """
    check_names("on_ray", options, LentSessionOptions.__annotations__)
    given = {"cpu": cpu, "gpu": gpu, "memory": memory, **(resources or {})}
    asked = check_resources({name: amount for name, amount in given.items() if amount is not None})
    engine = await asyncio.to_thread(_engine, asked, runtime_env)
    async with engine.connected(), session_on(engine, start_timeout, **options) as session:
        yield session


def _engine(asked: Resources, runtime_env: Mapping[str, Any] | None) -> "RayEngine":
    """Import Ray, which takes a second."""
    try:
        from handoff_actors.integrations.engines.ray_engine import RayEngine  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(f"on_ray needs Ray: {how_to_install('ray')}") from error
    return RayEngine(asked, runtime_env)
