"""An app with a node of its own, and what a test asks of it."""

import asyncio
from collections.abc import Callable
from typing import Any

import psutil

import handoff_actors as handoff
from handoff_actors.actors.node import NodeActor
from handoff_actors.graph.function import FunctionOptions
from handoff_actors.wire.messages import Advert


class App:
    """One session and the node in its process."""

    def __init__(self, session: handoff.Session, node: NodeActor) -> None:
        self.session = session
        self.node = node
        self._advertised = asyncio.Event()
        publish = node.on_advert

        def on_advert(advert: Advert) -> None:
            publish(advert)
            self._advertised.set()

        node.on_advert = on_advert

    async def run(self, dag: handoff.DAG, **options: Any) -> handoff.Run:
        return await self.session.execute_distributed(dag, **options)

    async def call(self, code: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Run one function, and give its value."""
        run = await self.run(single(code, *args), **options)
        return run.results["only"]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that the node advertises when it changes."""
        async with asyncio.timeout(10):
            while not holds():
                self._advertised.clear()
                await self._advertised.wait()

    async def until_idle(self) -> None:
        """Wait until no run, no claim and no stored value is left."""
        await self.until(lambda: self.node.is_idle and self.node.advert().stored == 0)

    def stored_files(self) -> list[str]:
        return sorted(path.name for path in self.node._store.directory.iterdir())


def single(code: Callable[..., Any], *args: Any, **options: Any) -> handoff.DAG:
    """A DAG of one function, "only"."""
    return handoff.DAG().add_function(function("only", [], code, extra_args=args, **options))


def function(id: str, args: list[Any], code: Callable[..., Any], **options: Any) -> handoff.Function:  # noqa: A002 - as Function's
    return handoff.Function(id, args, code, **FunctionOptions(**options))  # type: ignore[misc]  # id is no option here


def descendants() -> list[psutil.Process]:
    """Every process that this one has started, and that has not ended."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
