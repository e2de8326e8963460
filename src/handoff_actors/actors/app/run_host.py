"""The parts of a session, and of a display, that a run needs."""

from collections.abc import Callable, Sequence
from typing import Protocol

from handoff_actors.actors.app.foreign_arguments import FoundValue
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.jobs import Said

Buffer = bytes | memoryview


class RunHost(Protocol):
    """The part of its session that a run needs."""

    def send(self, name: str, message: ToNode) -> None:
        """Send a message to a node."""

    def fetch(
        self,
        run: RunId,
        index: Index,
        nbytes: int,
        holders: list[str],
        done: Callable[[Buffer | FetchFailure], None],
        version: int = 0,
    ) -> Callable[[], None]:
        """Fetch a value from nodes, by their names; `version` is as in `Ref`. Returns a function that gives up the fetch."""

    def run_ended(self, run: RunId) -> None:
        """Keep nothing that only functions of the run would need."""

    def forget(self, run: RunId) -> None:
        """Forget a run of which no node holds anything any more."""

    def tell_of_room(self) -> None:
        """Give `RoomFreed` to the runs that the session's load names, once no machine is at work."""

    def node_wanted(self) -> None:
        """Start a node in this process, unless there is one: without it a run would wait for ever."""

    async def keep(self, value: FoundValue, name: str, ttl_s: float) -> None:
        """Have nodes keep a value beyond its run."""


class OutputSink(Protocol):
    """Receives what functions print and log."""

    def output_received(self, node: str, said: Sequence[Said]) -> None:
        """Take what functions on a node have printed and logged."""

    def end(self) -> None:
        """Note that nothing more comes."""
