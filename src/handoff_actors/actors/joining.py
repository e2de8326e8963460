"""Joining: finds a cluster by the addresses of some of its members, over short connections to them.

A seed is an address whose host may be the name of many nodes. All addresses of all seeds are asked at once: the first node
that answers, other than the one in this process, is enough, and the others are asked to the end meanwhile.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from handoff_actors.actors.handshake import LinkFailure, NameInUse, open_link
from handoff_actors.errors import AuthenticationError, ConnectionFailed, HandoffError
from handoff_actors.escaping import escape_name
from handoff_actors.lru import LruCache
from handoff_actors.transport.endpoint import Link, Network
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Advert, Goodbye, Joined, Welcome

log = logging.getLogger(__name__)

#: An address is given up for this try if it is not connected to by then.
CONNECT_S: Final = 5.0
#: Pause between two tries to join.
PAUSE_S: Final = 0.5
#: Most addresses of one name that are asked at a time: each costs a socket.
MOST_ADDRESSES: Final = 32
#: Most addresses of one name that an error lists.
MOST_LISTED: Final = 8
#: Most addresses whose refusals are remembered, so that each is logged once.
MOST_REFUSALS: Final = 1_000


class Joining:
    """Introduces this process to nodes, over one connection at a time for each address."""

    def __init__(
        self,
        network: Network,
        name: str,
        own_advert: Callable[[], Advert | None],
        is_present: Callable[[str], bool],
        on_welcome: Callable[[Welcome], Sequence[Advert]],
        on_name_in_use: Callable[[str], None],
    ) -> None:
        """Introduce this process by `name`, and the node in it, if there is one, by its advert.

        `is_present` says of an incarnation whether it is a member. `on_welcome` is told the answer of a node, and returns
        members to report to it, `on_name_in_use` why the node in this process was refused.
        """
        self._network = network
        self._name = name
        self._own_advert = own_advert
        self._is_present = is_present
        self._on_welcome = on_welcome
        self._on_name_in_use = on_name_in_use
        self._is_closed = False
        #: The node in this process is not to take the name of another.
        self._is_joining = False
        self._is_refusal_final = False
        self._name_in_use: NameInUse | None = None
        #: Those that are going on, by address.
        self._introductions: dict[str, Introduction] = {}
        #: Those that are going on, by seed.
        self._inquiries: dict[str, Inquiry] = {}
        #: By seed and address, the incarnation of the node that has answered there.
        self._found: dict[str, dict[str, str]] = {}
        self._refusals: LruCache[str, str] = LruCache(MOST_REFUSALS)

    async def join(
        self, seeds: Sequence[str], wait_s: float = 0.0, *, is_refusal_final: bool = False
    ) -> None:
        """Find the cluster by any of these addresses; while nodes are silent, try again for `wait_s` seconds.

        With `is_refusal_final` no node is waited for at an address where no process listens.

        Raises NameInUse if the node in this process has the name of another, ConnectionFailed if no node but this one
        answers, AuthenticationError or VersionMismatch if no node answers and one refuses.
        """
        self._is_joining = True
        self._is_refusal_final = is_refusal_final
        try:
            failed = await self._ask_until_answered(seeds, wait_s)
        finally:
            self._is_joining = self._is_refusal_final = False
        if self._name_in_use is not None:
            raise self._name_in_use
        if failed:
            raise _error(failed)

    async def _ask_until_answered(self, seeds: Sequence[str], wait_s: float) -> "list[Inquiry]":
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        failed = await self._ask_all(seeds)
        if _is_any_silent(failed) and loop.time() < deadline:
            log.info("waiting for seeds", extra={"limit_s": wait_s, "reason": str(_error(failed))})
        while _is_any_silent(failed) and loop.time() < deadline and not self._is_over:
            await asyncio.sleep(min(PAUSE_S, deadline - loop.time()))
            failed = await self._ask_all(seeds)
        return failed

    @property
    def _is_over(self) -> bool:
        return self._is_closed or self._name_in_use is not None

    def ask(self, seed: str, *, includes_members: bool = False) -> "Inquiry":
        """Ask the nodes at all addresses of a seed, except for this node and, unless they are included, present members."""
        inquiry = self._inquiries.get(seed)
        if inquiry is None:
            inquiry = self._inquiries[seed] = Inquiry(seed, includes_members=includes_members)
            inquiry.task = asyncio.get_running_loop().create_task(self._conduct(inquiry), name="inquiry")
        return inquiry

    def introduce(self, address: str) -> "Introduction":
        """Introduce this process to the node at an address, unless that is going on already."""
        introduction = self._introductions.get(address)
        if introduction is None:
            introduction = Introduction(address, self._own_advert(), self._on_welcome, self._ended)
            self._introductions[address] = introduction
            introduction.link = open_link(
                self._network,
                address,
                self._name,
                introduction,
                CONNECT_S,
                introduction.own,
                is_joining=self._is_joining,
                is_refusal_final=self._is_refusal_final,
            )
        return introduction

    def close(self) -> None:
        """End all that are going on."""
        self._is_closed = True
        for inquiry in self._inquiries.values():
            inquiry.task.cancel()
            inquiry.failures[inquiry.seed] = ConnectionFailed(inquiry.seed, "this process has left meanwhile")
            inquiry.conclude(is_answered=False)
        for introduction in list(self._introductions.values()):
            introduction.end(None)

    async def _ask_all(self, seeds: Sequence[str]) -> "list[Inquiry]":
        """Ask all seeds. Returns an empty list at the first answer, or all inquiries once they have failed."""
        inquiries = [self.ask(seed, includes_members=True) for seed in dict.fromkeys(seeds)]
        pending = {inquiry.is_answered for inquiry in inquiries}
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(is_answered.result() for is_answered in done):
                return []
        return inquiries

    async def _conduct(self, inquiry: "Inquiry") -> None:
        try:
            addresses = await self._network.resolve(inquiry.seed)
            asked = {
                introduction.answered: introduction
                for introduction in map(self.introduce, self._unknown(inquiry, addresses))
            }
            while asked:
                done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                for answered in done:
                    self._take(inquiry, asked.pop(answered))
            inquiry.sort_failures(addresses)
        except HandoffError as failure:
            inquiry.failures[inquiry.seed] = failure
        finally:
            del self._inquiries[inquiry.seed]
            inquiry.conclude(is_answered=False)

    def _unknown(self, inquiry: "Inquiry", addresses: Sequence[str]) -> list[str]:
        """Choose the addresses to ask."""
        own, unknown = self._own_advert(), []
        found = self._found.get(inquiry.seed, {})
        self._found[inquiry.seed] = {address: found[address] for address in addresses if address in found}
        for address in addresses:
            incarnation = found.get(address)
            if own is not None and (address == own.address or incarnation == own.incarnation):
                inquiry.failures[address] = _only_this_node(address)
            elif self._is_left_out(inquiry, incarnation):
                inquiry.conclude(is_answered=True)
            else:
                unknown.append(address)
        if len(unknown) <= MOST_ADDRESSES:
            return unknown
        # The first ones may all be dead, so each try takes others.
        return random.sample(unknown, MOST_ADDRESSES)

    def _is_left_out(self, inquiry: "Inquiry", incarnation: str | None) -> bool:
        # A member may have died a moment ago, which those who join now have to hear.
        return not inquiry.includes_members and incarnation is not None and self._is_present(incarnation)

    def _take(self, inquiry: "Inquiry", introduction: "Introduction") -> None:
        if introduction.found is not None:
            self._found[inquiry.seed][introduction.address] = introduction.found
        failure = introduction.answered.result()
        if failure is None:
            inquiry.conclude(is_answered=True)
        else:
            inquiry.failures[introduction.address] = failure

    def _ended(self, address: str, failure: HandoffError | None) -> None:
        self._introductions.pop(address, None)
        if isinstance(failure, NameInUse):
            self._name_in_use = failure
            self._on_name_in_use(str(failure))
        if isinstance(failure, AuthenticationError):
            # Seeds are asked again every few seconds.
            if self._refusals.get(address) != failure.reason:
                log.warning("introduction refused", extra={"address": address, "reason": str(failure)})
            self._refusals.put(address, failure.reason)
        elif failure is None and address in self._refusals:
            self._refusals.put(address, "")


class Inquiry:
    """The question to all addresses of a seed who is there."""

    task: asyncio.Task[None]

    def __init__(self, seed: str, *, includes_members: bool) -> None:
        self.seed = seed
        self.includes_members = includes_members
        #: Resolved with True at the first answer of another node, or with False once all have failed.
        self.is_answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        #: By address; by the seed itself if it could not be resolved.
        self.failures: dict[str, HandoffError] = {}

    def conclude(self, *, is_answered: bool) -> None:
        """Resolve `is_answered`, unless it is resolved already."""
        if not self.is_answered.done():
            self.is_answered.set_result(is_answered)

    def sort_failures(self, addresses: Sequence[str]) -> None:
        """Put the failures in the order of the addresses."""
        self.failures = {address: self.failures[address] for address in addresses if address in self.failures}

    def reason(self) -> str:
        """List the failures other than refusals, for people."""
        reasons = [
            failure.reason
            if address == self.seed or address in failure.reason
            else f"{address}: {failure.reason}"
            for address, failure in self.failures.items()
            if isinstance(failure, ConnectionFailed)
        ]
        rest = len(reasons) - MOST_LISTED
        return "; ".join([*reasons[:MOST_LISTED], *([f"and {rest} more"] if rest > 0 else [])])


class Introduction:
    """A short connection to one node, to learn the members that it knows."""

    link: Link

    def __init__(
        self,
        address: str,
        own: Advert | None,
        on_welcome: Callable[[Welcome], Sequence[Advert]],
        on_end: Callable[[str, HandoffError | None], None],
    ) -> None:
        self.address = address
        self.own = own
        self._on_welcome = on_welcome
        self._on_end = on_end
        #: The incarnation of the node that has answered.
        self.found: str | None = None
        #: Resolved with None, or with the reason of the failure; the own node's answer is one.
        self.answered: asyncio.Future[HandoffError | None] = asyncio.get_running_loop().create_future()

    def welcomed(self, welcome: Welcome) -> None:
        """See NodeLinkListener."""
        self.found = welcome.members[0].incarnation if welcome.members else None
        if self.own is not None and self.found == self.own.incarnation:
            self.end(_only_this_node(self.address))
        else:
            for advert in self._on_welcome(welcome):
                self.link.send(Joined(advert))
            self.end(None)

    def received(self, message: FromNode) -> None:
        """See NodeLinkListener. A node sends no other message unasked."""

    def failed(self, failure: LinkFailure) -> None:
        """See NodeLinkListener."""
        self.end(failure)

    def end(self, failure: HandoffError | None) -> None:
        """Resolve `answered`, and close the link."""
        if not self.answered.done():
            self.answered.set_result(failure)
            self._on_end(self.address, failure)
            # Otherwise the node would keep our place until the lease ends, although it is never renewed.
            self.link.send(Goodbye())
            self.link.close()


def _only_this_node(address: str) -> ConnectionFailed:
    return ConnectionFailed(address, f"only this node itself answers at {address}")


def _is_any_silent(failed: Sequence[Inquiry]) -> bool:
    """True unless all nodes refuse, which they would do again."""
    return any(
        isinstance(failure, ConnectionFailed) for inquiry in failed for failure in inquiry.failures.values()
    )


def _error(failed: Sequence[Inquiry]) -> HandoffError:
    """Make one error of all failures. A refusal says more than silence."""
    failures = [failure for inquiry in failed for failure in inquiry.failures.values()]
    refusal = next((failure for failure in failures if not isinstance(failure, ConnectionFailed)), None)
    if refusal is not None:
        return refusal
    first, *others = failed
    reasons = [first.reason(), *(f"at {escape_name(other.seed)}: {other.reason()}" for other in others)]
    return ConnectionFailed(first.seed, "; ".join(reasons))
