"""Ray as this process uses it. All calls that could wait for another process are made in threads."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import ray
from ray.exceptions import RayError, RaySystemError
from ray.util.client import ray as ray_client
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from handoff_actors.errors import HandoffError
from handoff_actors.integrations.engines import ray_actor
from handoff_actors.integrations.engines.ray_claims import RayClaim, RayNode

#: Calls of an actor that may go on at once: `wait` does as long as its node is there.
_CALLS_AT_ONCE: Final = 4


class RayCluster:
    """The cluster that this process is connected to, and the actors that it has there."""

    def __init__(self, runtime_env: Mapping[str, Any] | None) -> None:
        ray.cloudpickle.register_pickle_by_value(ray_actor)
        # Not restarted by Ray: the app orders another node, which has another name.
        options: dict[str, Any] = {"max_restarts": 0, "max_concurrency": _CALLS_AT_ONCE}
        if runtime_env is not None:
            options["runtime_env"] = dict(runtime_env)
        self._actors = ray.remote(**options)(ray_actor.HandoffNode)

    async def nodes(self) -> list[RayNode]:
        """Return the nodes that are alive. Raises HandoffError if Ray can't tell."""
        try:
            return await asyncio.to_thread(_nodes)
        except (RayError, OSError, RuntimeError) as error:
            raise HandoffError(f"Ray's nodes are unknown: {first_line(error)}") from error

    async def start_actor(self, node: RayNode, claim: RayClaim) -> "RayActor":
        """Start an actor on a node, or have it wait there until what it claims is free. Raises RayError."""
        of_ray = dict(claim.of_ray)
        options: dict[str, Any] = {
            "num_cpus": of_ray.pop("CPU"),
            "num_gpus": of_ray.pop("GPU", 0),
            "memory": of_ray.pop("memory"),
            "resources": of_ray,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
        }
        return RayActor(await asyncio.to_thread(lambda: self._actors.options(**options).remote()))


class RayActor:
    """An actor of the class `HandoffNode`."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        #: It has been started.
        self.has_answered = False

    async def call(self, method: str, *arguments: object) -> Any:
        """Call a method, and wait for what it returns. Raises RayError once the actor is gone."""
        reference = await asyncio.to_thread(self._send, method, arguments)
        answer = reference.future()
        await _done(answer)
        self.has_answered = True
        return answer.result()

    async def kill(self) -> None:
        """End its process, and the node with it. Does nothing if it has ended."""
        await asyncio.to_thread(self._kill)

    def _send(self, method: str, arguments: tuple[object, ...]) -> Any:
        _check_connected()
        return getattr(self._handle, method).remote(*arguments)

    def _kill(self) -> None:
        _check_connected()
        ray.kill(self._handle)


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """Connect this process to Ray, unless it is. The last user of a connection made here ends it, and a Ray that it started.

    Raises HandoffError if Ray can't be used.
    """
    connecting = asyncio.get_running_loop().run_in_executor(None, _connection.enter)
    try:
        is_ours = await asyncio.shield(connecting)
    except asyncio.CancelledError:
        # A thread can't be cancelled: it finishes the start.
        await asyncio.wait([connecting])
        if not connecting.exception() and connecting.result():
            await asyncio.to_thread(_connection.leave)
        raise
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise HandoffError(f"Ray can't be used: {first_line(error)}") from error
    try:
        yield
    finally:
        if is_ours:
            await asyncio.to_thread(_connection.leave)


class _Connection:
    """The connection of this process, if it was made here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    def enter(self) -> bool:
        """Return True if `leave` is to follow: the connection is not the program's own."""
        with self._lock:
            if not ray.is_initialized():
                self._users = 0
                _init()
            elif not self._users:
                return False
            self._users += 1
            return True

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                ray.shutdown()


_connection = _Connection()


def _init() -> None:
    """Connect, without Ray's warning that it doesn't handle SIGTERM: in a thread it can't, and the program's own handler stays."""
    logger = logging.getLogger("ray._private.worker")
    logger.addFilter(_is_no_matter_of_signals)
    try:
        ray.init()
    finally:
        logger.removeFilter(_is_no_matter_of_signals)


def _is_no_matter_of_signals(record: logging.LogRecord) -> bool:
    return "SIGTERM" not in record.getMessage()


async def _done(future: Future[Any]) -> None:
    """Return once a future is done. It is not cancelled with this task: Ray Client's thread would fail to set it."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def tell(_: object) -> None:
        # The loop may have been closed meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(tell)
    await done.wait()


def _check_connected() -> None:
    """Raise RayError if the program has disconnected: Ray would start another cluster, and ask that."""
    if not ray.is_initialized():
        raise RaySystemError("this process has disconnected from Ray, with ray.shutdown()")


def _nodes() -> list[RayNode]:
    _check_connected()
    free, draining = _standing()
    return [
        RayNode(
            id=node["NodeID"],
            name=node["NodeName"],
            host=node["NodeManagerAddress"],
            total=node["Resources"],
            free=free.get(node["NodeID"], {}),
            is_draining=node["NodeID"] in draining,
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _standing() -> tuple[dict[str, dict[str, float]], list[str]]:
    """The free resources of each node, which lag by some tenths of a second, and the nodes that are to be removed."""
    if ray_client.is_connected():
        # Only a process within the cluster can see them.
        found: tuple[dict[str, dict[str, float]], list[str]] = ray.get(
            ray.remote(num_cpus=0)(_standing_here).remote()
        )
        return found
    return _standing_here()


def _standing_here() -> tuple[dict[str, dict[str, float]], list[str]]:
    from ray._private.state import available_resources_per_node, state  # noqa: PLC0415 - by value, it has no globals

    # Earlier versions of Ray have no such method.
    draining: dict[str, int] = getattr(state, "get_draining_nodes", dict)()
    return available_resources_per_node(), list(draining)


def first_line(error: BaseException) -> str:
    """Ray's errors have pages of advice below."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
