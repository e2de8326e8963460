"""Tells `on_event` what happens in a stream: items that fail, workers of stages that come and go, and how far the stages are."""

import asyncio
import time
from typing import Final

from handoff_actors import events
from handoff_actors.actors.driver import clock
from handoff_actors.core.stream.events import ItemObserved, Vertex, WorkerObserved
from handoff_actors.core.stream.view import StageFacts, StreamView
from handoff_actors.events import OnEvent
from handoff_actors.ids import FunctionId

#: Seconds between two events about the progress of a stage.
PROGRESS_EVERY_S: Final = 1.0


class StageEvents:
    """The events of one stream that are not those of its run."""

    def __init__(self, view: StreamView, dag_id: FunctionId, on_event: OnEvent) -> None:
        self._view = view
        self._dag_id = dag_id
        self._on_event = on_event
        self._id_of = {stage.number: stage.function_id for stage in view.stages()}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        #: What was told of each stage last.
        self._told: dict[Vertex, StageFacts] = {stage.number: stage for stage in view.stages()}
        self._told_at = 0.0

    def start(self) -> None:
        """Begin to tell of progress."""
        self._told_at = clock()
        self._wait()

    def end(self) -> None:
        """Tell how far the stages have got."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._tell_of_progress()

    def observed(self, seen: ItemObserved | WorkerObserved) -> None:
        """Tell of an item that fails, or of a worker that comes or goes."""
        dag_id, now = self._dag_id, time.time()
        if isinstance(seen, WorkerObserved):
            kind = events.StageUp if seen.is_up else events.StageDown
            self._on_event(
                kind(
                    dag_id=dag_id,
                    time=now,
                    function_id=self._id_of[seen.stage],
                    node=seen.node,
                    reason=seen.reason,
                    worker=seen.lane,
                )
            )
            return
        change = events.ItemRetried if seen.change == "retried" else events.ItemFailed
        self._on_event(
            change(
                dag_id=dag_id,
                time=now,
                function_id=None if seen.stage is None else self._id_of[seen.stage],
                node=seen.node,
                attempt=seen.attempt,
                reason=seen.reason,
                number=seen.number,
                failure_kind=seen.failure_kind,
            )
        )

    def _wait(self) -> None:
        self._timer = self._loop.call_later(PROGRESS_EVERY_S, self._due)

    def _due(self) -> None:
        self._wait()
        self._tell_of_progress()

    def _tell_of_progress(self) -> None:
        now = clock()
        seconds, self._told_at = now - self._told_at, now
        for stage in self._view.stages():
            before = self._told[stage.number]
            if stage == before:
                continue
            self._told[stage.number] = stage
            self._on_event(
                events.StageProgressed(
                    dag_id=self._dag_id,
                    time=time.time(),
                    function_id=stage.function_id,
                    items=stage.ended,
                    failed=stage.failed,
                    items_per_s=(stage.ended - before.ended) / seconds if seconds else 0.0,
                    queued=stage.queued,
                    with_workers=stage.with_workers,
                    workers=stage.workers_up,
                )
            )
