"""The adverts of a node: what its machine says of its state, beside what its actor knows."""

from typing import Final, Protocol

from msgspec import Struct, field

from handoff_actors.actors.node.cluster_view import ClusterView
from handoff_actors.core.node.events import Advertise
from handoff_actors.ids import Incarnation, NodeName, Resources
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.wire.messages.members import Advert
from handoff_actors.wire.versions import VERSION


class StartableNodes(Struct, frozen=True):
    """The nodes that a member could have started."""

    #: Capabilities of one of them; none: it can start none now.
    capabilities: Resources = field(default_factory=dict)
    #: Seconds after which such a node would begin to drain; None: no end is known.
    for_s: float | None = None
    #: Why it can start none, where something is wrong.
    out_of_order: str = ""


NOTHING_STARTABLE: Final = StartableNodes()


class AdvertisedNode(Protocol):
    """The facts of a node that do not come from its machine, and those that do."""

    name: NodeName
    incarnation: Incarnation
    address: str
    bus: str
    rank: int
    advertised: Advertise
    startable: StartableNodes


def make_advert(node: AdvertisedNode, seq: int, cluster: ClusterView, now: float) -> Advert:
    """Make an advert of a node, with this number, at a time by its machine's clock."""
    state, startable = node.advertised, node.startable
    return Advert(
        name=node.name,
        incarnation=node.incarnation,
        seq=seq,
        address=node.address,
        bus=node.bus,
        capabilities=state.capabilities,
        spare=state.spare,
        workers=state.workers,
        running=state.running,
        queued=state.queued,
        stored=state.stored,
        leaving=state.leaving,
        view=cluster.view(),
        version=VERSION,
        python=PYTHON,
        busy=state.busy,
        waiting_claims=state.waiting_claims,
        most_workers=state.most_workers,
        rank=node.rank,
        unreachable=cluster.unreachable(),
        out_of_use=state.out_of_use or startable.out_of_order,
        ends_in_s=None if state.ends_at is None else max(0.0, state.ends_at - now),
        can_start=startable.capabilities,
        can_start_for_s=startable.for_s,
        warm=list(state.warm),
    )
