"""The links to members whose buses bring nothing: their adverts come over these, and those of the own node go back."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from handoff_actors.actors.handshake import LinkFailure, open_link, text_of
from handoff_actors.transport.endpoint import Link, Network
from handoff_actors.wire.messages.directions import FromNode, OnBus
from handoff_actors.wire.messages.members import (
    Advert,
    Beat,
    Follow,
    Goodbye,
    Joined,
    Left,
    Published,
    Welcome,
)

#: A member that is not connected to by then can't be followed now.
CONNECT_S: Final = 2.0
#: Interval of heartbeats, well within the lease that nodes grant.
BEAT_S: Final = 2.0


class FollowedLinks:
    """One link to each followed member, by its incarnation."""

    def __init__(
        self,
        network: Network,
        name: str,
        own_advert: Callable[[], Advert | None],
        on_begun: Callable[[str, Welcome], None],
        on_message: Callable[[OnBus], None],
        on_ended: Callable[[str, str], None],
    ) -> None:
        """Introduce this process by `name`, and the node in it by its advert.

        The callbacks take the incarnation of the followed member, and its answer or the reason of the end.
        """
        self._network = network
        self._name = name
        self._own_advert = own_advert
        self._on_begun = on_begun
        self._on_message = on_message
        self._on_ended = on_ended
        self._links: dict[str, Link] = {}
        #: None while there are no links.
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, incarnation: str, address: str) -> None:
        """Open a link to the member at an address, and ask for its adverts."""
        listener = _FollowedListener(
            partial(self._begun, incarnation), self._on_message, partial(self._ended, incarnation)
        )
        link = open_link(self._network, address, self._name, listener, CONNECT_S, self._own_advert())
        self._links[incarnation] = link
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def unfollow(self, incarnation: str) -> None:
        """Close the link to a member, if there is one."""
        link = self._links.pop(incarnation, None)
        if link is not None:
            link.send(Goodbye())
            link.close()

    def tell(self, message: Published | Left) -> None:
        """Send what the own node says of itself over every link."""
        for link in self._links.values():
            link.send(message)

    def close(self) -> None:
        """Close all links."""
        if self._timer is not None:
            self._timer.cancel()
        for incarnation in list(self._links):
            self.unfollow(incarnation)

    def _begun(self, incarnation: str, welcome: Welcome) -> None:
        link = self._links.get(incarnation)
        if link is not None:
            link.send(Follow())
            self._on_begun(incarnation, welcome)

    def _ended(self, incarnation: str, reason: str) -> None:
        link = self._links.pop(incarnation, None)
        if link is not None:
            link.close()
            self._on_ended(incarnation, reason)

    def _beat(self) -> None:
        for link in self._links.values():
            link.send(Beat())
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(BEAT_S, self._beat) if self._links else None


class _FollowedListener:
    """See NodeLinkListener."""

    def __init__(
        self,
        on_welcome: Callable[[Welcome], None],
        on_message: Callable[[OnBus], None],
        on_ended: Callable[[str], None],
    ) -> None:
        self._on_welcome = on_welcome
        self._on_message = on_message
        self._on_ended = on_ended

    def welcomed(self, welcome: Welcome) -> None:
        """See NodeLinkListener."""
        self._on_welcome(welcome)

    def received(self, message: FromNode) -> None:
        """See NodeLinkListener. Followers are told what is on the bus, and nothing else."""
        if isinstance(message, Published | Joined | Left):
            self._on_message(message)

    def failed(self, failure: LinkFailure) -> None:
        """See NodeLinkListener."""
        self._on_ended(text_of(failure))
