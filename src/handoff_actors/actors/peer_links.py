"""A node's connections to the nodes from which it fetches values."""

import asyncio
import logging
from collections.abc import Callable

from handoff_actors.actors.fetcher import Fetcher
from handoff_actors.actors.handshake import LinkFailure, open_link, text_of
from handoff_actors.core.cluster.routes import PATIENCE_S, Routes
from handoff_actors.transport.endpoint import CONNECT_TIMEOUT_S, Link, Network
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Beat, Goodbye, Welcome
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

log = logging.getLogger(__name__)

#: Interval of heartbeats, well within the lease that peers grant.
BEAT_S = 2.0
#: Twice this may be in flight between the time at which one chunk is freed and the next one is received.
FREED_NBYTES = 16 << 20


class PeerLinks:
    """One link to each address from which values have been requested.

    With a relay, which the fetcher turns to when a holder is lost, no value waits for the time-out of a connection.
    """

    def __init__(self, network: Network, name: str, fetcher: Fetcher, *, has_relay: bool = False) -> None:
        self._has_relay = has_relay
        self._routes = Routes()
        #: By address that has not answered yet: the end of patience, then that of the try.
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._network = network
        self._name = name
        self._fetcher = fetcher
        self._loop = asyncio.get_running_loop()
        self._links: dict[str, Link] = {}
        #: Addresses whose node has answered over the present link.
        self._answering: set[str] = set()
        #: None while there are no links.
        self._timer: asyncio.TimerHandle | None = None
        _keep_freed_memory()

    def send(self, address: str, message: Fetch) -> None:
        """Request a chunk of a value, and connect first if there is no link."""
        link = self._links.get(address)
        if link is None:
            link = self._open(address)
            if self._has_relay:
                self._set_deadline(address, PATIENCE_S, self._lose_patience)
        link.send(message)

    def can_ask(self, address: str) -> bool:
        """True unless no connection to an address is to be had. Then one is tried in the background now and again."""
        if self._routes.begin_retry(address, self._loop.time()):
            self._open_in_background(address)
        return not self._routes.is_cut_off(address)

    def drop(self, address: str, reason: str) -> None:
        """Close the link to a node that is gone."""
        if address in self._links:
            self._holder_lost(address, reason)

    @property
    def received_bytes(self) -> int:
        """Bytes received over all present links."""
        return sum(link.received_bytes for link in self._links.values())

    def close(self) -> None:
        """Close all links."""
        if self._timer is not None:
            self._timer.cancel()
        for deadline in self._deadlines.values():
            deadline.cancel()
        for link in self._links.values():
            link.send(Goodbye())
            link.close()
        self._links.clear()

    def _beat(self) -> None:
        # Without beats, peers would end the lease between one value and the next.
        for link in self._links.values():
            link.send(Beat())
        self._timer = self._loop.call_later(BEAT_S, self._beat) if self._links else None

    def _open(self, address: str) -> Link:
        holder = _HolderListener(self._fetcher, address, self._answered, self._holder_lost)
        link = self._links[address] = open_link(self._network, address, self._name, holder)
        if self._timer is None:
            self._timer = self._loop.call_later(BEAT_S, self._beat)
        return link

    def _open_in_background(self, address: str) -> None:
        self._open(address)
        self._set_deadline(address, CONNECT_TIMEOUT_S, self._give_up)

    def _lose_patience(self, address: str) -> None:
        if self._links[address].is_in_contact:
            # It is far away or its loop is at work, where no relay would get an answer sooner.
            self._set_deadline(address, CONNECT_TIMEOUT_S, self._give_up)
            return
        # What was asked for comes from elsewhere by now.
        self._links.pop(address).close()
        self._log_cut_off(address, f"no connection within {PATIENCE_S:g} s")
        self._routes.begin_in_background(address)
        self._open_in_background(address)
        self._fetcher.holder_lost(address, f"no connection within {PATIENCE_S:g} s")

    def _give_up(self, address: str) -> None:
        self._holder_lost(address, f"no answer within {CONNECT_TIMEOUT_S:g} s")

    def _answered(self, address: str) -> None:
        self._end_deadline(address)
        self._answering.add(address)
        self._routes.connected(address)

    def _holder_lost(self, address: str, reason: str) -> None:
        self._end_deadline(address)
        link = self._links.pop(address, None)
        if link is not None:
            link.close()
        if address not in self._answering:
            self._log_cut_off(address, reason)
            self._routes.failed(address, self._loop.time())
        self._answering.discard(address)
        self._fetcher.holder_lost(address, reason)

    def _log_cut_off(self, address: str, reason: str) -> None:
        if self._has_relay and not self._routes.is_cut_off(address):
            log.warning(
                "no connection to a node that has values: apps relay them (firewall? --advertise there?)",
                extra={"node": self._name, "address": address, "reason": reason},
            )

    def _set_deadline(self, address: str, within_s: float, then: Callable[[str], None]) -> None:
        self._deadlines[address] = self._loop.call_later(within_s, then, address)

    def _end_deadline(self, address: str) -> None:
        deadline = self._deadlines.pop(address, None)
        if deadline is not None:
            deadline.cancel()


def _keep_freed_memory() -> None:
    """Make malloc keep freed chunks for later ones, whose page faults took a quarter of all CPU time.

    Glibc returns freed memory to the system beyond twice the largest block that it has mapped and unmapped: allocating and
    freeing one raises that limit. Its pages are never touched.
    """
    bytes(FREED_NBYTES)


class _HolderListener:
    """See NodeLinkListener."""

    def __init__(
        self,
        fetcher: Fetcher,
        address: str,
        on_answer: Callable[[str], None],
        on_lost: Callable[[str, str], None],
    ) -> None:
        self._fetcher = fetcher
        self._address = address
        self._on_answer = on_answer
        self._on_lost = on_lost

    def welcomed(self, welcome: Welcome) -> None:  # noqa: ARG002 - the listener's shape
        """See NodeLinkListener. Requests have been sent already."""
        self._on_answer(self._address)

    def received(self, message: FromNode) -> None:
        """See NodeLinkListener."""
        match message:
            case Chunk():
                self._fetcher.chunk_received(self._address, message)
            case Gone():
                self._fetcher.value_gone(self._address, message)
            case _:
                pass

    def failed(self, failure: LinkFailure) -> None:
        """See NodeLinkListener."""
        self._on_lost(self._address, text_of(failure))
