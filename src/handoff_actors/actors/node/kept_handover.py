"""Hands what a leaving node keeps under names to other nodes, which fetch it and keep it for the time that is left."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from handoff_actors.actors.handshake import LinkFailure, open_link, text_of
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.peer_links import BEAT_S
from handoff_actors.core.node.kept_values import INDEX
from handoff_actors.transport.endpoint import CONNECT_TIMEOUT_S, Network
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.kept import Keep, KeptAnswer, KeptEntry
from handoff_actors.wire.messages.members import Advert, Beat, Goodbye, Welcome

log = logging.getLogger(__name__)

_NO_ANSWER: Final = "it did not answer about all of them"


async def hand_over_kept_values(node: NodeActor, network: Network, heirs: Sequence[Advert]) -> None:
    """Have other nodes keep what a node keeps under names: the first of `heirs` that does, for each value.

    Returns once each value is kept elsewhere, or no node is left to ask. Cancelled, it leaves the rest where it is.
    """
    left = node.kept_values()
    for heir in heirs:
        if not left:
            return
        offer = _Offer(node, network, heir, left)
        try:
            kept = await offer.answers()
        finally:
            offer.close()
        if kept:
            log.info(
                "kept values handed over", extra={"node": node.name, "to": heir.name, "count": len(kept)}
            )
        left = [entry for entry in left if entry.run not in kept]
    if left:
        names = ", ".join(sorted(entry.name for entry in left))
        log.warning(
            "no other node keeps the values that this one has kept", extra={"node": node.name, "names": names}
        )


class _Offer:
    """Kept values offered to one node; see NodeLinkListener."""

    def __init__(self, node: NodeActor, network: Network, heir: Advert, entries: Sequence[KeptEntry]) -> None:
        self._node = node.name
        self._heir = heir.name
        self._entries = entries
        self._kept: set[int] = set()
        self._unanswered = set(range(len(entries)))
        self._is_over = asyncio.Event()
        self._link = open_link(network, heir.address, node.name, self, CONNECT_TIMEOUT_S)
        for request, entry in enumerate(entries):
            value = Ref(INDEX, entry.nbytes, [node.address])
            self._link.send(Keep(request, entry.name, entry.run, value, entry.rank, entry.left_s))

    async def answers(self) -> set[int]:
        """Wait until the node has answered about each value, or is lost; return the run numbers of those that it keeps."""
        while not self._is_over.is_set():
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._is_over.wait()
            except TimeoutError:
                # A large value takes longer than a lease.
                self._link.send(Beat())
        return self._kept

    def close(self) -> None:
        """Ask for nothing more."""
        if not self._link.is_closed:
            self._link.send(Goodbye())
            self._link.close()

    def welcomed(self, welcome: Welcome) -> None:
        """See NodeLinkListener. The values have been offered already."""

    def received(self, message: FromNode) -> None:
        """See NodeLinkListener."""
        if not isinstance(message, KeptAnswer) or message.request not in self._unanswered:
            return
        self._unanswered.discard(message.request)
        entry = self._entries[message.request]
        if message.values:
            self._kept.add(entry.run)
        else:
            self._log(f"{entry.name!r}: {'; '.join(message.near)}")
        if not self._unanswered:
            self._is_over.set()

    def failed(self, failure: LinkFailure) -> None:
        """See NodeLinkListener."""
        self._log(f"{_NO_ANSWER}: {text_of(failure)}")
        self._is_over.set()

    def _log(self, reason: str) -> None:
        extra = {"node": self._node, "other": self._heir, "reason": reason}
        log.warning("a node does not keep what this one has kept", extra=extra)
