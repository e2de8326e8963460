"""Probes: short connections that find out whether the holder of a name lives."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from handoff_actors.actors.handshake import LinkFailure, open_link
from handoff_actors.transport.endpoint import Link, Network
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Advert, Goodbye, Welcome

#: A node that does not answer within this time does not live.
ANSWERS_WITHIN_S: Final = 2.0


class Probes:
    """The probes under way, by the incarnation of the node that is asked for."""

    def __init__(
        self,
        network: Network,
        name: str,
        own_advert: Callable[[], Advert | None],
        on_end: Callable[[str, Advert | None], None],
    ) -> None:
        """Introduce this process by `name`. `on_end` takes the incarnation asked for, and the advert of who has answered."""
        self._network = network
        self._name = name
        self._own_advert = own_advert
        self._on_end = on_end
        self._links: dict[str, Link] = {}
        self._deadlines: dict[str, asyncio.Handle] = {}

    def begin(self, incarnation: str, address: str) -> None:
        """Ask at this address, unless that goes on already."""
        if incarnation in self._links:
            return
        end = partial(self._end, incarnation)
        link = open_link(
            self._network,
            address,
            self._name,
            _ProbeListener(end),
            ANSWERS_WITHIN_S,
            self._own_advert(),
            is_refusal_final=True,
        )
        self._links[incarnation] = link
        self._deadlines[incarnation] = asyncio.get_running_loop().call_later(ANSWERS_WITHIN_S, end, None)

    def close(self) -> None:
        """End all of them, without an outcome."""
        for deadline in self._deadlines.values():
            deadline.cancel()
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _end(self, incarnation: str, answer: Advert | None) -> None:
        link = self._links.pop(incarnation, None)
        if link is not None:
            self._deadlines.pop(incarnation).cancel()
            link.send(Goodbye())
            link.close()
            self._on_end(incarnation, answer)


class _ProbeListener:
    """See NodeLinkListener."""

    def __init__(self, on_end: Callable[[Advert | None], None]) -> None:
        self._on_end = on_end

    def welcomed(self, welcome: Welcome) -> None:
        """See NodeLinkListener."""
        self._on_end(welcome.members[0] if welcome.members else None)

    def received(self, message: FromNode) -> None:
        """See NodeLinkListener. A node sends no other message unasked."""

    def failed(self, failure: LinkFailure) -> None:  # noqa: ARG002 - NodeLinkListener's signature
        """See NodeLinkListener."""
        self._on_end(None)
