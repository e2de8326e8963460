"""A node's connections to the nodes from which it fetches values."""

import asyncio
from collections.abc import Callable

from handoff_actors.actors.fetcher import Fetcher
from handoff_actors.actors.handshake import LinkFailure, open_link, text_of
from handoff_actors.transport.endpoint import Link, Network
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Beat, Goodbye, Welcome
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

#: Interval of heartbeats, well within the lease that peers grant.
BEAT_S = 2.0
#: Twice this may be in flight between the time at which one chunk is freed and the next one is received.
FREED_NBYTES = 16 << 20


class PeerLinks:
    """One link to each address from which values have been requested; values travel over no other link."""

    def __init__(self, network: Network, name: str, fetcher: Fetcher) -> None:
        self._network = network
        self._name = name
        self._fetcher = fetcher
        self._links: dict[str, Link] = {}
        #: None while there are no links.
        self._timer: asyncio.TimerHandle | None = None
        _keep_freed_memory()

    def send(self, address: str, message: Fetch) -> None:
        """Request a chunk of a value, and connect first if there is no link."""
        link = self._links.get(address)
        if link is None:
            holder = _HolderListener(self._fetcher, address, self._holder_lost)
            link = self._links[address] = open_link(self._network, address, self._name, holder)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        link.send(message)

    @property
    def received_bytes(self) -> int:
        """Bytes received over all present links."""
        return sum(link.received_bytes for link in self._links.values())

    def close(self) -> None:
        """Close all links."""
        if self._timer is not None:
            self._timer.cancel()
        for link in self._links.values():
            link.send(Goodbye())
            link.close()
        self._links.clear()

    def _beat(self) -> None:
        # Without beats, peers would end the lease between one value and the next.
        for link in self._links.values():
            link.send(Beat())
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(BEAT_S, self._beat) if self._links else None

    def _holder_lost(self, address: str, reason: str) -> None:
        link = self._links.pop(address, None)
        if link is not None:
            link.close()
        self._fetcher.holder_lost(address, reason)


def _keep_freed_memory() -> None:
    """Make malloc keep freed chunks for later ones, whose page faults took a quarter of all CPU time.

    Glibc returns freed memory to the system beyond twice the largest block that it has mapped and unmapped: allocating and
    freeing one raises that limit. Its pages are never touched.
    """
    bytes(FREED_NBYTES)


class _HolderListener:
    """See NodeLinkListener."""

    def __init__(self, fetcher: Fetcher, address: str, on_lost: Callable[[str, str], None]) -> None:
        self._fetcher = fetcher
        self._address = address
        self._on_lost = on_lost

    def welcomed(self, welcome: Welcome) -> None:
        """See NodeLinkListener. Requests have been sent already."""

    def received(self, message: FromNode) -> None:
        """See NodeLinkListener."""
        match message:
            case Chunk():
                self._fetcher.chunk_received(self._address, message)
            case Gone(request):
                self._fetcher.value_gone(self._address, request)
            case _:
                pass

    def failed(self, failure: LinkFailure) -> None:
        """See NodeLinkListener."""
        self._on_lost(self._address, text_of(failure))
