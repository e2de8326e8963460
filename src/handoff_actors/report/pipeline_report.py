"""The report on a pipeline: what each stage does, and which of them the others wait for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handoff_actors.core.stream.events import Vertex
from handoff_actors.core.stream.view import StageFacts, StreamView
from handoff_actors.escaping import escape_name
from handoff_actors.ids import FunctionId
from handoff_actors.report.table import Row, aligned, count, seconds
from handoff_actors.text import repr_of, str_of

if TYPE_CHECKING:
    from handoff_actors.core.run.explain import Explanation

#: Below this share of its time a stage holds nothing up.
_BUSY: Final = 0.5


class StageReport(Struct, frozen=True):
    """One stage of a pipeline so far."""

    #: Id of its function.
    function_id: FunctionId
    #: Items that have ended here; of a generator, its results.
    items: int
    #: Items that have failed here, and attempts that were followed by another.
    failed: int
    retried: int
    #: Items that have ended per second, since the pipeline began.
    items_per_s: float
    #: Share of the last five seconds in which its code ran, over all its workers, from 0 to 1.
    busy: float
    #: Items that wait for a worker.
    queued: int
    #: Items that workers have been given.
    with_workers: int
    #: Workers that take items, and those that are to.
    workers: int
    workers_starting: int
    #: "input", "output", "workers", or "" while it works.
    waits_for: str


class PipelineReport(Struct, frozen=True):
    """A pipeline so far."""

    #: Seconds since it began.
    seconds: float
    #: Items between `push` and whoever takes their results.
    in_flight: int
    #: By id of the function, in the order of the graph.
    stages: Mapping[FunctionId, StageReport]
    #: Id of the function that the others wait for; None if they wait for pushes, or for whoever takes the results.
    bottleneck: FunctionId
    #: Why, for people.
    reason: str

    def __str__(self) -> str:
        return f"{aligned(*self._table())}\n\n{self._line_below()}"

    def _repr_html_(self) -> str:
        from handoff_actors.report.html_table import paragraph, table  # noqa: PLC0415 - few programs are notebooks

        return table(*self._table()) + paragraph(self._line_below())

    def _table(self) -> tuple[Row, list[Row]]:
        stages = self.stages.values()
        have_failed = any(stage.failed or stage.retried for stage in stages)
        rows: list[Row] = [
            (
                str_of(stage.function_id),
                str(stage.items),
                f"{stage.items_per_s:.4g}/s",
                f"{stage.busy:.0%}",
                str(stage.queued),
                str(stage.with_workers),
                str(stage.workers),
                *((str(stage.failed), str(stage.retried)) if have_failed else ()),
                stage.waits_for,
            )
            for stage in stages
        ]
        heads = ("stage", "items", "rate", "busy", "queued", "with workers", "workers")
        return (*heads, *(("failed", "retried") if have_failed else ()), "waits for"), rows

    def _line_below(self) -> str:
        in_flight = count(self.in_flight, "item")
        return f"{in_flight} in flight after {seconds(self.seconds)}: {escape_name(self.reason)}"


class WorkerExplanation(Struct, frozen=True):
    """The place of one worker of one stage, and what it waits for."""

    #: Id of the stage's function.
    function_id: FunctionId
    #: Its number among the stage's workers.
    worker: int
    #: "starting", "waiting" for input, "working", "moving" off its node, "stopping" or "closing".
    state: str
    #: The node that it is on; None where it is on none yet.
    node: str | None
    #: Items that it has been given and that have not ended.
    items: int
    #: For one that starts: why it is where it is. None otherwise.
    start: "Explanation | None" = None


def report_on(view: StreamView, began_at: float, now: float) -> PipelineReport:
    """Report on a stream that began at that time."""
    after_s, busy = now - began_at, view.busy_shares(began_at, now)
    stages = [_of_stage(stage, after_s, busy[stage.number]) for stage in view.stages()]
    bottleneck, reason = _bottleneck(stages, view)
    by_id = {stage.function_id: stage for stage in stages}
    return PipelineReport(after_s, view.in_flight, by_id, bottleneck, reason)


def _of_stage(stage: StageFacts, after_s: float, busy: float) -> StageReport:
    up, given = stage.workers_up, stage.with_workers
    return StageReport(
        function_id=stage.function_id,
        items=stage.ended,
        failed=stage.failed,
        retried=stage.retried,
        items_per_s=stage.ended / after_s if after_s else 0.0,
        busy=busy,
        queued=stage.queued,
        with_workers=given,
        workers=up,
        workers_starting=len(stage.workers) - up,
        waits_for=_waits_for(stage.queued, given, has_workers=bool(up)),
    )


def _waits_for(queued: int, given: int, *, has_workers: bool) -> str:
    if not has_workers:
        return "workers"
    if given:
        return ""
    return "output" if queued else "input"


def _bottleneck(stages: list[StageReport], view: StreamView) -> tuple[FunctionId, str]:
    if not stages:
        return None, "it has no stages"
    starting = next((stage for stage in stages if not stage.workers), None)
    if starting is not None:
        return (
            starting.function_id,
            f"function {repr_of(starting.function_id)} has no worker that takes items",
        )
    with_stages = sum(stage.queued + stage.with_workers for stage in stages)
    if view.in_flight >= view.in_flight_at_most and not with_stages:
        return None, "its results are not taken as fast as they come"
    busiest = max(stages, key=lambda stage: stage.busy)
    if busiest.busy < _BUSY and not any(stage.queued for stage in stages):
        return None, "items are not pushed as fast as its stages could take them"
    return busiest.function_id, (
        f"function {repr_of(busiest.function_id)} is busy for {busiest.busy:.0%} of the time,"
        f" {busiest.queued} item(s) wait for it"
    )


def explain(view: StreamView, starts: Mapping[tuple[Vertex, int], "Explanation"]) -> list[WorkerExplanation]:
    """Explain each worker of a stream. `starts` says of those that have not ended why they are where they are."""
    return [
        WorkerExplanation(
            stage.function_id,
            worker.number,
            worker.state,
            worker.node or None,
            worker.items,
            None if worker.is_up else starts.get((stage.number, worker.number)),
        )
        for stage in view.stages()
        for worker in stage.workers
    ]
