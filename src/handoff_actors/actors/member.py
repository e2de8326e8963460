"""A process's place in a cluster: its node if it has one, its sockets, and its view of the others."""

import asyncio
import os
import secrets
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from handoff_actors.actors.discovery import Discovery, MembershipListener
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.limits import MemoryOptions
from handoff_actors.core.node.validation import MAX_NAME_BYTES, NAME_RULE, is_name
from handoff_actors.errors import HandoffError
from handoff_actors.ids import Resources
from handoff_actors.transport.credentials import Credentials
from handoff_actors.transport.security import advertised, check_bind, is_loopback
from handoff_actors.wire.messages.members import Advert

if TYPE_CHECKING:
    from handoff_actors.transport.zeromq import ZmqNetwork

LOOPBACK = "tcp://127.0.0.1:0"
NO_CLUSTER_KEY: Final = Credentials()


class Member:
    """Opens what it needs when it needs it: without peers there is no socket, and ZeroMQ is not even imported."""

    def __init__(
        self, name: str, listener: MembershipListener | None = None, credentials: Credentials = NO_CLUSTER_KEY
    ) -> None:
        self._name = name
        self._listener = listener
        self._credentials = credentials
        self._network: ZmqNetwork | None = None
        self._discovery: Discovery | None = None
        self.node: NodeActor | None = None

    @property
    def is_open(self) -> bool:
        """Whether others can find it, or it them."""
        return self._discovery is not None

    def network(self) -> "ZmqNetwork":
        """The sockets of this process. Raises InvalidKeyError where the user's own key is needed, and there can't be one."""
        if self._network is None:
            from handoff_actors.transport.zeromq import ZmqNetwork  # noqa: PLC0415 - it costs 30 ms that many never need

            self._network = ZmqNetwork(self._credentials.key())
        return self._network

    async def start_node(
        self,
        capabilities: Resources,
        *,
        name: str | None = None,
        workers: int | None = None,
        listen: str | None = None,
        advertise: str | None = None,
        seeds: Sequence[str] = (),
        options: MemoryOptions | None = None,
    ) -> NodeActor:
        """Have a node in this process. It serves others if it is given an address to listen at, or seeds to join.

        Raises ValueError for a name that is none, InsecureAddressError for an address beyond loopback without a cluster
        key, InvalidKeyError, ConnectionFailed, AuthenticationError, VersionMismatch, OSError.
        """
        if self.node is not None:
            raise HandoffError(f"this process has a node already: {self.node.name!r}")
        listen = listen or _where_to_listen(seeds)
        if listen is not None:
            # Other machines don't have this user's own key.
            has_key = self._credentials.cluster_key is not None
            check_bind(listen, self._credentials.is_insecure, has_key=has_key)
        if name and not is_name(name):
            raise ValueError(f"name={name[:MAX_NAME_BYTES]!r}: {NAME_RULE}")
        own_name = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        usual = workers if workers is not None else max(1, round(capabilities.get("cpu", 1)))
        options = options or MemoryOptions.from_environment()
        node = NodeActor(own_name, capabilities, usual, most_workers=workers, options=options)
        async with AsyncExitStack() as on_failure:
            # The node has a store from the first, which must not stay if its address is taken.
            on_failure.push_async_callback(node.close)
            await node.start()
            if listen is not None:
                self._open(node, listen, advertise)
            on_failure.pop_all()
        self.node = node
        if seeds:
            await self.join(seeds)
        return node

    async def join(self, seeds: Sequence[str]) -> None:
        """Find a cluster by the address of any of its members.

        Raises InvalidKeyError, ConnectionFailed, AuthenticationError, VersionMismatch.
        """
        if self._discovery is None:
            self._discovery = Discovery(self.network(), self._name, self._listener)
            if self.node is not None:
                self.node.fetch_over(self.network())
        await self._discovery.join(seeds)

    def members(self) -> list[Advert]:
        """What every other member says of itself, by name."""
        return [] if self._discovery is None else self._discovery.members()

    def suspects(self) -> list[str]:
        """Names of members that have been silent for a while."""
        return [] if self._discovery is None else self._discovery.suspects()

    def told_of(self, adverts: Sequence[Advert]) -> None:
        """Somebody has said that these are members."""
        if self._discovery is not None:
            self._discovery.told_of(adverts)

    def unreachable(self, name: str, incarnation: str, reason: str) -> None:
        """A member's connection has broken and can't be made again."""
        if self._discovery is not None:
            self._discovery.unreachable(name, incarnation, reason)

    async def close(self) -> None:
        """End at once. No process, socket or file is left."""
        if self._discovery is not None:
            self._discovery.close()
        if self.node is not None:
            await self.node.close()
        if self._network is not None:
            # ZeroMQ waits a moment for what is still to leave.
            await asyncio.to_thread(self._network.close)

    def _open(self, node: NodeActor, listen: str, advertise: str | None) -> None:
        network = self.network()
        discovery = Discovery(network, node.name, self._listener, node.advert, node.incarnation)
        self._discovery = discovery
        node.address = advertised(node.serve(network, listen), advertise)
        bus_at = listen.rpartition(":")[0] + ":0"
        node.bus = advertised(discovery.publish_at(bus_at), advertise)
        node.on_advert = discovery.announce
        discovery.on_members = node.count_members
        node.on_introduced = discovery.introduced
        node.other_members = discovery.members
        node.suspects = discovery.suspects
        node.view = discovery.view
        node.fetch_over(network)


def _where_to_listen(seeds: Sequence[str]) -> str | None:
    if not seeds:
        return None
    if all(is_loopback(seed) for seed in seeds):
        return LOOPBACK
    raise HandoffError(
        f"a node that joins {', '.join(seeds)} must be reachable from there; "
        "give the address at which it is to listen, for example listen='tcp://10.0.0.2:7070'"
    )
