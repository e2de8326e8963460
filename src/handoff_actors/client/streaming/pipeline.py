"""A graph through which items flow, as its user sees it."""

import asyncio
import logging
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self, overload

from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.client.hub import Hub
from handoff_actors.client.process.tracebacks import InsideHidden, inside_hidden
from handoff_actors.client.streaming.going_stream import GoingStream
from handoff_actors.client.streaming.inputs import StreamInputs
from handoff_actors.client.streaming.items import StreamItems
from handoff_actors.client.streaming.outlet import Arrival
from handoff_actors.client.streaming.settings import StreamSettings
from handoff_actors.client.streaming.source_map import mapped
from handoff_actors.core.stream.explain import ItemExplanation
from handoff_actors.display.display import display
from handoff_actors.display.progress import ProgressDisplay
from handoff_actors.display.run_display import until_written
from handoff_actors.display.stream_snapshot import StreamProgressView
from handoff_actors.errors import HandoffError, ItemError
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.report.pipeline_report import PipelineReport, WorkerExplanation
from handoff_actors.skip import SKIP
from handoff_actors.text import repr_of, type_name_of

log = logging.getLogger(__name__)

#: A push that waits for so long while nobody takes results most likely waits for ever.
STALLED_AFTER_S = 10.0


class Pipeline:
    """A stream of items through the functions of a DAG, whose workers stay warm meanwhile. Use it with `async with`.

    Leaving the block waits for what was pushed. An exception that leaves the block stops everything at once. When the block has
    been left, all claims are free.
    """

    def __init__(self, plan: StreamPlan, settings: StreamSettings, run: OpenRun, hub: Hub) -> None:
        """For `Session.stream` and `handoff.stream`."""
        self._plan = plan
        self._settings = settings
        self._run = run
        self._hub = hub
        by_value = hub.runs.by_value(settings.of_run())
        self._inputs = StreamInputs(plan, by_value, hub.runs.own_modules, self._renew_workers)
        self._items = StreamItems(plan)
        self._stream: GoingStream | None = None
        self._has_generator = any(vertex.is_generator for vertex in plan.vertices)
        self._iterator: weakref.ref[PipelineIterator] | None = None
        self._has_told_of_stall = False

    # --- Life ---------------------------------------------------------------------------------------------------

    @inside_hidden
    async def __aenter__(self) -> Self:
        if self._stream is not None:
            raise HandoffError("the pipeline has been used before: make another one with handoff.stream(dag)")
        await self._run.__aenter__()
        has_started = False
        try:
            await self._begin().start()
            self._inputs.begin()
            has_started = True
        finally:
            # It may have been cancelled just when all was there.
            if not has_started:
                await self._close(HandoffError("the pipeline has not started"))
        return self

    def _begin(self) -> GoingStream:
        settings = self._settings
        options = settings.of_machine(is_observed=self._run.runner.on_event is not None)
        stream = GoingStream(self._plan, options, self._run, self._hub, settings.allocation_timeout)
        self._stream = stream
        wanted = self._hub.runs.shows_progress if settings.progress is None else settings.progress
        self._progress = ProgressDisplay(
            partial(StreamProgressView, stream.machine.view, self._plan.dag_id), wanted
        )
        self._progress.start()
        self._hub.runs.add_stream(
            self._run.runner.run, stream.actor.stage_said, stream.node_event, stream.machine.view
        )
        return stream

    @inside_hidden
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stream = self._going()
        is_drained = False
        try:
            if error is None:
                # Pushes that never had to wait have let nobody else begin to iterate.
                await asyncio.sleep(0)
                if self._open_iterator() is None:
                    # Nobody takes the rest.
                    stream.drop_rest()
                stream.drain()
                await stream.until_drained()
                is_drained = True
                self._tell_of_untaken(stream)
        finally:
            await self._close(_reason_of(error), is_drained=is_drained)

    def _tell_of_untaken(self, stream: GoingStream) -> None:
        untaken = stream.untaken
        if str(untaken):
            first = "" if untaken.first is None else f"; the first error: {self._items.item(untaken.first)}"
            log.warning(
                "nobody took these results of a pipeline: %s. To have them, iterate over it within its block, after"
                " `await pipeline.drain()`%s",
                untaken,
                first,
            )

    async def _close(self, error: HandoffError, *, is_drained: bool = False) -> None:
        if self._stream is not None:
            self._stream.close(error)
            self._hub.runs.remove_stream(self._run.runner.run)
        try:
            if is_drained:
                await self._run.__aexit__(None, None, None)
                await self._run.release()
            else:
                await self._run.__aexit__(type(error), error, None)
        finally:
            if self._stream is not None:
                await self._end_progress(error, is_drained=is_drained)

    async def _end_progress(self, error: HandoffError, *, is_drained: bool) -> None:
        is_cancelled = isinstance(error.__cause__, asyncio.CancelledError)
        is_shown = self._progress.end("done" if is_drained else "cancelled" if is_cancelled else "failed")
        if is_shown and not display.is_idle:
            await until_written()

    def _renew_workers(self) -> None:
        if self._stream is not None:
            self._stream.renew_workers()

    def _going(self) -> GoingStream:
        if self._stream is None:
            raise HandoffError(
                "the pipeline has not begun: use it within `async with handoff.stream(dag) as pipeline`"
            )
        return self._stream

    # --- Items --------------------------------------------------------------------------------------------------

    async def push(self, value: object) -> int:
        """Push one item, once there is room for it, and return its number: 0 for the first one, then 1, and so on.

        Its results are for those who iterate over the pipeline. A push that is cancelled has pushed nothing.

        :param value: The value, also where it is a dict; a dict of values by the ids of the inputs if the stream has several.
        :raises SerializationError: The value can't be pickled.
        :raises ValueError: An input has no value.
        :raises TypeError: The stream has several inputs, and this is no dict.
        :raises HandoffError: The pipeline has ended, or is being drained; the cause says why.
        """
        with InsideHidden():
            stream = self._going()
            item = self._inputs.encode(value)
            if stream.has_room or self._open_iterator() is not None:
                return await stream.push(stream.plain, item)
            timer = asyncio.get_running_loop().call_later(STALLED_AFTER_S, self._tell_of_stall, stream)
            try:
                return await stream.push(stream.plain, item)
            finally:
                timer.cancel()

    def _tell_of_stall(self, stream: GoingStream) -> None:
        if self._open_iterator() is None and stream.plain.has_results and not self._has_told_of_stall:
            self._has_told_of_stall = True
            log.warning(
                "a push has waited for %g s, since %d items are in flight, and nobody takes the results of pushes: iterate over the"
                " pipeline in another task, or use pipeline.map or pipeline.call",
                STALLED_AFTER_S,
                stream.machine.in_flight,
            )

    async def call(self, value: object) -> Any:
        """Push one item, and return its own result: `SKIP` if there is none, and a list if a function of the DAG is a generator.

        If the awaiting task is cancelled, the item's results are dropped.

        :param value: As for `push`.
        :raises ItemError: The item has failed; the cause is the user's exception.
        :raises HandoffError: As for `push`.
        """
        with InsideHidden():
            stream = self._going()
            item = self._inputs.encode(value)
            outlet = stream.new_outlet()
            results: list[Any] = []
            try:
                await stream.push(outlet, item)
                outlet.fed()
                while (arrival := await outlet.next()) is not None:
                    result = self._items.item(arrival)
                    outlet.take()
                    if isinstance(result, ItemError):
                        raise result
                    results.append(result)
            finally:
                stream.let_go(outlet)
        if self._has_generator:
            return results
        return results[0] if results else SKIP

    def map(self, source: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
        """Push the items of a source, as there is room, and give their results: `async for y in pipeline.map(xs)`.

        Results come in the order of the items, unless the stream has `ordered=False`. An exception of the source is raised
        behind the results of the items before. Leaving the loop early drops what is in flight, once the generator is closed
        (see `contextlib.aclosing`).

        :param source: Iterable, plain or async; it may be endless. The loop stands still while a plain one makes its next item.
        :raises TypeError: This is no source of items.
        :raises ItemError: An item has failed, and the stream has `errors="raise"`; else the error stands among the results.
        :raises HandoffError: As for `push`.
        """
        with InsideHidden():
            if not isinstance(source, Iterable | AsyncIterable):
                raise TypeError(f"{repr_of(source)} is no source of items: pass an iterable, or an async one")
            return mapped(self._going(), source, self._inputs.encode, self._decoded)

    def _decoded(self, arrival: Arrival) -> Any:
        item = self._items.item(arrival)
        if isinstance(item, ItemError) and self._settings.errors == "raise":
            raise item
        return item

    def __aiter__(self) -> "PipelineIterator":
        """Iterate over the results of what was pushed by `push`, in the order of the pushes unless `ordered` is False.

        It ends once the pipeline has been drained. An iterator that is left early loses nothing: the next one goes on there.
        """
        with InsideHidden():
            if self._open_iterator() is not None:
                raise HandoffError(
                    "the pipeline is being iterated over: one iterator at a time gets the results of pushes; `map` and `call`"
                    " give each caller its own"
                )
            iterator = PipelineIterator(self._going(), self._items, self._settings)
            self._iterator = weakref.ref(iterator)
            return iterator

    def _open_iterator(self) -> "PipelineIterator | None":
        iterator = None if self._iterator is None else self._iterator()
        return None if iterator is None or iterator.is_closed else iterator

    @inside_hidden
    async def drain(self) -> None:
        """Take no more items, and return once all that were pushed are done, and the workers of all stages have ended.

        Results that have not been taken wait in the app: whoever iterates gets them, and the iteration ends.

        :raises HandoffError: The pipeline has failed.
        """
        stream = self._going()
        stream.check_loop()
        stream.drain()
        await stream.until_drained()

    # --- Facts --------------------------------------------------------------------------------------------------

    @property
    def report(self) -> PipelineReport:
        """The report on the stages, as they are now: items, items per second, what each waits for, and the bottleneck."""
        return self._going().report()

    @property
    def watermark(self) -> int:
        """The number of the first push that is not out: of all before it the results have been taken, or there are none.

        For a source with offsets, to be committed once your loop has dealt with what it has taken. Items of `map` and `call` are
        numbered together with pushes.
        """
        return self._going().watermark

    def to_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a trace of when the workers of stages were busy, to be opened in Perfetto. See `Run.to_trace`.

        It has the latest 10,000 spans of all workers, which are made of items that follow one another closely.

        :param path: File to write.
        :raises OSError: The file can't be written.
        """
        # Few programs want one, and no other would need what this imports.
        from handoff_actors.report.pipeline_trace import write_pipeline_trace  # noqa: PLC0415

        stream = self._going()
        write_pipeline_trace(stream.machine.view, self._plan.dag_id, stream.began_at, path)

    @overload
    def explain(self) -> list[WorkerExplanation]: ...
    @overload
    def explain(self, number: int) -> ItemExplanation: ...
    def explain(self, number: int | None = None) -> list[WorkerExplanation] | ItemExplanation:
        """Explain where each worker of each stage is, and what it waits for; or where an item is and why, or how it has ended.

        :param number: The number that `push` has returned for the item, or that its `ItemError` has.
        """
        with InsideHidden():
            stream = self._going()
            return stream.explain() if number is None else stream.explain_item(number)


def _reason_of(error: BaseException | None) -> HandoffError:
    """Return what those hear who wait when the block has been left."""
    if error is None:
        return HandoffError("its block has been left")
    reason = HandoffError(f"its block was left with {type_name_of(error)}")
    reason.__cause__ = error
    return reason


class PipelineIterator:
    """Gives the results of what was pushed into a pipeline, one by one."""

    def __init__(self, stream: GoingStream, items: StreamItems, settings: StreamSettings) -> None:
        self._stream = stream
        self._items = items
        self._settings = settings
        self.is_closed = False

    def __aiter__(self) -> Self:
        return self

    @inside_hidden
    async def __anext__(self) -> Any:
        outlet = self._stream.plain
        self._stream.check_loop()
        arrival = None if self.is_closed else await outlet.next()
        if arrival is None:
            self.is_closed = True
            raise StopAsyncIteration
        item = self._items.item(arrival)
        outlet.take()
        if isinstance(item, ItemError) and self._settings.errors == "raise":
            raise item
        return item

    async def aclose(self) -> None:
        """Let another iterator go on from here."""
        self.is_closed = True
