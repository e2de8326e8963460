"""Reports of the functions of a run: events for `on_event`, and the latest progress for displays."""

import time
from collections.abc import Sequence
from typing import Final, assert_never

from handoff_actors import events
from handoff_actors.core.run.view import RunView
from handoff_actors.display.function_progress import FunctionProgress
from handoff_actors.display.printing import OutputPrinter
from handoff_actors.errors import SerializationError
from handoff_actors.events import OnEvent
from handoff_actors.ids import FunctionId, Index
from handoff_actors.wire.messages.jobs import Dropped, Emitted, Logged, Printed, Progressed, Said
from handoff_actors.wire.payload import decode

#: With so many entries, those of functions that have ended are looked for.
_MANY: Final = 256


class ReportListener:
    """Listens to the functions of one run, and passes on to `printing` what they print and log."""

    def __init__(self, view: RunView, on_event: OnEvent | None, printing: OutputPrinter | None) -> None:
        self._view = view
        self._on_event = on_event
        self._printing = printing
        self._progress: dict[Index, Progressed] = {}
        #: The number of entries with which ended functions are looked for next.
        self._many = _MANY

    def output_received(self, node: str, said: Sequence[Said]) -> None:
        """See OutputSink."""
        for part in said:
            match part:
                case Printed() | Logged() | Dropped():
                    if self._printing is not None:
                        self._printing.output_received(node, [part])
                case Progressed():
                    self._progressed(node, part)
                case Emitted():
                    self._emitted(node, part)
                case _:
                    assert_never(part)

    def end(self) -> None:
        """See OutputSink."""
        self._progress.clear()
        if self._printing is not None:
            self._printing.end()

    def running(self) -> list[FunctionProgress]:
        """Give the progress of each function that runs and has reported any, in the order of their first reports."""
        self._progress = {
            index: progress
            for index, progress in self._progress.items()
            if self._view.is_in_flight(index, progress.attempt)
        }
        return [
            FunctionProgress(self._view.plan.ids[index], progress.done, progress.total)
            for index, progress in self._progress.items()
        ]

    def _progressed(self, node: str, progress: Progressed) -> None:
        if self._view.is_in_flight(progress.index, progress.attempt):
            self._progress[progress.index] = progress
            if len(self._progress) > self._many:
                self._many = max(_MANY, 2 * len(self.running()))
        if self._on_event is not None:
            self._on_event(
                events.FunctionProgressed(
                    dag_id=self._view.plan.dag_id,
                    time=time.time(),
                    function_id=self._id_of(progress.index),
                    node=node,
                    attempt=self._view.tries_by(progress.index, progress.attempt),
                    done=progress.done,
                    total=progress.total,
                )
            )

    def _emitted(self, node: str, emitted: Emitted) -> None:
        if self._on_event is None:
            return
        value, reason = None, ""
        try:
            value = decode(emitted.value)
        except SerializationError as error:
            reason = str(error)
        self._on_event(
            events.ValueEmitted(
                dag_id=self._view.plan.dag_id,
                time=time.time(),
                function_id=self._id_of(emitted.index),
                node=node,
                attempt=self._view.tries_by(emitted.index, emitted.attempt),
                reason=reason,
                value=value,
            )
        )

    def _id_of(self, index: Index) -> FunctionId:
        return self._view.plan.ids[index] if index < self._view.plan.size else None
