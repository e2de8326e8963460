"""Counters of a node's work since it began; none ever falls."""

from msgspec import Struct, field

from handoff_actors.ids import WorkerId
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.runs import Completed, Failed


class NodeMetrics(Struct):
    """The counters of one node."""

    #: Attempts that it has reported, by how they ended.
    done: int = 0
    failed: int = 0
    #: Workers that ended without having been dismissed.
    worker_deaths: int = 0
    #: Bytes of values that the node has fetched from other members.
    fetched_nbytes: int = 0
    _dismissed: set[WorkerId] = field(default_factory=set)

    def reported(self, message: FromNode) -> None:
        """Count the attempts that a message to an app reports."""
        if isinstance(message, Completed):
            self.done += len(message.done)
        elif isinstance(message, Failed):
            self.failed += 1

    def dismissed(self, worker: WorkerId) -> None:
        """Note that the node itself ends a worker, so that its exit is not counted as a death."""
        self._dismissed.add(worker)

    def exited(self, worker: WorkerId) -> None:
        """Count the exit of a worker as a death, unless the node dismissed the worker."""
        if worker in self._dismissed:
            self._dismissed.discard(worker)
        else:
            self.worker_deaths += 1
