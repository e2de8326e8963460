"""Turns a run's observations into events with the user's ids, and with the figures of functions that are done."""

import time
from typing import assert_never

from handoff_actors import events
from handoff_actors.actors.driver import clock
from handoff_actors.core.run.events import (
    FunctionObserved,
    NodeJoinObserved,
    NodeLeaveObserved,
    Observation,
    RelayObserved,
    RunEnded,
    TransferObserved,
)
from handoff_actors.core.run.view import RunView
from handoff_actors.errors import HandoffError
from handoff_actors.ids import FunctionId, Index

#: Facts about a function that hold for every function.
_PLAIN: dict[str, type[events.RunEvent]] = {
    event.kind: event
    for event in (
        events.Sent,
        events.Started,
        events.Retried,
        events.Failed,
        events.Skipped,
        events.Lost,
        events.Recalled,
        events.Reused,
        events.WorkerRetired,
    )
}


class Observer:
    """Turns what a run observes into events."""

    def __init__(self, view: RunView, on_event: events.OnEvent) -> None:
        self._plan = view.plan
        self._view = view
        self._on_event = on_event
        self._began_at = 0.0

    def began(self) -> None:
        """Tell that the run begins."""
        self._began_at = clock()
        self._on_event(
            events.RunStarted(dag_id=self._plan.dag_id, time=time.time(), functions=self._plan.size)
        )

    def ended(self, end: RunEnded, error: HandoffError | None) -> None:
        """Tell that the run is over; `error` is the one that its caller is about to get."""
        outcome = "cancelled" if end.cancelled else "finished" if end.error is None else "failed"
        seconds = clock() - self._began_at
        event = events.RunFinished(
            dag_id=self._plan.dag_id, time=time.time(), outcome=outcome, error=error, seconds=seconds
        )
        self._on_event(event)

    def observed(self, seen: Observation) -> None:
        """Tell of an observation."""
        dag_id, now = self._plan.dag_id, time.time()
        match seen:
            case FunctionObserved():
                self._on_event(self._of_function(seen, now))
            case TransferObserved(index, node, nbytes, took_s):
                self._on_event(
                    events.Moved(
                        dag_id=dag_id,
                        time=now,
                        function_id=self._id_of(index),
                        node=node,
                        nbytes=nbytes,
                        took_s=took_s,
                    )
                )
            case RelayObserved(index, holder, node, nbytes):
                self._on_event(
                    events.ValueRelayed(
                        dag_id=dag_id,
                        time=now,
                        function_id=self._id_of(index),
                        node=node,
                        holder=holder,
                        nbytes=nbytes,
                    )
                )
            case NodeJoinObserved(name, capabilities):
                self._on_event(
                    events.NodeJoined(dag_id=dag_id, time=now, node=name, capabilities=capabilities)
                )
            case NodeLeaveObserved(name, reason):
                self._on_event(events.NodeLeft(dag_id=dag_id, time=now, node=name, reason=reason))
            case _:
                assert_never(seen)

    def _of_function(self, seen: FunctionObserved, now: float) -> events.RunEvent:
        kind, index, node, attempt, reason = seen.kind, seen.index, seen.node, seen.attempt, seen.reason
        dag_id, function_id = self._plan.dag_id, self._plan.ids[index]
        if kind != events.Finished.kind:
            return _PLAIN[kind](
                dag_id=dag_id, time=now, function_id=function_id, node=node, attempt=attempt, reason=reason
            )
        return events.Finished(
            dag_id=dag_id,
            time=now,
            function_id=function_id,
            node=node,
            attempt=attempt,
            ran_s=self._view.ran_s[index],
            worker=self._view.worker[index],
            nbytes=self._view.result_nbytes(index),
        )

    def _id_of(self, index: Index) -> FunctionId:
        return self._plan.ids[index] if index < self._plan.size else None
