"""The first node of a cluster comes up alone, and all others join it: members would not find one another else."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from handoff_actors.deploy.ssh.record import UpRecord

#: A node of few is enough to join, as members tell of one another.
MOST_SEEDS = 5


class Founding:
    """The members that nodes may join, as they come to serve."""

    def __init__(self, record: UpRecord, known: Callable[[], Awaitable[Sequence[str]]]) -> None:
        self._record = record
        #: Asks which recorded nodes answer.
        self._known = known
        self._first = asyncio.Lock()
        self.members: list[str] = []

    async def start(self, start: Callable[[Sequence[str]], Awaitable[str]]) -> None:
        """Have a node started by this, which gets the members to join and returns the node's address.

        Where there is no member yet, others wait until this one serves, or has failed.
        """
        if not self.members:
            async with self._first:
                if not self.members:
                    await self._found(start)
                    return
        self.add(await start(self.members[:MOST_SEEDS]))

    def add(self, address: str) -> None:
        """Add a member that serves."""
        if address not in self.members:
            self.members.append(address)

    async def _found(self, start: Callable[[Sequence[str]], Awaitable[str]]) -> None:
        async with self._record.founding():
            # Another command may have been first.
            for address in await self._known():
                self.add(address)
            self.add(await start(self.members[:MOST_SEEDS]))
