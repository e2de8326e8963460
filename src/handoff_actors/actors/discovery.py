"""Discovery: connects the discovery bus and the seeds to a membership machine."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol, assert_never

from handoff_actors.actors.driver import Driver
from handoff_actors.actors.joining import Joining
from handoff_actors.core.cluster.membership import (
    AdvertReceived,
    Introduce,
    MemberChanged,
    MemberDown,
    MembershipEffect,
    MembershipEvent,
    MembershipFull,
    MembershipMachine,
    MembersReported,
    MemberSuspected,
    MemberUnreachable,
    MemberUp,
    SetSeeds,
    Subscribe,
    Unsubscribe,
)
from handoff_actors.core.node.validation import check_advert
from handoff_actors.errors import ConnectionFailed, RemoteProtocolError
from handoff_actors.transport.endpoint import Network, Publisher
from handoff_actors.wire.messages.directions import OnBus
from handoff_actors.wire.messages.members import Advert, Joined, Left, Published

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


class AnnouncedNode(Protocol):
    """The node in this process."""

    @property
    def name(self) -> str:
        """Name of the node, unique in the cluster."""

    @property
    def incarnation(self) -> str:
        """Id of this life of the node; a later life has a greater one."""

    def advert(self) -> Advert:
        """Make an advert with the node's present figures."""

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
        self._listener = listener
        self._machine = self._new_machine()
        self._driver: Driver[MembershipEvent, MembershipEffect] = Driver(
            self._machine, self._perform, self._crashed
        )
        self._publisher: Publisher | None = None
        self._subscriber = network.subscriber(self._received)
        self._joining = Joining(network, name, self._own_advert, self._is_present, self.members_reported)
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

        Raises ConnectionFailed if no node but this one answers, AuthenticationError or VersionMismatch if no node answers
        and one refuses.
        """
        self.seek(seeds)
        await self._joining.join(seeds, wait_s)

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

    def announce(self, advert: Advert) -> None:
        """Publish an advert of the node in this process."""
        if self._publisher is not None:
            self._publisher.publish(Published(advert))

    def members_reported(self, adverts: Sequence[Advert], suspects: Sequence[str] = ()) -> None:
        """Take a node's report of the members that it knows, and of those that it suspects."""
        self._driver.feed(MembersReported(tuple(filter(_is_valid, adverts)), tuple(suspects)))

    def node_introduced(self, advert: Advert) -> None:
        """Take note of a node that has introduced itself to the one in this process, and tell all others."""
        self._driver.feed(MembersReported((advert,)))
        if self._publisher is not None:
            self._publisher.publish(Joined(advert))

    def member_unreachable(self, name: str, incarnation: str, reason: str) -> None:
        """Take note that a member's connection has broken and can't be made again."""
        self._driver.feed(MemberUnreachable(name, incarnation, reason))

    def close(self) -> None:
        """Stop listening and publishing."""
        self._driver.close()
        if self._restart is not None:
            self._restart.cancel()
        self._joining.close()
        self._subscriber.close()
        if self._publisher is not None:
            self._publisher.close()

    # --- Events and effects -------------------------------------------------------------------------------------

    def _received(self, messages: list[OnBus]) -> None:
        for message in messages:
            match message:
                case Published(advert) if _is_valid(advert):
                    self._driver.feed(AdvertReceived(advert))
                case Joined(advert) if _is_valid(advert):
                    self._driver.feed(MembersReported((advert,)))
                case Published() | Joined() | Left():
                    pass
                case _:
                    assert_never(message)

    def _perform(self, effect: MembershipEffect) -> None:  # noqa: C901, PLR0912 - one table
        match effect:
            case Subscribe(bus):
                if bus:
                    self._subscribe(bus)
            case Unsubscribe(bus):
                if bus:
                    self._subscriber.unsubscribe(bus)
            case Introduce(address):
                self._introduce(address)
            case MembershipFull(name):
                log.error("membership full", extra={"member": name})
            case MemberUp(advert):
                log.info("member up", extra={"member": advert.name, "address": advert.address})
                self._count_members()
                if self._own is not None and advert.name == self._name:
                    log.error(
                        "another node has this node's name, and counts instead of it; give each a name of its own",
                        extra={"node": self._name, "address": advert.address},
                    )
                else:
                    self._members[advert.name] = advert
                    if self._listener is not None:
                        self._listener.member_up(advert)
            case MemberChanged(advert):
                if self._listener is not None:
                    self._listener.member_changed(advert)
            case MemberSuspected(name, is_suspect):
                log.info("member suspected", extra={"member": name, "is_suspect": is_suspect})
                if self._listener is not None:
                    self._listener.member_suspected(name, is_suspect=is_suspect)
            case MemberDown(name, _, reason):
                self._members.pop(name, None)
                log.info("member down", extra={"member": name, "reason": reason})
                self._count_members()
                if self._listener is not None:
                    self._listener.member_down(name, reason)
            case _:
                assert_never(effect)

    def _count_members(self) -> None:
        if self._own is not None:
            self._own.set_member_count(self._machine.size)

    def _subscribe(self, bus: str) -> None:
        try:
            self._subscriber.subscribe(bus)
        except ConnectionFailed as error:
            # The bad address is the member's own. Its other figures still count.
            log.warning("subscription failed", extra={"bus": bus, "reason": str(error)})

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
            else MembershipMachine(self._own.incarnation, self._own.name)
        )

    def _crashed(self, error: Exception) -> MembershipMachine:
        log.critical("bug in discovery: all members count as lost, and are looked for again", exc_info=error)
        lost, self._members = self._members, {}
        for advert in lost.values():
            if advert.bus:
                self._subscriber.unsubscribe(advert.bus)
            if self._listener is not None:
                self._listener.member_down(advert.name, "this process has met a bug of its own: see its log")
        self._restart = asyncio.get_running_loop().call_later(RESTART_S, self._begin_anew, lost)
        self._machine = self._new_machine()
        return self._machine

    def _begin_anew(self, lost: Mapping[str, Advert]) -> None:
        """Ask the seeds, and the members that were lost, who is there."""
        self._driver.feed(SetSeeds(tuple(self._seeds)))
        for address in {**self._seeds, **{advert.address: None for advert in lost.values()}}:
            self._introduce(address)


def _is_valid(advert: Advert) -> bool:
    try:
        check_advert(advert)
    except RemoteProtocolError as error:
        log.warning("malformed advert", extra={"reason": str(error)})
        return False
    return True
