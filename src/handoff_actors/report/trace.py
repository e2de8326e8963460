"""A run in the trace event format of Chrome, which Perfetto and speedscope open.

Nodes are processes, workers their threads; what was brought to a node has a thread of its own. Waiting is shown as
asynchronous slices, and arrows lead from producers to consumers, and from functions that have returned graphs to the
functions in these: both only where there are not too many functions to see any. Times are microseconds since the run began, to the nanosecond.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from handoff_actors.ids import Index
from handoff_actors.report.breakdown import Breakdown
from handoff_actors.report.naming import code_of
from handoff_actors.report.report import Report
from handoff_actors.report.timeline import Timeline
from handoff_actors.report.tracks import APP_NAME, Track, TransferTrack, WorkerTrack, tracks_of
from handoff_actors.text import str_of

#: Runs of more functions show how many wait, not each that does.
MOST_WAITS = 2000
#: Runs with more uses of results than these show no arrows.
MOST_ARROWS = 2000

#: As the format has them: JSON objects.
Event = dict[str, Any]


def write_trace(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a run as a trace. Raises OSError."""
    timeline = report.timeline
    write_events(path, events_of(timeline), {"dag": str_of(timeline.plan.dag_id), "functions": len(report)})


def write_events(path: str | os.PathLike[str], events: Iterable[Event], about: dict[str, Any]) -> None:
    """Write events as a trace, with facts about all of it. Raises OSError."""
    lines = ",\n".join(map(json.dumps, events))
    other = json.dumps(about)
    text = f'{{"displayTimeUnit": "ms", "otherData": {other}, "traceEvents": [\n{lines}\n]}}\n'
    Path(path).write_text(text, encoding="utf-8")


def events_of(timeline: Timeline) -> list[Event]:
    """Every event, names first, then in the order of time."""
    trace = _Trace(timeline)
    events = [*trace.slices(), *trace.counts()]
    if len(timeline.indices) <= MOST_WAITS:
        events += trace.waits()
    uses = sum(len(timeline.plan.producers[index]) for index in timeline.indices)
    if uses + len(timeline.added_by) <= MOST_ARROWS:
        events += trace.arrows()
    # A slice that ends goes before one that begins at the same time, and the longer of two slices first.
    events.sort(key=lambda event: (event["ts"], event["ph"] != "e", -event.get("dur", 0.0)))
    return [*trace.names(), *events]


