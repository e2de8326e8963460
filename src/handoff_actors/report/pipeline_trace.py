"""A stream in the trace event format of Chrome: when the workers of its stages were busy. See `report.trace`."""

import os

from handoff_actors.core.stream.stages.lane import BusySpan
from handoff_actors.core.stream.view import StreamView
from handoff_actors.ids import FunctionId
from handoff_actors.report.trace import Event, event_of, named, span_of, write_events
from handoff_actors.text import str_of


def write_pipeline_trace(
    view: StreamView, dag_id: FunctionId, began_at: float, path: str | os.PathLike[str]
) -> None:
    """Write the busy times of a stream that began then. Raises OSError."""
    spans = list(view.busy_spans)
    id_of = {stage.number: stage.function_id for stage in view.stages()}
    nodes = {node: number for number, node in enumerate(sorted({span.node for span in spans}), 1)}
    workers = sorted({(span.node, span.stage, span.lane) for span in spans})
    thread_of = {worker: number for number, worker in enumerate(workers, 1)}
    events: list[Event] = []
    for node, process in nodes.items():
        events.append(named("process_name", process, 0, name=f"node {node}"))
        events.append(named("process_sort_index", process, 0, sort_index=process))
    for (node, stage, lane), thread in thread_of.items():
        name = f"{str_of(id_of[stage])}, worker {lane}"
        events.append(named("thread_name", nodes[node], thread, name=name))
        events.append(named("thread_sort_index", nodes[node], thread, sort_index=thread))
    slices = [
        _slice(
            span,
            str_of(id_of[span.stage]),
            began_at,
            nodes[span.node],
            thread_of[span.node, span.stage, span.lane],
        )
        for span in spans
    ]
    slices.sort(key=lambda event: (event["ts"], -event["dur"]))
    write_events(path, [*events, *slices], {"dag": str_of(dag_id), "stages": len(id_of)})


def _slice(span: BusySpan, name: str, began_at: float, process: int, thread: int) -> Event:
    times = span_of(max(0.0, span.began_at - began_at), max(0.0, span.ended_at - began_at))
    args = {"items": span.items, "code ran (ms)": round(span.busy_s * 1e3, 6)}
    return event_of("X", name, "stage", process, thread, **times, args=args)
