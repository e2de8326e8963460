"""Discovery: connects the discovery bus and the seeds to a membership machine."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, assert_never

from handoff_actors.actors.driver import Driver
from handoff_actors.actors.followed_links import FollowedLinks
from handoff_actors.actors.joining import Joining
from handoff_actors.actors.probes import Probes
from handoff_actors.core.cluster.membership import MembershipMachine
from handoff_actors.core.cluster.membership_events import (
    AdmitNode,
    AdvertReceived,
    BusUnreachable,
    FollowBegun,
    FollowEnded,
    FollowMember,
    Introduce,
    MemberChanged,
    MemberDown,
    MemberLeft,
    MembershipEffect,
    MembershipEvent,
    MembershipFull,
    MembersReported,
    MemberSuspected,
    MemberUnreachable,
    MemberUp,
    NameLost,
    NodeIntroduced,
    Outranked,
    ProbeEnded,
    ProbeNode,
    RaiseRank,
    RefuseNode,
    SetSeeds,
    Source,
    Subscribe,
    UnfollowMember,
    UnreachableFor,
    Unsubscribe,
)
from handoff_actors.core.node.validation import check_advert, check_left
from handoff_actors.errors import ConnectionFailed, RemoteProtocolError
from handoff_actors.transport.endpoint import Network, Publisher
from handoff_actors.wire.messages.directions import OnBus
from handoff_actors.wire.messages.members import Advert, Joined, Left, Published, Refused, Welcome

log = logging.getLogger(__name__)

#: After a bug the members are looked for again this soon. If it recurs, it does so no more often.
RESTART_S = 1.0


class MembershipListener(Protocol):
    """The user of the membership, told of its changes."""

    def member_up(self, advert: Advert) -> None:
        """Take note of a member that has joined, or is back."""

    def member_changed(self, advert: Advert) -> None:
        """Take note of a member's new advert."""

    def member_suspected(self, name: str, *, is_suspect: bool) -> None:
        """Take note that a member has been silent for a while, or has been heard again."""

    def member_down(self, name: str, reason: str) -> None:
        """Take note that a member is gone."""

    def member_left(self, name: str, reason: str) -> None:
        """Take note that a member has said that it leaves. Other messages of it may still be under way."""


class _NoListener:
    """See MembershipListener. The daemon's node hears of members only through what its discovery tells peers."""

    def member_up(self, advert: Advert) -> None:
        """See MembershipListener."""

    def member_changed(self, advert: Advert) -> None:
        """See MembershipListener."""

    def member_suspected(self, name: str, *, is_suspect: bool) -> None:
        """See MembershipListener."""

    def member_down(self, name: str, reason: str) -> None:
        """See MembershipListener."""

    def member_left(self, name: str, reason: str) -> None:
        """See MembershipListener."""


class AnnouncedNode(Protocol):
    """The node in this process."""

    @property
    def name(self) -> str:
        """Name of the node, unique in the cluster."""

    @property
    def incarnation(self) -> str:
        """Id of this life of the node."""

    @property
    def rank(self) -> int:
        """Of two nodes of its name, the one with the greater rank has it."""

    def advert(self) -> Advert:
        """Make an advert with the node's present figures."""

    def raise_rank(self, rank: int) -> None:
        """Take this rank from now on, and advertise it."""

    def lose_name(self, reason: str) -> None:
        """End by itself, since another node has its name."""

    def tell_followers(self, message: OnBus) -> None:
        """Tell the peers that follow the node what is on its bus."""

    def set_member_count(self, members: int) -> None:
        """Take note of the number of other members."""