class _Trace:
    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._tracks = tracks_of(timeline)
        nodes = dict.fromkeys([APP_NAME, *(track.node for track in self._tracks)])
        self._processes = {node: number for number, node in enumerate(nodes, 1)}
        self._places: dict[Index, tuple[int, int]] = {}
        for thread, track in enumerate(self._tracks, 1):
            if isinstance(track, WorkerTrack):
                place = (self._processes[track.node], thread)
                self._places.update(dict.fromkeys(track.functions, place))

    def names(self) -> Iterator[Event]:
        for node, process in self._processes.items():
            name = node if node == APP_NAME else f"node {node}"
            yield named("process_name", process, 0, name=name)
            yield named("process_sort_index", process, 0, sort_index=process)
        for thread, track in enumerate(self._tracks, 1):
            process = self._processes[track.node]
            yield named("thread_name", process, thread, name=track.name)
            yield named("thread_sort_index", process, thread, sort_index=thread)

    def slices(self) -> Iterator[Event]:
        for thread, track in enumerate(self._tracks, 1):
            yield from self._slices_of(track, self._processes[track.node], thread)

    def _slices_of(self, track: Track, process: int, thread: int) -> Iterator[Event]:
        timeline = self._timeline
        if isinstance(track, TransferTrack):
            for transfer in track.transfers:
                name = f"brings {self._name(transfer.index)}"
                span = span_of(transfer.began_at, transfer.ended_at)
                args = {"nbytes": transfer.nbytes}
                yield event_of("X", name, "transfer", process, thread, **span, args=args)
            return
        for index in track.functions:
            span = span_of(timeline.started_at[index], timeline.ended_at[index])
            code = code_of(timeline.plan, index)
            parent = timeline.parent(index)
            named = {"code": code} | ({} if parent is None else {"parent": str_of(parent)})
            parts = _in_ms(timeline.breakdown(index))
            yield event_of("X", self._name(index), "function", process, thread, **span, args=named | parts)

    def waits(self) -> Iterator[Event]:
        """Show the waits of each function before it began."""
        timeline = self._timeline
        for index in timeline.indices:
            process, _ = self._places[index]
            inputs_at, sent_at = timeline.inputs_at[index], timeline.sent_at[index]
            added_at = min(timeline.added_at(index), inputs_at)
            moments = (added_at, inputs_at, sent_at, timeline.started_at[index])
            whats = ("waits for inputs", "waits to be sent", "waits on its node")
            for what, began_at, ended_at in zip(whats, moments[:-1], moments[1:], strict=True):
                if _microseconds(began_at) < _microseconds(ended_at):
                    name = f"{self._name(index)} {what}"
                    common: Event = {
                        "name": name,
                        "cat": "waiting",
                        "id": str(index),
                        "pid": process,
                        "tid": 0,
                    }
                    yield {"ph": "b", "ts": _microseconds(began_at), **common}
                    yield {"ph": "e", "ts": _microseconds(ended_at), **common}

    def counts(self) -> Iterator[Event]:
        """Count the functions that wait with all inputs there, and those that run."""
        timeline = self._timeline
        changes: dict[float, list[int]] = {}
        for index in timeline.indices:
            for moment, waiting, running in (
                (timeline.ready_at[index], 1, 0),
                (timeline.started_at[index], -1, 1),
                (timeline.ended_at[index], 0, -1),
            ):
                change = changes.setdefault(_microseconds(moment), [0, 0])
                change[0] += waiting
                change[1] += running
        waiting = running = 0
        for moment, change in sorted(changes.items()):
            waiting, running = waiting + change[0], running + change[1]
            values = {"waiting": waiting, "running": running}
            yield {
                "ph": "C",
                "name": "functions",
                "pid": self._processes[APP_NAME],
                "tid": 0,
                "ts": moment,
            } | {"args": values}

    def arrows(self) -> Iterator[Event]:
        """Draw an arrow from each function to those that take its result, and to those that it has added."""
        timeline, number = self._timeline, 0
        for index in timeline.indices:
            adder = timeline.added_by.get(index)
            pairs = [("result", producer) for producer in timeline.plan.producers[index]]
            for name, begin in [*pairs, *([] if adder is None else [("parent", adder)])]:
                if begin in self._places:
                    number += 1
                    yield from self._arrow(name, number, begin, index)

    def _arrow(self, name: str, number: int, begin: Index, end: Index) -> Iterator[Event]:
        timeline = self._timeline
        # An arrow belongs to the slice that its ends are within.
        middle = _microseconds((timeline.started_at[begin] + timeline.ended_at[begin]) / 2)
        began_at = _microseconds(timeline.started_at[end])
        yield event_of("s", name, name, *self._places[begin], ts=middle, id=number)
        yield event_of("f", name, name, *self._places[end], ts=began_at, id=number, bp="e")

    def _name(self, index: Index) -> str:
        ids = self._timeline.plan.ids
        return str(ids[index]) if index < len(ids) else "constants"


def named(what: str, process: int, thread: int, **args: str | int) -> Event:
    """Return an event that gives a process or a thread its name or place."""
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": args}


def event_of(phase: str, name: str, category: str, process: int, thread: int, **more: Any) -> Event:
    """Return an event of a thread."""
    return {"ph": phase, "name": name, "cat": category, "pid": process, "tid": thread, **more}


def span_of(began_at: float, ended_at: float) -> dict[str, float]:
    """Return the fields of a slice for its time."""
    # Both ends are rounded first, so that slices that touch do not overlap by a rounding.
    began_ns, ended_ns = round(began_at * 1e9), round(ended_at * 1e9)
    return {"ts": began_ns / 1000, "dur": (ended_ns - began_ns) / 1000}


def _microseconds(moment: float) -> float:
    return round(moment * 1e9) / 1000


def _in_ms(time: Breakdown) -> dict[str, Any]:
    return {
        "waited for inputs (ms)": round(time.inputs_s * 1e3, 6),
        "tried again (ms)": round(time.retries_s * 1e3, 6),
        "waited for room (ms)": round(time.resources_s * 1e3, 6),
        "moving (ms)": round(time.moving_s * 1e3, 6),
        "overhead (ms)": round(time.overhead_s * 1e3, 6),
    }
