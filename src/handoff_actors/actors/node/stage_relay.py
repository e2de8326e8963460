"""Passes rows on between apps and the stages that workers of a node run: most without a question to the node's machine."""

from collections.abc import Callable, Sequence

from handoff_actors.core.node.events import MessageFromPeer, NodeEvent
from handoff_actors.core.node.stage_events import StageAnswered
from handoff_actors.core.node.stages import Stages
from handoff_actors.ids import Index, PeerId, WorkerId
from handoff_actors.transport.endpoint import Service
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.stages import StageInput, StageOutput, StoredItem
from handoff_actors.workers.pool.pool import WorkerPool
from handoff_actors.workers.protocol import JobKey


class StageRelay:
    """The stages of one node. Events go to `feed`, messages to `reply`."""

    def __init__(
        self,
        stages: Stages,
        feed: Callable[[NodeEvent], None],
        reply: Callable[[PeerId, FromNode], None],
        services: Sequence[Service],
    ) -> None:
        self._stages = stages
        self._feed = feed
        self._reply = reply
        self._services = services

    def received(self, peer: PeerId, message: StageInput, pool: WorkerPool) -> None:
        """Take a peer's rows. They leave with the next flush of the pool."""
        worker = self._stages.worker_for(peer, message)
        if worker is None:
            self._feed(MessageFromPeer(peer, message))
        else:
            pool.pass_rows(worker, (message.run, message.index, message.attempt), message.content)

    def answered(
        self, worker: WorkerId, key: JobKey, content: bytes, stored: Sequence[tuple[Index, int]]
    ) -> None:
        """Take the rows of a stage."""
        # As for functions that end: their app may wait.
        for service in self._services:
            service.hold()
        try:
            reader = None if stored else self._stages.reader_of(worker, *key)
            if reader is None:
                items = [StoredItem(index, nbytes) for index, nbytes in stored]
                self._feed(StageAnswered(worker, *key, content, items))
            else:
                self._reply(reader, StageOutput(*key, content))
        finally:
            for service in self._services:
                service.flush()