class Discovery:
    """The view of the cluster from one process. With `own`, also announces the node in this process to the others."""

    def __init__(
        self,
        network: Network,
        name: str,
        listener: MembershipListener | None = None,
        own: AnnouncedNode | None = None,
    ) -> None:
        self._network = network
        self._name = name
        self._own = own
        self._listener = listener or _NoListener()
        self._machine = self._new_machine()
        self._driver: Driver[MembershipEvent, MembershipEffect] = Driver(
            self._machine, self._perform, self._crashed
        )
        self._publisher: Publisher | None = None
        self._subscriber = network.subscriber(self._received)
        self._joining = Joining(
            network, name, self._own_advert, self._is_present, self._answered, self._name_refused
        )
        self._followed = FollowedLinks(
            network, name, self._own_advert, self._follow_begun, self._followed_said, self._follow_ended
        )
        self._probes = Probes(network, name, self._own_advert, self._probe_ended)
        #: The nodes that have introduced themselves to the own one, and wait for its answer, by incarnation.
        self._newcomers: dict[str, list[Callable[[Refused | int], None]]] = {}
        #: The members as the listener knows them, by name, and the seeds: what the machine has after a crash.
        self._members: dict[str, Advert] = {}
        self._seeds: dict[str, None] = {}
        self._restart: asyncio.Handle | None = None

    # --- For the node and the session ---------------------------------------------------------------------------

    def publish_at(self, address: str) -> str:
        """Open the bus of the node in this process at this address, and return the actual one."""
        self._publisher = self._network.publisher(address)
        return self._publisher.address

    async def join(self, seeds: Sequence[str], wait_s: float = 0.0) -> None:
        """Find the cluster by any of these addresses, within `wait_s` seconds, and keep finding it there.

        Raises NameInUse if the node in this process has the name of another, ConnectionFailed if no node but this one
        answers, AuthenticationError or VersionMismatch if no node answers and one refuses.
        """
        self.seek(seeds)
        await self._joining.join(seeds, wait_s)

    async def ask(self, addresses: Sequence[str]) -> None:
        """Find the cluster by any of these addresses now, and don't come back to them. Raises as `join` does."""
        await self._joining.join(addresses, is_refusal_final=True)

    def introduce_to(self, address: str) -> None:
        """Introduce this process to the node at an address, and hear of the members that it knows."""
        self._joining.introduce(address)

    def seek(self, seeds: Sequence[str]) -> None:
        """Look for the cluster at these addresses from time to time."""
        self._seeds |= dict.fromkeys(seeds)
        self._driver.feed(SetSeeds(tuple(seeds)))

    def members(self) -> list[Advert]:
        """The latest advert of every other member, by name."""
        return self._machine.alive()

    def suspects(self) -> list[str]:
        """Names of members that have been silent for a while."""
        return self._machine.suspects()

    def view(self) -> int:
        """Checksum of all members."""
        return self._machine.view()

    def lately_left(self) -> list[str]:
        """The incarnations of nodes that have left lately."""
        return self._machine.lately_left()

    def unreachable(self) -> list[str]:
        """Names of members that can be heard neither on their bus nor over a link that is opened from here."""
        return self._machine.unreachable()

    def announce(self, advert: Advert) -> None:
        """Publish an advert of the node in this process."""
        self._publish(Published(advert))
        self._followed.tell(Published(advert))

    def members_reported(self, adverts: Sequence[Advert], suspects: Sequence[str] = ()) -> None:
        """Take a node's report of the members that it knows, and of those that it suspects."""
        self._driver.feed(MembersReported(tuple(filter(_is_valid, adverts)), tuple(suspects)))

    def advert_received(self, advert: Advert, source: Source) -> None:
        """Take what a node says of itself."""
        if _is_valid(advert):
            self._driver.feed(AdvertReceived(advert, source))

    def member_left(self, name: str, incarnation: str) -> None:
        """Take note that a node has announced its end."""
        self._driver.feed(MemberLeft(name, incarnation))

    def node_introduced(
        self, advert: Advert, answer: Callable[[Refused | int], None], *, is_joining: bool
    ) -> None:
        """Take a node that has introduced itself to the one in this process, and tell all others.

        `answer` is told why it is refused, or the rank that it is to exceed; within moments if its name is in use.
        """
        self._newcomers.setdefault(advert.incarnation, []).append(answer)
        self._driver.feed(NodeIntroduced(advert, is_joining))

    def member_unreachable(self, name: str, incarnation: str, reason: str) -> None:
        """Take note that a member's connection has broken and can't be made again."""
        self._driver.feed(MemberUnreachable(name, incarnation, reason))

    def close(self, *, is_leaving: bool = True) -> None:
        """Stop listening and publishing. Others are told that the node leaves, unless it is only announced no more."""
        self._driver.close()
        if self._restart is not None:
            self._restart.cancel()
        if is_leaving and self._own is not None and self._publisher is not None:
            left = Left(self._own.name, self._own.incarnation)
            self._publish(left)
            self._followed.tell(left)
        self._joining.close()
        self._probes.close()
        self._followed.close()
        self._newcomers.clear()
        self._subscriber.close()
        if self._publisher is not None:
            self._publisher.close()

    # --- Events -------------------------------------------------------------------------------------------------

    def _received(self, messages: list[OnBus]) -> None:
        for message in messages:
            self._said(message, "bus")

    def _followed_said(self, message: OnBus) -> None:
        self._said(message, "link")

    def _said(self, message: OnBus, source: Source) -> None:
        match message:
            case Published(advert):
                self.advert_received(advert, source)
            case Joined(advert):
                self.members_reported([advert])
            case Left(name, incarnation):
                if _is_valid(message):
                    self.member_left(name, incarnation)
            case _:
                assert_never(message)

    def _answered(self, welcome: Welcome) -> list[Advert]:
        """Take a node's answer to an introduction. Returns members that it doesn't know."""
        self._take_others(welcome)
        if welcome.members:
            self.advert_received(welcome.members[0], "answer")
        if self._own is None:
            return []
        return self._machine.unknown_to({advert.incarnation for advert in welcome.members})

    def _name_refused(self, reason: str) -> None:
        if self._own is not None:
            self._own.lose_name(reason)

    def _follow_begun(self, incarnation: str, welcome: Welcome) -> None:
        self._take_others(welcome)
        if welcome.members and _is_valid(welcome.members[0]):
            self._driver.feed(FollowBegun(incarnation, welcome.members[0]))

    def _take_others(self, welcome: Welcome) -> None:
        if welcome.outranked_by:
            self._driver.feed(Outranked(welcome.outranked_by))
        for advert in self._machine.alive() if welcome.left else ():
            if advert.incarnation in welcome.left:
                self.member_left(advert.name, advert.incarnation)
        self.members_reported(welcome.members[1:], welcome.suspects)

    def _follow_ended(self, incarnation: str, reason: str) -> None:
        self._driver.feed(FollowEnded(incarnation, reason))

    def _probe_ended(self, incarnation: str, answer: Advert | None) -> None:
        self._driver.feed(
            ProbeEnded(incarnation, answer if answer is not None and _is_valid(answer) else None)
        )

    # --- Effects ------------------------------------------------------------------------------------------------

    def _perform(self, effect: MembershipEffect) -> None:  # noqa: C901 - one table
        match effect:
            case Subscribe() | Unsubscribe():
                self._listen(effect)
            case Introduce(address):
                self._introduce(address)
            case FollowMember(incarnation, address):
                self._followed.follow(incarnation, address)
            case UnfollowMember(incarnation):
                self._followed.unfollow(incarnation)
            case ProbeNode(incarnation, address):
                self._probes.begin(incarnation, address)
            case AdmitNode() | RefuseNode():
                self._answer_newcomer(effect)
            case RaiseRank() | NameLost():
                self._change_own(effect)
            case MembershipFull() | BusUnreachable() | UnreachableFor():
                self._report(effect)
            case MemberUp() | MemberChanged() | MemberSuspected() | MemberDown():
                self._tell_listener(effect)
            case _:
                assert_never(effect)

    def _tell_listener(self, effect: MemberUp | MemberChanged | MemberSuspected | MemberDown) -> None:
        match effect:
            case MemberUp(advert):
                log.info("member up", extra={"member": advert.name, "address": advert.address})
                self._members[advert.name] = advert
                self._count_members()
                self._listener.member_up(advert)
            case MemberChanged(advert):
                self._listener.member_changed(advert)
            case MemberSuspected(name, is_suspect):
                log.info("member suspected", extra={"member": name, "is_suspect": is_suspect})
                self._listener.member_suspected(name, is_suspect=is_suspect)
            case MemberDown(name, _, reason, has_left):
                log.info("member down", extra={"member": name, "reason": reason})
                self._members.pop(name, None)
                self._count_members()
                if has_left:
                    self._listener.member_left(name, reason)
                else:
                    self._listener.member_down(name, reason)

    def _answer_newcomer(self, effect: AdmitNode | RefuseNode) -> None:
        answer: Refused | int
        match effect:
            case AdmitNode(newcomer, outranked_by):
                self._publish(Joined(newcomer))
                answer = outranked_by
            case RefuseNode(newcomer, holder):
                reason = f"name {newcomer.name} is in use by {self._place_of(holder)}; give each node a name of its own"
                answer = Refused(reason, is_name_taken=True)
        for take in self._newcomers.pop(newcomer.incarnation, ()):
            take(answer)

    def _change_own(self, effect: RaiseRank | NameLost) -> None:
        if self._own is None:
            return
        match effect:
            case RaiseRank(rank):
                self._own.raise_rank(rank)
            case NameLost(advert):
                reason = f"its name is in use by {self._place_of(advert)}; give each node a name of its own"
                self._own.lose_name(reason)

    def _place_of(self, holder: Advert | None) -> str:
        holder = holder or self._own_advert()
        return "another node" if holder is None else f"the node at {holder.address}"

    def _report(self, effect: MembershipFull | BusUnreachable | UnreachableFor) -> None:
        match effect:
            case MembershipFull(name):
                log.error("membership full", extra={"member": name})
            case BusUnreachable(advert):
                log.warning(
                    "bus unreachable: the member's adverts come over a link to its service; to spare that link, open the port of its "
                    "bus to this machine, or choose another with --bus-port",
                    extra={"member": advert.name, "bus": advert.bus},
                )
            case UnreachableFor(advert):
                address = "" if self._own is None else self._own.advert().address
                log.warning(
                    "unreachable for a member: it hears of this node over a link from here; see --advertise, and the firewalls "
                    "between the two",
                    extra={"member": advert.name, "address": address},
                )

    def _publish(self, message: OnBus) -> None:
        if self._publisher is not None:
            self._publisher.publish(message)
        if self._own is not None:
            self._own.tell_followers(message)

    def _count_members(self) -> None:
        if self._own is not None:
            self._own.set_member_count(self._machine.size)

    def _listen(self, effect: Subscribe | Unsubscribe) -> None:
        if not effect.bus:
            return
        try:
            if isinstance(effect, Subscribe):
                self._subscriber.subscribe(effect.bus)
            else:
                self._subscriber.unsubscribe(effect.bus)
        except ConnectionFailed as error:
            # The bad address is the member's own. Its other figures still count.
            log.warning("subscription failed", extra={"bus": effect.bus, "reason": str(error)})

    def _introduce(self, address: str) -> None:
        # A member is asked for its view. At a seed where no member is known to be there may be any number of nodes.
        is_member = any(advert.address == address for advert in self._members.values())
        if address in self._seeds and not is_member:
            self._joining.ask(address)
        else:
            self._joining.introduce(address)

    def _is_present(self, incarnation: str) -> bool:
        return any(advert.incarnation == incarnation for advert in self._members.values())

    def _own_advert(self) -> Advert | None:
        return None if self._own is None else self._own.advert()

    def _new_machine(self) -> MembershipMachine:
        return (
            MembershipMachine()
            if self._own is None
            else MembershipMachine(self._own.incarnation, self._own.name, self._own.rank)
        )

    def _crashed(self, error: Exception) -> MembershipMachine:
        log.critical("bug in discovery: all members count as lost, and are looked for again", exc_info=error)
        lost, self._members = self._members, {}
        self._newcomers.clear()
        self._followed.close()
        for advert in lost.values():
            if advert.bus:
                self._subscriber.unsubscribe(advert.bus)
            self._listener.member_down(advert.name, "this process has met a bug of its own: see its log")
        self._restart = asyncio.get_running_loop().call_later(RESTART_S, self._begin_anew, lost)
        self._machine = self._new_machine()
        return self._machine

    def _begin_anew(self, lost: Mapping[str, Advert]) -> None:
        """Ask the seeds, and the members that were lost, who is there."""
        self._driver.feed(SetSeeds(tuple(self._seeds)))
        for address in {**self._seeds, **{advert.address: None for advert in lost.values()}}:
            self._introduce(address)


def _is_valid(said: Advert | Left) -> bool:
    try:
        check_left(said) if isinstance(said, Left) else check_advert(said)
    except RemoteProtocolError as error:
        log.warning("malformed advert", extra={"reason": str(error)})
        return False
    return True
