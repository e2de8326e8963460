"""Fetches stored values into the app, and serves those that the app itself holds."""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.actors.fetcher import Fetcher, FetchFailure
from handoff_actors.actors.peer_links import PeerLinks
from handoff_actors.core.cluster.transfers import CHUNK_NBYTES
from handoff_actors.ids import Index, RunId
from handoff_actors.store.files import Landing, MemoryLanding
from handoff_actors.transport.endpoint import Network
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.members import Advert
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

if TYPE_CHECKING:
    from handoff_actors.actors.app.relay import ValueRelay


class StoreOwner(Protocol):
    """The node of the same process, whose values need not be sent."""

    @property
    def name(self) -> str:
        """Name of the node."""

    def stored_value(self, run: RunId, index: Index, version: int = 0) -> memoryview | None:
        """The bytes of a value in its store, mapped; None if it has none of this version, which is as in `Ref`."""


class ValueHost(Protocol):
    """The app's means of reaching nodes."""

    @property
    def node(self) -> StoreOwner | None:
        """The node of this process, if it has one."""

    def network(self) -> Network:
        """The sockets of this process. Raises InvalidKeyError."""

    def adverts(self) -> list[Advert]:
        """The latest advert of every node that can be used."""

    def send(self, name: str, message: ToNode) -> None:
        """Send a message to a node; it is dropped where there is no link."""


class AppValues:
    """Transfers of values between one app and the nodes."""

    def __init__(self, name: str, host: ValueHost) -> None:
        self._name = name
        self._host = host
        self._fetcher = Fetcher(self._ask)
        self._links: PeerLinks | None = None
        #: None until a node asks for a value of another one.
        self._relay: ValueRelay | None = None
        #: Values that nodes are to keep and have not fetched yet, by their run numbers.
        self.offered: dict[RunId, Buffer] = {}
        #: Of nodes that have been asked for values.
        self._address_of: dict[str, str] = {}

    def fetch(
        self,
        run: RunId,
        index: Index,
        nbytes: int,
        holders: list[str],
        done: Callable[[Buffer | FetchFailure], None],
        version: int = 0,
    ) -> Callable[[], None]:
        """See RunHost. A value of this process's own node is mapped, which calls `done` at once."""
        node = self._host.node
        if node is not None and node.name in holders:
            view = node.stored_value(run, index, version)
            if view is not None:
                done(view)
                return lambda: None
        addresses = self._addresses()

        def land(_: int, total: int) -> Landing:
            try:
                return MemoryLanding(total)
            except MemoryError as error:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error

        def landed(landing: Landing | FetchFailure) -> None:
            assert isinstance(landing, MemoryLanding | FetchFailure)
            done(landing.buffer.toreadonly() if isinstance(landing, MemoryLanding) else landing)

        reachable = [addresses[holder] for holder in holders if holder in addresses]
        request = self._fetcher.fetch(run, index, nbytes, reachable, land, landed, version)
        return lambda: self._fetcher.cancel(request)

    def serve(self, name: str, wanted: Fetch, run: RunnerActor | None) -> None:
        """Send a node a piece of a value: one of the run's, one of this app's own node, or one of a node that it can't reach."""
        buffer = self.offered.get(wanted.run) if run is None else run.values.get(wanted.index)
        node = self._host.node
        if buffer is None and node is not None:
            buffer = node.stored_value(wanted.run, wanted.index, wanted.version)
        if buffer is None:
            if run is None or not (wanted.index < run.plan.size or run.view.holders(wanted.index)):
                self._host.send(name, Gone(wanted.request))
            else:
                self._make_relay().wanted(name, wanted, run)
            return
        piece = memoryview(buffer)[wanted.offset : wanted.offset + min(wanted.length, CHUNK_NBYTES)]
        self._host.send(name, Chunk(wanted.request, wanted.offset, len(buffer), piece))

    def node_gone(self, name: str, reason: str) -> None:
        """Expect nothing more from a node that is gone, and bring it nothing."""
        address = self._address_of.pop(name, None)
        if address is not None and self._links is not None:
            self._links.drop(address, reason)
        if self._relay is not None:
            self._relay.node_gone(name)

    def run_ended(self, run: RunId) -> None:
        """Keep nothing for the functions of a run that has ended."""
        if self._relay is not None:
            self._relay.run_ended(run)

    def forget(self, run: RunId) -> None:
        """Drop what is being relayed for a run of which nothing is left."""
        if self._relay is not None:
            self._relay.forget(run)

    def received_bytes(self) -> int:
        """The bytes that have come over the links on which values are fetched."""
        return 0 if self._links is None else self._links.received_bytes

    def close(self) -> None:
        """Give up on all fetches, and close their links."""
        if self._relay is not None:
            self._relay.close()
        self._fetcher.close()
        if self._links is not None:
            self._links.close()

    def _make_relay(self) -> "ValueRelay":
        if self._relay is None:
            from handoff_actors.actors.app.relay import ValueRelay  # noqa: PLC0415 - few apps need it

            self._relay = ValueRelay(self._fetcher, self._addresses, self._host.send)
        return self._relay

    def _addresses(self) -> dict[str, str]:
        found = {advert.name: advert.address for advert in self._host.adverts()}
        self._address_of |= found
        return found

    def _ask(self, address: str, message: Fetch) -> None:
        if self._links is None:
            self._links = PeerLinks(self._host.network(), self._name, self._fetcher)
        self._links.send(address, message)
