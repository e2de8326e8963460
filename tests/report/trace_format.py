"""Checks of what the trace event format demands, and of what a picture of workers needs beyond that."""

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

Event = dict[str, Any]

FIELDS: dict[str, set[str]] = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid"},
    "M": {"name", "pid", "args"},
    "C": {"name", "ts", "pid", "args"},
    "b": {"name", "cat", "id", "ts", "pid"},
    "e": {"name", "cat", "id", "ts", "pid"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ts", "pid", "tid", "bp"},
}
METADATA = {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}
#: Less than the nanosecond to which times are given.
ROUNDING_US = 1e-4


def slices(events: list[Event], category: str | None = None) -> list[Event]:
    return [event for event in events if event["ph"] == "X" and category in {None, event["cat"]}]


def check_trace(trace: dict[str, Any]) -> None:
    """Fails for what is no trace, or shows nonsense."""
    assert trace["displayTimeUnit"] == "ms"
    events = trace["traceEvents"]
    for event in events:
        _check_event(event)
    _check_order(events)
    _check_names(events)
    _check_overlaps(events)
    _check_waits(events)
    _check_arrows(events)


def _check_event(event: Event) -> None:
    assert event.keys() >= FIELDS[event["ph"]], event
    assert isinstance(event["name"], str)
    assert isinstance(event["pid"], int)
    assert isinstance(event.get("tid", 0), int)
    assert all(
        isinstance(event[name], int | float) and event[name] >= 0 for name in ("ts", "dur") if name in event
    )
    if event["ph"] == "M":
        assert event["name"] in METADATA
    if event["ph"] == "C":
        assert all(isinstance(value, int | float) and value >= 0 for value in event["args"].values())


def _check_order(events: list[Event]) -> None:
    times = [event["ts"] for event in events if "ts" in event]
    assert times == sorted(times)


def _check_names(events: list[Event]) -> None:
    named = [event for event in events if event["ph"] == "M"]
    threads = {(event["pid"], event["tid"]) for event in named if event["name"] == "thread_name"}
    processes = {event["pid"] for event in named if event["name"] == "process_name"}
    assert {(event["pid"], event["tid"]) for event in slices(events)} == threads
    assert {event["pid"] for event in events} == processes


def _check_overlaps(events: list[Event]) -> None:
    tracks: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in slices(events):
        tracks[event["pid"], event["tid"]].append(event)
    for track in tracks.values():
        for before, after in pairwise(track):
            assert before["ts"] + before["dur"] <= after["ts"] + ROUNDING_US, (before, after)


def _check_waits(events: list[Event]) -> None:
    open_waits: Counter[tuple[object, ...]] = Counter()
    for event in events:
        if event["ph"] in {"b", "e"}:
            key = (event["cat"], event["id"], event["pid"], event["name"])
            open_waits[key] += 1 if event["ph"] == "b" else -1
            assert open_waits[key] in {0, 1}, event
    assert not +open_waits


def _check_arrows(events: list[Event]) -> None:
    begins = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert begins.keys() == ends.keys()
    for number, begin in begins.items():
        assert begin["ts"] <= ends[number]["ts"]
        assert _is_within_a_slice(begin, events)
        assert _is_within_a_slice(ends[number], events)


def _is_within_a_slice(point: Event, events: list[Event]) -> bool:
    return any(
        event["ts"] <= point["ts"] <= event["ts"] + event["dur"] + ROUNDING_US
        for event in slices(events)
        if (event["pid"], event["tid"]) == (point["pid"], point["tid"])
    )
