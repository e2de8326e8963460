"""The tracks of a run's picture: for each node, one for each worker, and some for the values that it fetched."""

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import TypeVar

from msgspec import Struct

from handoff_actors.core.run.facts.state import APP, Transfer
from handoff_actors.ids import Index
from handoff_actors.report.timeline import Timeline, WorkerKey

#: The name of the app's own track.
APP_NAME = "app"

T = TypeVar("T")


class WorkerTrack(Struct, frozen=True):
    """Functions that ran one after the other."""

    node: str
    name: str
    functions: tuple[Index, ...]


class TransferTrack(Struct, frozen=True):
    """Values that were brought to a node, or to the app, one after the other."""

    node: str
    name: str
    transfers: tuple[Transfer, ...]


Track = WorkerTrack | TransferTrack


def tracks_of(timeline: Timeline) -> list[Track]:
    """All tracks, by node, in the order of their names; the app's comes last."""
    tracks: list[Track] = [track for worker in timeline.workers for track in _of_worker(timeline, worker)]
    tracks += _of_transfers(timeline.transfers)
    return sorted(tracks, key=lambda track: (track.node == APP_NAME, track.node))


def _of_worker(timeline: Timeline, worker: WorkerKey) -> Iterator[WorkerTrack]:
    # Coroutines of one worker overlap; those that don't share a track.
    lanes = _lanes(
        timeline.workers[worker], lambda index: (timeline.started_at[index], timeline.ended_at[index])
    )
    for number, lane in enumerate(lanes):
        suffix = f", {number + 1}" if number else ""
        yield WorkerTrack(worker.node, f"worker {worker.pid}{suffix}", lane)


def _of_transfers(transfers: Iterable[Transfer]) -> Iterator[TransferTrack]:
    by_place: dict[str, list[Transfer]] = {}
    for transfer in transfers:
        by_place.setdefault(APP_NAME if transfer.node == APP else transfer.node, []).append(transfer)
    for node, fetched in sorted(by_place.items()):
        for number, lane in enumerate(_lanes(fetched, lambda entry: (entry.began_at, entry.ended_at))):
            yield TransferTrack(node, f"brought in{f', {number + 1}' if number else ''}", lane)


def _lanes(entries: Iterable[T], span: Callable[[T], tuple[float, float]]) -> list[tuple[T, ...]]:
    """Put what overlaps into different lanes, as few as can be."""
    lanes: list[list[T]] = []
    free: list[tuple[float, int]] = []
    for entry in sorted(entries, key=span):
        began_at, ended_at = span(entry)
        if free and free[0][0] <= began_at:
            _, number = heappop(free)
        else:
            number = len(lanes)
            lanes.append([])
        lanes[number].append(entry)
        heappush(free, (ended_at, number))
    return [tuple(lane) for lane in lanes]
