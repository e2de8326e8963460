"""Keeps a node on each Ray node, as an `Engine`."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final

from msgspec import Struct
from ray.exceptions import ActorUnavailableError, RayError, RuntimeEnvSetupError

from handoff_actors.errors import HandoffError
from handoff_actors.ids import Resources
from handoff_actors.integrations.engines.lending import LentNodes
from handoff_actors.integrations.engines.ray_claims import RayClaim, RayNode, claim_on
from handoff_actors.integrations.engines.ray_cluster import RayActor, RayCluster, connected, first_line
from handoff_actors.wire.versions import check_versions

log = logging.getLogger(__name__)

#: Interval at which Ray is asked for its nodes.
_LOOK_S: Final = 0.5
#: Resources that are in use are waited for so long before the session is entered without the node: those of a session that has
#: just ended are free a moment later.
_PATIENCE_S: Final = 1.0
#: Pauses before another try with a Ray node that has lost its node, and the life of a node that makes the next pause short again.
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0
_LONG_LIFE_S: Final = 60.0
#: A node is ended within this time, or its actor is killed, and with it the node.
_END_S: Final = 5.0


class _Seat(Struct):
    """A Ray node, as far as it concerns us."""

    since: float
    #: The task that starts its node, and waits for the node's end.
    life: asyncio.Task[None] | None = None
    #: The actor whose node serves.
    actor: RayActor | None = None
    pause_s: float = _FIRST_PAUSE_S
    not_before: float = 0.0
    #: No node can ever be there.
    is_barred: bool = False


class RayEngine:
    """See `Engine`."""

    name = "Ray"
    hint = (
        "Ray has not started the actors there yet: they wait for resources that other work got first, or for their environment, "
        "or their processes fail, of which Ray's output and `ray list actors` say more"
    )

    def __init__(self, asked: Resources, runtime_env: Mapping[str, Any] | None) -> None:
        self._asked = asked
        self._runtime_env = runtime_env
        self._cluster: RayCluster
        self._nodes: LentNodes
        #: By the Ray node's id.
        self._seats: dict[str, _Seat] = {}

    def connected(self) -> AbstractAsyncContextManager[None]:
        """Connect this process to Ray as long as the engine is used. Raises HandoffError."""
        return connected()

    async def lend(self, nodes: LentNodes) -> None:
        """See `Engine`."""
        self._nodes = nodes
        self._cluster = RayCluster(self._runtime_env)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._seen(await self._cluster.nodes(), tasks)
                    await asyncio.sleep(_LOOK_S)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    def _seen(self, alive: list[RayNode], tasks: asyncio.TaskGroup) -> None:
        now = asyncio.get_running_loop().time()
        present = {node.id for node in alive}
        self._seats = {
            node_id: seat
            for node_id, seat in self._seats.items()
            if node_id in present or seat.life is not None
        }
        for node in alive:
            if node.id not in self._seats:
                self._seats[node.id] = _Seat(now)
                self._nodes.expect(str(node))
        for node in alive:
            seat = self._seats[node.id]
            if node.is_draining and seat.actor is not None and not seat.is_barred:
                seat.is_barred = True
                tasks.create_task(_drain(seat.actor), name=f"drain {node}")
            if seat.life is None and not seat.is_barred and now >= seat.not_before:
                self._claim_or_wait(node, seat, now, tasks)

    def _claim_or_wait(self, node: RayNode, seat: _Seat, now: float, tasks: asyncio.TaskGroup) -> None:
        claim = claim_on(node, self._asked)
        if isinstance(claim, RayClaim):
            seat.life = tasks.create_task(self._live(node, seat, claim), name=f"node on {node}")
        elif claim.is_for_good or now - seat.since > _PATIENCE_S:
            self._nodes.postpone(str(node), claim.reason)
            seat.is_barred = claim.is_for_good

    async def _live(self, node: RayNode, seat: _Seat, claim: RayClaim) -> None:
        """Have one node on a Ray node, until that or the node ends."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            actor = await self._cluster.start_actor(node, claim)
            try:
                await self._serve(node, seat, actor, claim)
            finally:
                await _end(actor)
        except HandoffError as error:
            seat.is_barred = True
            self._nodes.failed(str(node), error)
        except RuntimeEnvSetupError as error:
            seat.is_barred = True
            # The other lines are a traceback of Ray's.
            cause = str(error).strip().rpartition("\n")[2]
            reason = f"Ray can't make the runtime environment on Ray node {node}: {cause}"
            self._nodes.failed(str(node), HandoffError(reason))
        except RayError as error:
            self._lost(node, first_line(error))
        finally:
            seat.life = seat.actor = None
            if clock() - began > _LONG_LIFE_S:
                seat.pause_s = _FIRST_PAUSE_S
            seat.not_before = clock() + seat.pause_s
            seat.pause_s = min(2 * seat.pause_s, _LONGEST_PAUSE_S)

    async def _serve(self, node: RayNode, seat: _Seat, actor: RayActor, claim: RayClaim) -> None:
        """Start a node with an actor, and return once the node has ended. Raises HandoffError, RayError."""
        worker = str(node)
        self._check(node, *await actor.call("versions"))
        order = self._nodes.order(worker, node.name, claim.capabilities, node.host)
        address, failure = await actor.call("start", order)
        if failure:
            raise HandoffError(f"Ray node {worker} could not start a node: {failure}")
        await self._nodes.serves(worker, address)
        seat.actor = actor
        while True:
            try:
                await actor.call("wait")
            except ActorUnavailableError:
                # Its process may be there still, and the node with it: Ray says so once it knows.
                await asyncio.sleep(_LOOK_S)
            else:
                break
        self._lost(node, "its process has ended")

    def _check(self, node: RayNode, protocol: int, version: str, python: str, failure: str) -> None:
        """Raise HandoffError if the library there can't be used."""
        if protocol:
            check_versions(f"Ray node {node}", protocol, version, python)
        if failure:
            found = (
                f"has handoff_actors {version}, which can't be used"
                if version
                else "can't import handoff_actors"
            )
            raise HandoffError(
                f"Ray node {node} {found} ({failure}). Install the version of this process for the Python of Ray's workers "
                f"there ({python}), or have Ray do so: on_ray(runtime_env={{'pip': [...]}})"
            )

    def _lost(self, node: RayNode, reason: str) -> None:
        self._nodes.gone(str(node))
        self._nodes.postpone(str(node), f"its last node or actor has ended: {reason}")
        log.warning("no node on a Ray node any more", extra={"ray_node": str(node), "reason": reason})


async def _drain(actor: RayActor) -> None:
    with suppress(RayError):
        await actor.call("drain")


async def _end(actor: RayActor) -> None:
    try:
        if actor.has_answered:
            with suppress(RayError, TimeoutError):
                async with asyncio.timeout(_END_S):
                    await actor.call("end")
    finally:
        # Even if this is cancelled.
        with suppress(RayError):
            await actor.kill()
