"""Looks at a cluster from outside: who is there, and which runs each node serves."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from msgspec import Struct

from handoff_actors.actors.connections import Connections
from handoff_actors.actors.join_files.directory import JoinDirectory
from handoff_actors.actors.member import Member
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.transport.credentials import Credentials
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.members import Advert, ListRuns, Runs, ServedRun

#: A node that has not answered by then is shown without its runs.
ANSWERS_WITHIN_S = 1.0


class MonitoredNode(Struct, frozen=True):
    """A node, as it was last heard of."""

    advert: Advert
    #: Nothing has been heard of it for a while.
    is_suspect: bool
    #: None: it has not said.
    runs: Sequence[ServedRun] | None


class ClusterMonitor:
    """A connection to every node of a cluster. Use with `async with`."""

    def __init__(self, name: str, credentials: Credentials) -> None:
        self._member = Member(name, self, credentials)
        self._connections = Connections(name, self)
        #: Nodes to which there is a connection, or will be soon.
        self._linked: set[str] = set()
        self._runs: dict[str, Sequence[ServedRun]] = {}
        self._unanswered: set[str] = set()
        self._all_answered = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.close()
        await self._member.close()

    async def join(self, seeds: Sequence[str], wait_s: float = 0.0) -> None:
        """Find the cluster by the address of any member, within `wait_s` seconds. Raises ConnectionFailed, AuthenticationError, VersionMismatch."""
        await self._member.join(seeds, wait_s)
        await self._connections.wait_until_settled()

    async def meet(self, join_file: str | os.PathLike[str], wait_s: float = 0.0) -> None:
        """Find the cluster by the files of its members in a directory, as `Member.meet` does, and with the key there."""
        directory = JoinDirectory(join_file)
        await self._member.adopt_key_of(directory)
        await self._member.meet(directory, wait_s)
        await self._connections.wait_until_settled()

    async def take(self) -> list[MonitoredNode]:
        """Every member, by name, with its runs as they are now."""
        for advert in self._member.members():
            if advert.name not in self._linked:
                self.member_up(advert)
        self._runs.clear()
        # A suspect node may well stand still: its answer counts if it comes.
        self._unanswered = {up.name for up in self._connections.ups() if not up.suspect}
        self._all_answered.clear()
        for up in self._connections.ups():
            self._connections.send(up.name, ListRuns())
        self._note_answers()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                await self._all_answered.wait()
        suspects = self._member.suspects()
        return [
            MonitoredNode(advert, advert.name in suspects, self._runs.get(advert.name))
            for advert in self._member.members()
        ]

    def _note_answers(self) -> None:
        if not self._unanswered:
            self._all_answered.set()

    # --- What happens: see Watcher and Audience -----------------------------------------------------------------

    def member_up(self, advert: Advert) -> None:
        """See Watcher."""
        self._linked.add(advert.name)
        self._connections.add(advert, self._member.network(), advert.address)

    def member_changed(self, advert: Advert) -> None:
        """See Watcher."""
        self._connections.change(advert)

    def member_suspected(self, name: str, *, is_suspect: bool) -> None:
        """See Watcher."""
        self._connections.suspect(name, is_suspect=is_suspect)

    def member_down(self, name: str, reason: str) -> None:
        """See Watcher."""
        self._linked.discard(name)
        self._connections.remove(name, reason)

    def member_left(self, name: str, reason: str) -> None:
        """See MembershipListener."""
        self.member_down(name, reason)

    def node_event(self, event: NodeUp | NodeDown) -> None:
        """See Audience."""
        if isinstance(event, NodeDown):
            self._unanswered.discard(event.name)
            self._note_answers()

    def message_received(self, name: str, message: FromNode) -> None:
        """See Audience."""
        if isinstance(message, Runs):
            self._runs[name] = message.runs
            self._unanswered.discard(name)
            self._note_answers()

    def member_unreachable(self, name: str, incarnation: str, reason: str) -> None:  # noqa: ARG002 - ConnectionListener's signature
        """See Audience. Others may reach it, so it stays in the picture, and the next look tries again."""
        self._linked.discard(name)

    def member_reported(self, advert: Advert) -> None:
        """See Audience."""
        self._member.advert_received(advert, "answer")
