"""A run as a picture: workers from top to bottom, time from left to right, a colour for each code."""

from typing import TYPE_CHECKING, Any

from handoff_actors.ids import Index
from handoff_actors.report.naming import code_of
from handoff_actors.report.report import Report
from handoff_actors.report.timeline import Timeline
from handoff_actors.report.tracks import Track, TransferTrack, tracks_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Codes that have a colour and a line in the legend of their own, those that ran longest.
MOST_CODES = 9
OTHERS = "others"
TRANSFERS = "values brought in"
ROW_INCHES = 0.35
HEIGHT = 0.8


def plot(report: Report, axes: "Axes | None" = None) -> "Axes":
    """Draw the timeline of a run, on `axes` or on a figure of its own. Raises ImportError without matplotlib."""
    timeline = report.timeline
    tracks = tracks_of(timeline)
    axes = _fresh_axes(len(tracks)) if axes is None else axes
    colours = _colours([entry.code for entry in report.by_code])
    for row, track in enumerate(tracks):
        for name, spans in _spans_by_name(timeline, track, colours).items():
            axes.broken_barh(spans, (row - HEIGHT / 2, HEIGHT), label=name, **colours[name])
    axes.set_yticks(range(len(tracks)), [f"{track.node}: {track.name}" for track in tracks])
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the run began")
    axes.set_title(repr(report).strip("<>").removeprefix("Report: "))
    handles, labels = axes.get_legend_handles_labels()
    legend = dict(zip(labels, handles, strict=True))
    if legend:
        axes.legend(legend.values(), legend.keys(), loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axes


def _fresh_axes(rows: int) -> "Axes":
    try:
        # Not pyplot, which keeps every figure and chooses a screen.
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        from handoff_actors.extras import how_to_install  # noqa: PLC0415 - few programs need it

        raise ImportError(f"run.plot() needs matplotlib: {how_to_install('plot')}") from error
    figure = Figure(figsize=(10.0, 1.5 + ROW_INCHES * max(1, rows)), layout="constrained")
    return figure.add_subplot()


def _colours(codes: list[str]) -> dict[str, dict[str, Any]]:
    named = {code: {"facecolor": f"C{number}"} for number, code in enumerate(codes[:MOST_CODES])}
    return {
        **named,
        OTHERS: {"facecolor": "lightgrey"},
        TRANSFERS: {"facecolor": "none", "edgecolor": "black", "hatch": "////"},
    }


def _spans_by_name(
    timeline: Timeline, track: Track, colours: dict[str, dict[str, Any]]
) -> dict[str, list[tuple[float, float]]]:
    if isinstance(track, TransferTrack):
        spans = [(transfer.began_at, transfer.ended_at - transfer.began_at) for transfer in track.transfers]
        return {TRANSFERS: spans}
    by_name: dict[str, list[tuple[float, float]]] = {}
    for index in track.functions:
        code = code_of(timeline.plan, index)
        by_name.setdefault(code if code in colours else OTHERS, []).append(_span(timeline, index))
    return by_name


def _span(timeline: Timeline, index: Index) -> tuple[float, float]:
    return timeline.started_at[index], timeline.ended_at[index] - timeline.started_at[index]
