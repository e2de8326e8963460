"""Joining: finds a cluster by the addresses of some of its members, over short connections to them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from handoff_actors.actors.handshake import LinkFailure, open_link
from handoff_actors.errors import AuthenticationError, ConnectionFailed, HandoffError
from handoff_actors.transport.endpoint import Link, Network
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Advert, Goodbye, Welcome

log = logging.getLogger(__name__)


class Joining:
    """Introduces this process to nodes, over one connection at a time for each address."""

    def __init__(
        self,
        network: Network,
        name: str,
        own_advert: Callable[[], Advert | None],
        on_members: Callable[[Sequence[Advert], Sequence[str]], None],
    ) -> None:
        """Introduce this process by `name`, and the node in it, if there is one, by its advert.

        `on_members` is told the members that a node reports, and the names of those that it suspects.
        """
        self._network = network
        self._name = name
        self._own_advert = own_advert
        self._on_members = on_members
        self._going_on: dict[str, Introduction] = {}

    async def join(self, seeds: Sequence[str]) -> None:
        """Find the cluster by any of these addresses.

        Raises ConnectionFailed if none of them answers, AuthenticationError or VersionMismatch if none answers and
        one refuses.
        """
        introductions = [self.begin(address) for address in seeds]
        await asyncio.wait([introduction.answered for introduction in introductions])
        failures = [
            failure
            for introduction in introductions
            if (failure := introduction.answered.result()) is not None
        ]
        if len(failures) == len(introductions):
            # A refusal says more than an unanswered attempt.
            raise min(failures, key=lambda failure: isinstance(failure, ConnectionFailed))

    def begin(self, address: str) -> "Introduction":
        """Introduce this process to the node at an address, unless that is going on already."""
        introduction = self._going_on.get(address)
        if introduction is None:
            introduction = Introduction(address, self._on_members, partial(self._going_on.pop, address, None))
            self._going_on[address] = introduction
            introduction.link = open_link(
                self._network, address, self._name, introduction, own=self._own_advert()
            )
        return introduction

    def close(self) -> None:
        """End all that are going on."""
        for introduction in list(self._going_on.values()):
            introduction.end(None)


class Introduction:
    """A short connection to one node, to learn the members that it knows."""

    link: Link

    def __init__(
        self,
        address: str,
        on_members: Callable[[Sequence[Advert], Sequence[str]], None],
        on_end: Callable[[], object],
    ) -> None:
        self._address = address
        self._on_members = on_members
        self._on_end = on_end
        #: Resolved with None, or with the reason of the failure.
        self.answered: asyncio.Future[HandoffError | None] = asyncio.get_running_loop().create_future()

    def welcomed(self, welcome: Welcome) -> None:
        """See NodeLinkListener."""
        self._on_members(welcome.members, welcome.suspects)
        self.end(None)

    def received(self, message: FromNode) -> None:
        """See NodeLinkListener. A node sends no other message unasked."""

    def failed(self, failure: LinkFailure) -> None:
        """See NodeLinkListener."""
        if isinstance(failure, AuthenticationError):
            log.warning("introduction refused", extra={"address": self._address, "reason": str(failure)})
        self.end(failure)

    def end(self, failure: HandoffError | None) -> None:
        """Resolve `answered`, and close the link."""
        if not self.answered.done():
            self.answered.set_result(failure)
            self._on_end()
            # Otherwise the node would keep our place until the lease ends, although it is never renewed.
            self.link.send(Goodbye())
            self.link.close()
