"""The rows for workers of stages that one turn of the loop has brought together: one message for each worker."""

import asyncio
from collections.abc import Callable, Sequence

from msgspec import Struct

from handoff_actors.core.stream.events import LanePlace
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.stage_rows import ToStage
from handoff_actors.wire.messages.stages import StageInput
from handoff_actors.workers.stage_protocol import content_of


class _Batch(Struct):
    rows: list[ToStage]
    needs: list[Ref]


class StageOutbox:
    """Rows for the workers of the stages of one stream, in order for each of them."""

    def __init__(self, run: RunId, send: Callable[[str, StageInput], None]) -> None:
        self._run = run
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._batches: dict[LanePlace, list[_Batch]] = {}
        self._is_held = False

    def add(self, place: LanePlace, rows: Sequence[ToStage], needs: Sequence[Ref]) -> None:
        """Send rows soon.

        Those that need values begin a message of their own: what came before must not wait for them, nor be taken for lost
        with them.
        """
        if not (self._batches or self._is_held):
            self._loop.call_soon(self.flush)
        batches = self._batches.setdefault(place, [])
        if batches and not needs:
            batches[-1].rows.extend(rows)
        else:
            batches.append(_Batch([*rows], [*needs]))

    def hold(self) -> None:
        """Collect rows until `flush` is called: that comes sooner than the next turn of the loop."""
        self._is_held = True

    def flush(self) -> None:
        """Send everything now."""
        self._is_held = False
        batches_by_place, self._batches = self._batches, {}
        for place, batches in batches_by_place.items():
            for batch in batches:
                content = content_of(batch.rows)
                self._send(
                    place.node, StageInput(self._run, place.index, place.attempt, content, batch.needs)
                )
