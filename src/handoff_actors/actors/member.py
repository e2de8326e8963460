"""A process as a member of a cluster: its node if it has one, its sockets, and its view of the others."""

import errno
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Final, Protocol

from handoff_actors.actors.discovery import AnnouncedNode, Discovery, MembershipListener
from handoff_actors.actors.join_files.directory import JoinDirectory
from handoff_actors.actors.join_files.meeting import Meeting
from handoff_actors.actors.join_files.threads import in_own_thread
from handoff_actors.addresses import advertised, bus_addresses, check_bind
from handoff_actors.core.cluster.join_files import JoinEntry
from handoff_actors.core.cluster.membership_events import Source
from handoff_actors.errors import HandoffError
from handoff_actors.ids import Index, RunId
from handoff_actors.transport.credentials import Credentials
from handoff_actors.transport.endpoint import Network
from handoff_actors.wire.messages.members import Advert, Refused

log = logging.getLogger(__name__)

NO_CLUSTER_KEY: Final = Credentials()
#: Any free port that only processes of this machine can reach.
LOOPBACK: Final = "tcp://127.0.0.1:0"


class HostedNode(AnnouncedNode, Protocol):
    """A node in this process."""

    @property
    def address(self) -> str:
        """The address at which other processes reach it; "" if they can't."""

    def serve(self, network: Network, address: str) -> str:
        """Serve at an address, and return the actual one. Raises OSError if the address can't be bound."""

    def advertise_as(self, address: str, bus: str) -> None:
        """Publish these addresses in adverts."""

    def fetch_over(self, network: Network) -> None:
        """Fetch values from other nodes over this network."""

    def stored_value(self, run: RunId, index: Index, version: int = 0) -> memoryview | None:
        """The bytes of a value in the node's store; None if it is not there in this version, which is as in `Ref`."""

    async def close(self) -> None:
        """End the node at once, without leaving processes, sockets or files."""


def open_zeromq(credentials: Credentials) -> Network:
    """Open the sockets of this process. Raises InvalidKeyError if the user's own key is needed, and there can't be one."""
    from handoff_actors.transport.zeromq import ZmqNetwork  # noqa: PLC0415 - it costs 30 ms that many never need

    return ZmqNetwork(credentials.key())


