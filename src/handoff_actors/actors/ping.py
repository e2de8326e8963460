"""Asks one node for a sign of life, which its event loop gives."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct

from handoff_actors.actors.driver import clock
from handoff_actors.actors.handshake import LinkFailure, open_link
from handoff_actors.errors import ConnectionFailed
from handoff_actors.transport.endpoint import Network
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Advert, Goodbye, Welcome

#: As which commands introduce themselves.
NAME = "handoff ping"


class Pong(Struct, frozen=True):
    """The answer of a node."""

    #: The node's own advert.
    advert: Advert
    address: str
    #: Seconds from the first packet to the answer.
    took_s: float

    @property
    def not_ready(self) -> str:
        """Why runs should not use the node now; "" where they may."""
        return "it is leaving" if self.advert.leaving else self.advert.out_of_use


async def ping(network: Network, addresses: Sequence[str], within_s: float) -> Pong:
    """Return the first answer of these nodes.

    Raises ConnectionFailed if none comes in time, AuthenticationError or VersionMismatch if one refuses and none answers.
    """
    pings = [_Ping(address) for address in addresses]
    began_at = clock()
    links = [open_link(network, one.address, NAME, one, within_s) for one in pings]
    waiting = {one.answered for one in pings}
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while waiting:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for answer in done:
                        if isinstance(found := answer.result(), Welcome):
                            address = next(one.address for one in pings if one.answered is answer)
                            return Pong(found.members[0], address, clock() - began_at)
    finally:
        for link in links:
            # Otherwise the node would keep our place until the lease ends.
            link.send(Goodbye())
            link.close()
    failures = [one.failure(within_s) for one in pings]
    # A refusal says more than silence.
    raise min(failures, key=lambda failure: isinstance(failure, ConnectionFailed))


class _Ping:
    """One node that is asked. See NodeLinkListener."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answered: asyncio.Future[Welcome | LinkFailure] = asyncio.get_running_loop().create_future()

    def failure(self, within_s: float) -> LinkFailure:
        """Return the reason for which there was no answer in time."""
        found = self.answered.result() if self.answered.done() else None
        return found if isinstance(found, LinkFailure) else _silence(self.address, within_s)

    def welcomed(self, welcome: Welcome) -> None:
        """See NodeLinkListener."""
        self._answer(welcome)

    def received(self, message: FromNode) -> None:
        """See NodeLinkListener. A node sends no other message unasked."""

    def failed(self, failure: LinkFailure) -> None:
        """See NodeLinkListener."""
        self._answer(failure)

    def _answer(self, answer: Welcome | LinkFailure) -> None:
        if not self.answered.done():
            self.answered.set_result(answer)


def _silence(address: str, within_s: float) -> ConnectionFailed:
    return ConnectionFailed(address, f"the node has not answered within {within_s:g} s")
