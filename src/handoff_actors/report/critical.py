"""The critical path: the functions that set the length of a run."""

from msgspec import Struct
from msgspec.structs import replace

from handoff_actors.ids import FunctionId, Index
from handoff_actors.report.breakdown import Breakdown
from handoff_actors.report.table import Row, aligned, seconds
from handoff_actors.report.timeline import Timeline
from handoff_actors.text import str_of


class Step(Struct, frozen=True):
    """A function on the critical path, and the time from the end of the one before it until its own."""

    function_id: FunctionId
    node: str
    time: Breakdown


class CriticalPath(Struct, frozen=True):
    """Functions each of which waited for the one before it, up to the last one of the run."""

    steps: tuple[Step, ...]

    @property
    def function_ids(self) -> list[FunctionId]:
        """The ids of its functions, first to last."""
        return [step.function_id for step in self.steps]

    @property
    def time(self) -> Breakdown:
        """The parts of the run's time, until the end of its last function was known. They add up to all of it."""
        return Breakdown.total(step.time for step in self.steps)

    def __str__(self) -> str:
        heads = ("critical path", "node", "ran", "again", "room", "moving", "overhead")
        rows: list[Row] = [
            (str_of(step.function_id), step.node, *map(seconds, _columns(step.time))) for step in self.steps
        ]
        rows.append(("in sum", "", *map(seconds, _columns(self.time))))
        return aligned(heads, rows)


def critical_path_of(timeline: Timeline) -> CriticalPath:
    """Go back from the function that was heard of last to what it waited for, and so on."""
    indices: list[Index] = []
    index = timeline.indices[-1] if timeline.indices else None
    while index is not None:
        indices.append(index)
        producer = timeline.last_producer(index)
        index = producer if producer is not None and timeline.has(producer) else None
    return CriticalPath(tuple(_step(timeline, index) for index in reversed(indices)))


def _step(timeline: Timeline, index: Index) -> Step:
    time = replace(timeline.breakdown(index), inputs_s=0.0)
    return Step(timeline.plan.ids[index], timeline.node_of(index), time)


def _columns(time: Breakdown) -> tuple[float, ...]:
    return time.ran_s, time.retries_s, time.resources_s, time.moving_s, time.overhead_s
