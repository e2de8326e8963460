"""Observers for tests: of a run while it goes on, and of nodes after it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import handoff_actors as handoff
from tests.daemons import Daemon


class Observer:
    """Takes the events of one run, and lets a test wait for some."""

    def __init__(self) -> None:
        self.events: list[handoff.RunEvent] = []
        self.times: list[float] = []
        self._changed = asyncio.Event()

    def __call__(self, event: handoff.RunEvent) -> None:
        self.events.append(event)
        self.times.append(asyncio.get_running_loop().time())
        self._changed.set()

    async def until(self, kind: str, function_id: object, count: int = 1) -> float:
        """The time at which this kind had happened that many times."""
        while len(times := self._times_of(kind, function_id)) < count:
            self._changed.clear()
            await self._changed.wait()
        return times[count - 1]

    def kinds(self) -> Counter[str]:
        """The kinds of events about attempts, without those about nodes or the whole run, and without optional ones."""
        attempts = (event for event in self.events if event.attempt)
        return Counter(event.kind for event in attempts if event.kind not in {"started", "output"})

    def _times_of(self, kind: str, function_id: object) -> list[float]:
        return [
            time
            for event, time in zip(self.events, self.times, strict=True)
            if event.kind == kind and event.function_id == function_id
        ]


class Prefers:
    """A policy that takes the node of that name as long as it is there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def choose(self, need: handoff.Need, nodes: Sequence[handoff.NodeView]) -> handoff.NodeView | None:
        return next((node for node in nodes if node.name == self._name), nodes[0])


async def until(session: handoff.Session, holds: Callable[[], bool]) -> None:
    """Wait for something that comes with an advert."""
    while not holds():
        await session._hub._connections._next_change()


async def until_empty(session: handoff.Session, *nodes: Daemon) -> None:
    """Wait until these nodes have nothing left of any run."""
    names = {node.name for node in nodes}

    def are_empty() -> bool:
        adverts = [advert for advert in session._hub._connections.adverts() if advert.name in names]
        return len(adverts) == len(names) and all(
            advert.spare == advert.capabilities and advert.stored == 0 and advert.running == 0
            for advert in adverts
        )

    await until(session, are_empty)
    # Threads of the nodes remove the files.
    while any(node.stored() for node in nodes):
        await session._hub._connections._next_change()
