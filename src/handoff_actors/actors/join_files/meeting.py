"""A process in a join directory: keeps the file of its member there, and finds the others by theirs."""

import asyncio
import logging
import random
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from handoff_actors.actors.join_files.directory import JoinDirectory, JoinDirectoryError
from handoff_actors.actors.join_files.threads import in_own_thread
from handoff_actors.core.cluster.join_files import JoinEntry, of_cluster, pause_s
from handoff_actors.errors import AuthenticationError, ConnectionFailed, HandoffError

log = logging.getLogger(__name__)

#: Members that one look introduces this process to: they tell it of the others.
MOST_INTRODUCTIONS: Final = 8
#: Pause between two looks of a process that waits for a first member.
WAIT_PAUSE_S: Final = 0.5
#: A file server that does not answer by then is not waited for at the end.
REMOVE_WITHIN_S: Final = 2.0
#: Pauses differ by this share: jobs start hundreds of members at once.
JITTER: Final = 0.3


class Participant(Protocol):
    """The member of a cluster that takes part."""

    def join_entry(self) -> JoinEntry | None:
        """The content of its file; None if it has no node that others can reach."""

    def clusters(self) -> Collection[str]:
        """Fingerprints of the keys that it accepts."""

    def known_members(self) -> Collection[str]:
        """The incarnations of the other members that it knows."""

    async def ask_for_cluster(self, addresses: Sequence[str]) -> None:
        """Join by any of these addresses, or raise as `Joining.join` does."""

    def introduce_to(self, address: str) -> None:
        """Introduce this process to the node at an address, and hear of the members that it knows."""


class Meeting:
    """Looks into the directory from time to time, so that members which start at once, or alone, find one another."""

    def __init__(self, directory: JoinDirectory, participant: Participant) -> None:
        self._directory = directory
        self._participant = participant
        self._looks = 0
        self._task: asyncio.Task[None] | None = None
        #: The look that goes on, or the last one.
        self._looking: asyncio.Future[list[JoinEntry]] | None = None
        #: The incarnation whose file is there.
        self._written: str | None = None
        self._is_withdrawn = False
        self._trouble = ""

    async def begin(self, wait_s: float = 0.0, *, may_be_alone: bool) -> None:
        """Look, and join the members that are there; then go on looking. Without any, wait so long for one.

        Raises JoinDirectoryError, ConnectionFailed unless it may be alone, and what `Joining.join` raises for refusals.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (0.0 if may_be_alone else wait_s)
        failure = await self._join()
        if failure is not None and loop.time() < deadline:
            log.info("waiting for members", extra={"limit_s": wait_s, "reason": str(failure)})
        while failure is not None and loop.time() < deadline:
            await asyncio.sleep(min(WAIT_PAUSE_S, deadline - loop.time()))
            failure = await self._join()
        if failure is not None and not may_be_alone:
            raise failure
        self._task = loop.create_task(self._go_on(), name="meeting")
        self._task.add_done_callback(self._ended)

    async def withdraw(self) -> None:
        """Remove the file of this process's member: it leaves. Those who look find the others."""
        self._is_withdrawn = True
        if self._looking is not None:
            # A look that goes on would write the file again.
            await asyncio.wait([self._looking], timeout=REMOVE_WITHIN_S)
        incarnation, self._written = self._written, None
        if incarnation is None:
            return
        with suppress(JoinDirectoryError, TimeoutError):
            async with asyncio.timeout(REMOVE_WITHIN_S):
                await in_own_thread(partial(self._directory.remove, incarnation))

    def resume(self) -> None:
        """Write a file again, if there is a member in this process again."""
        self._is_withdrawn = False

    async def close(self) -> None:
        """Look no more, and remove the file."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.withdraw()

    async def _join(self) -> ConnectionFailed | None:
        entries = await self._look()
        place = str(self._directory.path)
        if not entries:
            reason = (
                "no member has kept a file there lately; is one running, with the same directory and key?"
            )
            return ConnectionFailed(place, reason)
        try:
            await self._participant.ask_for_cluster([entry.address for entry in entries])
        except (ConnectionFailed, AuthenticationError) as error:
            # Others may have the ports of members that were killed.
            reason = f"none of the members that have files there answers, as if they had been killed: {error.reason}"
            return ConnectionFailed(place, reason)
        return None

    async def _go_on(self) -> None:
        while True:
            is_alone = not self._participant.known_members()
            await asyncio.sleep(pause_s(self._looks, is_alone=is_alone) * random.uniform(1 - JITTER, 1))  # noqa: S311
            try:
                entries = await self._look()
            except HandoffError as error:
                self._note(str(error))
                continue
            self._note("")
            for entry in entries:
                self._participant.introduce_to(entry.address)

    def _ended(self, looking: asyncio.Task[None]) -> None:
        # Only a defect ends it before it is cancelled. Whoever reads the log learns of it then, not at the end.
        if not looking.cancelled() and (error := looking.exception()) is not None:
            fields = {"directory": str(self._directory.path)}
            log.error(
                "members are not looked for in the join directory any more", extra=fields, exc_info=error
            )

    async def _look(self) -> list[JoinEntry]:
        self._looks += 1
        participant = self._participant
        own = None if self._is_withdrawn else participant.join_entry()
        if own is not None:
            self._written = own.incarnation
        known = frozenset(participant.known_members())
        self._looking = in_own_thread(partial(self._directory.look, own, known))
        # Its thread can't be stopped; the end waits for it.
        found = await asyncio.shield(self._looking)
        others = of_cluster(found, participant.clusters())
        return random.sample(others, min(len(others), MOST_INTRODUCTIONS))

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("join directory out of order", extra={"reason": trouble})
        elif self._trouble and not trouble:
            log.info("join directory in order again", extra={"directory": str(self._directory.path)})
        self._trouble = trouble
