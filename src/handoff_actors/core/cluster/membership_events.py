"""The events and effects of the membership machine."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from handoff_actors.wire.messages.members import Advert

#: How a node's own advert has come: on its bus, over a followed link, as its answer to an introduction of this place, or as its
#: own introduction.
Source = Literal["bus", "link", "answer", "introduction"]

# --- Events -----------------------------------------------------------------------------------------------------


class AdvertReceived(Struct, frozen=True):
    """A node has said this of itself."""

    advert: Advert
    source: Source = "bus"


class MembersReported(Struct, frozen=True):
    """A node has reported these adverts of others."""

    adverts: Sequence[Advert]
    #: Names of the members that the reporting node suspects.
    suspects: Sequence[str] = ()


class MemberLeft(Struct, frozen=True):
    """A node has announced that it leaves for good."""

    name: str
    incarnation: str


class MemberUnreachable(Struct, frozen=True):
    """A member's connection has broken and can't be made again."""

    name: str
    incarnation: str
    reason: str


class SetSeeds(Struct, frozen=True):
    """Set the addresses at which the cluster can be found."""

    addresses: Sequence[str]


class FollowBegun(Struct, frozen=True):
    """The link to a followed member is up; the node at its other end has answered with this advert."""

    incarnation: str
    advert: Advert


class FollowEnded(Struct, frozen=True):
    """The link to a followed member has broken, or could not be made."""

    incarnation: str
    reason: str


class NodeIntroduced(Struct, frozen=True):
    """A node has introduced itself to the one in this place. Answered by `AdmitNode` or `RefuseNode`."""

    advert: Advert
    #: True: the node starts, and must not take the name of another.
    is_joining: bool


class ProbeEnded(Struct, frozen=True):
    """Answers a `ProbeNode`: the advert of the node that has answered at the address, or None."""

    incarnation: str
    advert: Advert | None


class Outranked(Struct, frozen=True):
    """Another node knows of an earlier node of this one's name, with this rank."""

    rank: int


MembershipEvent = (
    AdvertReceived
    | MembersReported
    | MemberLeft
    | MemberUnreachable
    | SetSeeds
    | FollowBegun
    | FollowEnded
    | NodeIntroduced
    | ProbeEnded
    | Outranked
)

# --- Effects ----------------------------------------------------------------------------------------------------


class MemberUp(Struct, frozen=True):
    """A member has joined, or is back."""

    advert: Advert


class MemberChanged(Struct, frozen=True):
    """A member has published a new advert."""

    advert: Advert


class MemberSuspected(Struct, frozen=True):
    """A member has been silent for a while; with False: it has been heard again."""

    name: str
    is_suspect: bool


class MemberDown(Struct, frozen=True):
    """A member is gone."""

    name: str
    incarnation: str
    reason: str
    #: True: it has said so itself, perhaps before everything else that it has said has come.
    has_left: bool = False


class Subscribe(Struct, frozen=True):
    """Listen for adverts on the bus at this address from now on."""

    bus: str


class Unsubscribe(Struct, frozen=True):
    """Stop listening on the bus at this address."""

    bus: str


class Introduce(Struct, frozen=True):
    """Introduce this place to the node at this address, and ask for the members that it knows."""

    address: str


class FollowMember(Struct, frozen=True):
    """Open a link to a member's service, and ask for its adverts there. Answered by `FollowBegun` and `FollowEnded`."""

    incarnation: str
    address: str


class UnfollowMember(Struct, frozen=True):
    """Close the link to a followed member."""

    incarnation: str


class BusUnreachable(Struct, frozen=True):
    """A member is heard over a link only. Reported once for each."""

    advert: Advert


class UnreachableFor(Struct, frozen=True):
    """A member says that it can't connect to the node in this place. Reported once for each."""

    advert: Advert


class ProbeNode(Struct, frozen=True):
    """Ask at the address of this node whether it lives. Answered by `ProbeEnded`."""

    incarnation: str
    address: str


class AdmitNode(Struct, frozen=True):
    """Welcome a node that has introduced itself."""

    advert: Advert
    #: The greatest rank of earlier nodes of its name; 0 if there are none.
    outranked_by: int


class RefuseNode(Struct, frozen=True):
    """Refuse a node that has introduced itself: its name is in use."""

    newcomer: Advert
    #: The node that has the name; None: the one in this place.
    holder: Advert | None


class RaiseRank(Struct, frozen=True):
    """Give the node in this place at least this rank."""

    rank: int


class NameLost(Struct, frozen=True):
    """End the node in this place: another one has its name, lives, and has the greater rank."""

    advert: Advert


class MembershipFull(Struct, frozen=True):
    """A new member has been rejected, since there are too many."""

    name: str


MembershipEffect = (
    MembershipFull
    | MemberUp
    | MemberChanged
    | MemberSuspected
    | MemberDown
    | Subscribe
    | Unsubscribe
    | Introduce
    | FollowMember
    | UnfollowMember
    | BusUnreachable
    | UnreachableFor
    | ProbeNode
    | AdmitNode
    | RefuseNode
    | RaiseRank
    | NameLost
)