class Member:
    """Opens sockets only when they are needed: without peers there are none, and ZeroMQ is not even imported."""

    def __init__(
        self,
        name: str,
        listener: MembershipListener | None = None,
        credentials: Credentials = NO_CLUSTER_KEY,
        open_network: Callable[[Credentials], Network] = open_zeromq,
    ) -> None:
        self._name = name
        self._listener = listener
        self._credentials = credentials
        self._open_network = open_network
        self._network: Network | None = None
        self._discovery: Discovery | None = None
        self._seeds: dict[str, None] = {}
        self._meeting: Meeting | None = None
        self.node: HostedNode | None = None
        #: The node serves at an address only because its own workers need one.
        self._is_for_workers = False

    @property
    def is_open(self) -> bool:
        """True if this process takes part in discovery, for the sake of others than workers of its own node."""
        return self._discovery is not None and not self._is_for_workers

    def network(self) -> Network:
        """The sockets of this process. Raises InvalidKeyError if the user's own key is needed and can't be had."""
        if self._network is None:
            self._network = self._open_network(self._credentials)
        return self._network

    def check_bind(self, listen: str) -> None:
        """Raise InsecureAddressError for an address beyond loopback without a cluster key."""
        # Other machines don't have this user's own key.
        has_key = self._credentials.cluster_key is not None
        check_bind(listen, self._credentials.is_insecure, has_key=has_key)

    def host(
        self,
        node: HostedNode,
        listen: str | None,
        advertise: str | None = None,
        bus_port: int | None = None,
    ) -> None:
        """Host a node in this process. With an address to listen at, the node serves other members, too.

        Others reach it at HOST or HOST:PORT of `advertise`, see `advertised`, and its bus at `bus_port`, see
        `bus_addresses`. Raises HandoffError if there is a node already or the bus port is taken, OSError if the address
        is taken, InvalidAddressError, InvalidKeyError.
        """
        self.check_hosts_no_node()
        if listen is not None:
            self._open(node, listen, advertise, bus_port)
        elif self._discovery is not None:
            node.fetch_over(self.network())
        self.node = node

    def entrance(self) -> tuple[str, str | None, str | None] | None:
        """The address, the key and the other key that is accepted, by which workers of the node reach the cluster; None if they can't.

        A node without an address gets one on the loopback, unless this process is in a cluster that would hear of it.
        Raises OSError, InvalidKeyError.
        """
        node = self.node
        if node is None:
            return None
        if not node.address:
            if self._discovery is not None:
                return None
            self._open(node, LOOPBACK)
            self._is_for_workers = True
        key = self._credentials.key()
        if key is None:
            return node.address, None, None
        other = key.also_accepted
        return node.address, key.text(), None if other is None else other.text()

    async def adopt_key_of(self, directory: JoinDirectory) -> None:
        """Use the key that is kept in a join directory, unless this process was given one, or is to use none.

        Raises JoinDirectoryError, InvalidKeyError.
        """
        if self._credentials.cluster_key is None and not self._credentials.is_insecure:
            self.adopt(Credentials(await in_own_thread(directory.key)))

    def adopt(self, credentials: Credentials) -> None:
        """Use these from now on, unless sockets are open that show others."""
        if self._network is None:
            self._credentials = credentials

    def check_hosts_no_node(self) -> None:
        """Raise HandoffError if there is a node in this process."""
        if self.node is not None:
            raise HandoffError(f"this process has a node already: {self.node.name!r}")

    async def end_node(self) -> None:
        """End the node of this process at once, if it has one. The other members stay known."""
        node = self.node
        if node is None:
            return
        if node.address:
            # The discovery announces the node: one that announces none takes its place, where there is a cluster.
            is_alone = not (self._seeds or self._meeting or self.members())
            self._replace_discovery(
                None if is_alone else Discovery(self.network(), self._name, self._listener)
            )
            self._is_for_workers = False
        if self._meeting is not None:
            await self._meeting.withdraw()
        await node.close()
        self.node = None

    async def join(self, seeds: Sequence[str], wait_s: float = 0.0) -> None:
        """Find a cluster by the address of any of its members, and wait `wait_s` seconds for one that answers.

        Raises InvalidKeyError, ConnectionFailed, AuthenticationError, VersionMismatch.
        """
        discovery = self._open_to_others()
        self._seeds |= dict.fromkeys(seeds)
        await discovery.join(seeds, wait_s)

    async def meet(self, directory: JoinDirectory, wait_s: float = 0.0) -> None:
        """Find the cluster by the files that its members keep in a directory; the node of this process, if any, keeps one, too.

        A node may be alone. A process without one waits `wait_s` seconds for a member that answers.
        Raises JoinDirectoryError, InvalidKeyError, ConnectionFailed, AuthenticationError, VersionMismatch.
        """
        self._open_to_others()
        if self._meeting is not None:
            await self._meeting.close()
        self._meeting = Meeting(directory, self)
        await self._meeting.begin(wait_s, may_be_alone=self.node is not None)

    async def withdraw(self) -> None:
        """Remove the file by which others would find the node of this process, if it keeps one: it leaves."""
        if self._meeting is not None:
            await self._meeting.withdraw()

    def _open_to_others(self) -> Discovery:
        if self._is_for_workers and self.node is not None:
            # Its address is good for this machine only, so the cluster must not hear of the node.
            self.node.advertise_as("", "")
            self._replace_discovery(None, is_leaving=False)
            self._is_for_workers = False
        if self._discovery is None:
            self._discovery = Discovery(self.network(), self._name, self._listener)
            if self.node is not None:
                self.node.fetch_over(self.network())
        return self._discovery

    # --- See Participant ----------------------------------------------------------------------------------------

    def join_entry(self) -> JoinEntry | None:
        """See Participant."""
        if self.node is None or not self.node.address or self._is_for_workers:
            return None
        [cluster, *_] = self.clusters()
        return JoinEntry(self.node.name, self.node.address, self.node.incarnation, cluster)

    def clusters(self) -> Collection[str]:
        """See Participant."""
        key = self._credentials.key()
        accepted = [] if key is None else [key, *([key.also_accepted] if key.also_accepted else [])]
        return [one.derive("join file")[:8].hex() for one in accepted] or ["insecure"]

    def known_members(self) -> Collection[str]:
        """See Participant."""
        return [advert.incarnation for advert in self.members()]

    async def ask_for_cluster(self, addresses: Sequence[str]) -> None:
        """See Participant."""
        if self._discovery is not None:
            await self._discovery.ask(addresses)

    def introduce_to(self, address: str) -> None:
        """See Participant."""
        if self._discovery is not None:
            self._discovery.introduce_to(address)

    # --- The cluster --------------------------------------------------------------------------------------------

    def members(self) -> list[Advert]:
        """The latest advert of every other member, by name."""
        return [] if self._discovery is None else self._discovery.members()

    def suspects(self) -> list[str]:
        """Names of members that have been silent for a while."""
        return [] if self._discovery is None else self._discovery.suspects()

    def view(self) -> int:
        """Checksum of all members."""
        return 0 if self._discovery is None else self._discovery.view()

    def lately_left(self) -> list[str]:
        """The incarnations of nodes that have left lately."""
        return [] if self._discovery is None else self._discovery.lately_left()

    def unreachable(self) -> list[str]:
        """Names of members that can be heard neither on their bus nor over a link that is opened from here."""
        return [] if self._discovery is None else self._discovery.unreachable()

    def announce(self, advert: Advert) -> None:
        """Publish the new advert of the node in this process."""
        if self._discovery is not None:
            self._discovery.announce(advert)
        if self._listener is not None:
            self._listener.member_changed(advert)

    def node_introduced(
        self, advert: Advert, answer: Callable[[Refused | int], None], *, is_joining: bool
    ) -> None:
        """Take a node that has introduced itself to the one in this process, and tell all others.

        `answer` is told why it is refused, or the rank that it is to exceed.
        """
        if self._discovery is None:
            answer(0)
        else:
            self._discovery.node_introduced(advert, answer, is_joining=is_joining)

    def members_reported(self, adverts: Sequence[Advert]) -> None:
        """Take note of members that a node has reported."""
        if self._discovery is not None:
            self._discovery.members_reported(adverts)

    def advert_received(self, advert: Advert, source: Source) -> None:
        """Take what a node says of itself, over a link or as an answer."""
        if self._discovery is not None:
            self._discovery.advert_received(advert, source)

    def member_left(self, name: str, incarnation: str) -> None:
        """Take note that a node has announced its end."""
        if self._discovery is not None:
            self._discovery.member_left(name, incarnation)

    def member_unreachable(self, name: str, incarnation: str, reason: str) -> None:
        """Take note that a member's connection has broken and can't be made again."""
        if self._discovery is not None:
            self._discovery.member_unreachable(name, incarnation, reason)

    async def close(self) -> None:
        """End at once, without leaving processes, sockets or files."""
        if self._meeting is not None:
            await self._meeting.close()
        if self._discovery is not None:
            self._discovery.close()
        if self.node is not None:
            await self.node.close()
        if self._network is not None:
            await self._network.close()

    def _open(
        self, node: HostedNode, listen: str, advertise: str | None = None, bus_port: int | None = None
    ) -> None:
        network = self.network()
        discovery = Discovery(network, node.name, self._listener, node)
        with ExitStack() as on_failure:
            on_failure.callback(discovery.close)
            service = node.serve(network, listen)
            bus = _publish(discovery, bus_addresses(listen, service, bus_port))
            node.advertise_as(*advertised(service, bus, advertise))
            on_failure.pop_all()
        node.fetch_over(network)
        self._replace_discovery(discovery)

    def _replace_discovery(self, discovery: Discovery | None, *, is_leaving: bool = True) -> None:
        """Replace the discovery by one that knows the same seeds and members, or by none.

        Others are told that the node which it announced, if it did, leaves, unless it is only announced no more.
        """
        earlier, self._discovery = self._discovery, discovery
        if earlier is None:
            return
        if discovery is not None:
            discovery.seek(list(self._seeds))
            discovery.members_reported(earlier.members(), earlier.suspects())
        earlier.close(is_leaving=is_leaving)


def _publish(discovery: Discovery, addresses: Sequence[str]) -> str:
    """Open the bus at the first of these addresses that is free. Returns the actual address."""
    *preferred, last = addresses
    for address in preferred:
        try:
            return discovery.publish_at(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            log.warning(
                "the port for the bus is in use by another process, so any free one is taken; "
                "choose one that firewalls let through with --bus-port",
                extra={"bus": address},
            )
    try:
        return discovery.publish_at(last)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise HandoffError(
            f"the bus can't listen at {last}, which is in use by another process; choose another port with --bus-port, "
            "or port 0 for any that is free"
        ) from error
