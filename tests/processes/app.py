"""An app with a node of its own, and what a test asks of it."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import psutil

import handoff_actors as handoff
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.cluster_view import ClusterView
from handoff_actors.wire.messages.members import Advert
from tests.stored import values_in


class _Overheard:
    """A node's cluster, which also sets an event whenever the node announces something. See ClusterView."""

    def __init__(self, cluster: ClusterView, announced: asyncio.Event) -> None:
        self._announced = announced
        self._announce = cluster.announce
        self.node_introduced, self.members = cluster.node_introduced, cluster.members
        self.advert_received, self.members_reported = cluster.advert_received, cluster.members_reported
        self.member_left, self.unreachable = cluster.member_left, cluster.unreachable
        self.lately_left = cluster.lately_left
        self.suspects, self.view, self.entrance = cluster.suspects, cluster.view, cluster.entrance

    def announce(self, advert: Advert) -> None:
        self._announce(advert)
        self._announced.set()


def node_of(session: handoff.Session) -> NodeActor:
    """The node within, for a look at what its handle hides."""
    node = session._hub.node
    assert node is not None
    return node


class App:
    """One session and the node in its process."""

    def __init__(self, session: handoff.Session) -> None:
        self.session = session
        self.node = node = node_of(session)
        self._advertised = asyncio.Event()
        node._cluster = _Overheard(node._cluster, self._advertised)

    async def run(self, dag: handoff.DAG, **options: Any) -> handoff.Run:
        return await self.session.execute_distributed(dag, **options)

    async def call(self, code: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Run one function, and give its value."""
        return await self.run_one(single(code, *args), **options)

    async def run_one(self, dag: handoff.DAG, **options: Any) -> Any:
        """Run what `single` has made, and give its value."""
        return (await self.run(dag, **options)).results["only"]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that the node advertises when it changes."""
        async with asyncio.timeout(10):
            while not holds():
                self._advertised.clear()
                await self._advertised.wait()

    async def until_idle(self) -> None:
        """Wait until no run, no claim and no stored value is left."""

        def is_idle() -> bool:
            advert = self.node.advert()
            return self.node.is_idle and advert.stored == 0 and advert.spare == advert.capabilities

        await self.until(is_idle)

    def stored_files(self) -> list[str]:
        return sorted(path.name for path in values_in(self.node._store.directory))


def single(code: Callable[..., Any], *args: Any, **options: Any) -> handoff.DAG:
    """A DAG of one function, "only"."""
    return handoff.DAG().add_function(handoff.Function("only", [], code, extra_args=args, **options))


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """The most spans of (start, end) that overlap."""
    changes = sorted(change for start, end in spans for change in ((start, 1), (end, -1)))
    return max(accumulate(change for _, change in changes))


def descendants() -> list[psutil.Process]:
    """Every process that this one has started, and that has not ended."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
