"""Brings stored values into the app, and hands out those that the app itself holds."""

import errno
import os
from collections.abc import Callable, Mapping

from handoff_actors.actors.app.runner import Buffer
from handoff_actors.actors.connections import Connections
from handoff_actors.actors.fetcher import Fetcher
from handoff_actors.actors.member import Member
from handoff_actors.actors.peer_links import PeerLinks
from handoff_actors.core.cluster.transfers import CHUNK_NBYTES
from handoff_actors.ids import Index, RunId
from handoff_actors.store.files import Landing, MemoryLanding
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone


class AppValues:
    """All values that come to one app, and go from it."""

    def __init__(self, name: str, member: Member, connections: Connections) -> None:
        self._name = name
        self._member = member
        self._connections = connections
        self._fetcher = Fetcher(self._ask)
        self._links: PeerLinks | None = None

    def bring(
        self,
        run: RunId,
        index: Index,
        nbytes: int,
        holders: list[str],
        done: Callable[[Buffer | None, str], None],
    ) -> Callable[[], None]:
        """Fetch a value from nodes, by their names; the answer gives up on it. From this process's node it is mapped."""
        node = self._member.node
        if node is not None and node.name in holders:
            view = node.stored_value(run, index)
            if view is not None:
                done(view, "")
                return lambda: None
        addresses = {advert.name: advert.address for advert in self._connections.adverts()}

        def land(_: int, total: int) -> Landing:
            try:
                return MemoryLanding(total)
            except MemoryError as error:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error

        def landed(landing: Landing | None, reason: str, _has_no_room: bool) -> None:
            assert landing is None or isinstance(landing, MemoryLanding)
            done(None if landing is None else landing.buffer.toreadonly(), reason)

        reachable = [addresses[holder] for holder in holders if holder in addresses]
        request = self._fetcher.fetch(run, index, nbytes, reachable, land, landed)
        return lambda: self._fetcher.cancel(request)

    def serve(self, name: str, wanted: Fetch, held: Mapping[Index, Buffer]) -> None:
        """Give a node a piece of what this app holds: a large constant, or a value of its own node."""
        buffer = held.get(wanted.index)
        if buffer is None and self._member.node is not None:
            buffer = self._member.node.stored_value(wanted.run, wanted.index)
        if buffer is None:
            self._connections.send(name, Gone(wanted.request))
            return
        piece = memoryview(buffer)[wanted.offset : wanted.offset + min(wanted.length, CHUNK_NBYTES)]
        self._connections.send(name, Chunk(wanted.request, wanted.offset, len(buffer), piece))

    def received_bytes(self) -> int:
        """Bytes that have come into this app over sockets, in values and otherwise."""
        values = 0 if self._links is None else self._links.received_bytes
        return values + self._connections.received_bytes()

    def close(self) -> None:
        """Let go of everything."""
        self._fetcher.close()
        if self._links is not None:
            self._links.close()

    def _ask(self, address: str, message: Fetch) -> None:
        if self._links is None:
            self._links = PeerLinks(self._member.network(), self._name, self._fetcher)
        self._links.send(address, message)
