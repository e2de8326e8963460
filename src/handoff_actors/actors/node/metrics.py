"""What a node has done since it began, in numbers that only grow."""

from msgspec import Struct, field

from handoff_actors.ids import WorkerId
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.runs import Completed, Failed


class NodeMetrics(Struct):
    """The counters of one node."""

    #: Attempts that it has reported, by how they ended.
    done: int = 0
    failed: int = 0
    #: Workers that ended though nobody wanted them to.
    worker_deaths: int = 0
    #: Bytes of values that it has brought here from other members.
    fetched_nbytes: int = 0
    _dismissed: set[WorkerId] = field(default_factory=set)

    def reported(self, message: FromNode) -> None:
        """It has said this."""
        if isinstance(message, Completed):
            self.done += len(message.done)
        elif isinstance(message, Failed):
            self.failed += 1

    def dismissed(self, worker: WorkerId) -> None:
        """It is ending a worker."""
        self._dismissed.add(worker)

    def exited(self, worker: WorkerId) -> None:
        """A worker has ended."""
        if worker in self._dismissed:
            self._dismissed.discard(worker)
        else:
            self.worker_deaths += 1
