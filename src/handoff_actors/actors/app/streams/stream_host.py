"""The parts of an app that a stream needs."""

from collections.abc import Callable, Sequence
from typing import Protocol

from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.core.stream.events import ItemObserved, StreamResult, Vertex, WorkerObserved
from handoff_actors.errors import HandoffError
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.members import Advert


class StreamHost(Protocol):
    """The part of its session that a stream needs."""

    def adverts(self) -> list[Advert]:
        """The latest advert of every node that can be used."""

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
        """Fetch a value from nodes, by their names. Returns a function that gives up the fetch."""


class StageLanes(Protocol):
    """Starts and stops the workers of stages."""

    def start(self, stage: Vertex, lane: int, ended: Callable[[HandoffError | None], None]) -> None:
        """Start a worker of a stage. `ended` is called once, later, when it has ended: with the error, if it did not end well."""

    def stop(self, stage: Vertex, lane: int) -> None:
        """Stop a worker at once."""


class StreamListener(Protocol):
    """Hears what a stream has come to."""

    def lane_up(self, stage: Vertex, lane: int, node: str) -> None:
        """Take note that a worker of a stage takes items, and on which node."""

    def results_ready(self, owner: int, results: Sequence[StreamResult]) -> None:
        """Take results of an owner, in order. Each is in flight until the machine is told that it is `Taken`."""

    def items_out(self, owner: int, count: int) -> None:
        """Take note that no more results of an item of an owner come."""

    def observed(self, seen: ItemObserved | WorkerObserved) -> None:
        """Take note of an item that fails, or of a worker that comes or goes. Only of a stream that is observed."""

    def room_freed(self) -> None:
        """Take note that another item may be pushed."""

    def stream_failed(self, error: HandoffError) -> None:
        """Take note that the stream can't go on."""

    def stream_drained(self) -> None:
        """Take note that all is out, and all stages have ended."""
