"""A run as a picture: workers from top to bottom, time from left to right, a colour for each code."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from handoff_actors.core.run.facts.state import Transfer
from handoff_actors.escaping import escape_name
from handoff_actors.ids import Index
from handoff_actors.report.naming import code_of
from handoff_actors.report.report import Report
from handoff_actors.report.timeline import Timeline
from handoff_actors.report.tracks import Track, TransferTrack, tracks_of
from handoff_actors.text import encodable, shortened, str_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

#: Codes that have a colour and a line in the legend of their own, those that ran longest.
MOST_CODES: Final = 9
OTHERS: Final = "others"
TRANSFERS: Final = "values brought in"
#: Characters of a name.
MOST_OF_NAME: Final = 40
ROW_INCHES: Final = 0.35
#: A picture of more rows has flatter ones, and names for some of them.
MOST_ROWS_OF_FULL_HEIGHT: Final = 40
HEIGHT: Final = 0.8
#: Parts of the time shown; a shorter bar could not be seen.
NARROWEST: Final = 1 / 2000
#: Points of a bar for each point of the edges that part it from its neighbours, and points of the widest edge.
POINTS_PER_EDGE_POINT: Final = 8.0
WIDEST_EDGE: Final = 1.0
#: Points: the size of letters within bars, and their mean width.
LABEL_SIZE: Final = 7.0
LETTER_WIDTH: Final = 0.65 * LABEL_SIZE
#: Letters; a shorter rest of an id says nothing.
SHORTEST_LABEL: Final = 3


class Bar(NamedTuple):
    """Something that took time in a row."""

    row: int
    began_at: float
    width: float
    #: The key of its look.
    name: str
    label: str


class DrawingArea(NamedTuple):
    """The axes to draw on, and how large they will be."""

    axes: "Axes"
    points_per_second: float
    row_points: float


def plot(report: Report, axes: "Axes | None" = None) -> "Axes":
    """Draw the timeline of a run, on `axes` or on a figure of its own. Raises ImportError without matplotlib."""
    timeline = report.timeline
    tracks = tracks_of(timeline)
    axes = _fresh_axes(len(tracks)) if axes is None else axes
    colours = _colours([entry.code for entry in report.by_code])
    length_s = max(report.duration_s, 1e-6)
    bars = [
        bar for row, track in enumerate(tracks) for bar in _bars_of(timeline, row, track, colours, length_s)
    ]
    area = _measured(axes, length_s, len(tracks))
    _draw_bars(area, bars, colours)
    _draw_labels(area, bars)
    # With a margin, as the last bars may be shown longer than they are.
    axes.set_xlim(0.0, 1.01 * length_s)
    _name_rows(area, tracks)
    axes.set_xlabel("seconds since the run began")
    axes.set_title(repr(report).strip("<>").removeprefix("Report: "))
    _add_legend(axes, {bar.name for bar in bars}, colours)
    return axes


def _fresh_axes(rows: int) -> "Axes":
    try:
        from handoff_actors.report.figure import fresh_axes  # noqa: PLC0415 - an extra
    except ImportError as error:
        from handoff_actors.extras import how_to_install  # noqa: PLC0415 - few programs need it

        raise ImportError(f"run.plot() needs matplotlib: {how_to_install('plot')}") from error
    return fresh_axes(10.0, 1.5 + ROW_INCHES * min(max(1, rows), MOST_ROWS_OF_FULL_HEIGHT))


def _colours(codes: list[str]) -> dict[str, dict[str, Any]]:
    named = {code: {"facecolor": f"C{number}"} for number, code in enumerate(codes[:MOST_CODES])}
    return {
        **named,
        OTHERS: {"facecolor": "lightgrey"},
        TRANSFERS: {"facecolor": "none", "edgecolor": "black", "hatch": "////"},
    }


# --- Bars -----------------------------------------------------------------------------------------------------------


def _bars_of(
    timeline: Timeline, row: int, track: Track, colours: Mapping[str, object], length_s: float
) -> Iterator[Bar]:
    narrowest = NARROWEST * length_s
    if isinstance(track, TransferTrack):
        for transfer in track.transfers:
            yield Bar(row, transfer.began_at, max(_width(transfer), narrowest), TRANSFERS, "")
        return
    for index in track.functions:
        code = code_of(timeline.plan, index)
        name = code if code in colours else OTHERS
        began_at = timeline.started_at[index]
        width = max(timeline.ended_at[index] - began_at, narrowest)
        yield Bar(row, began_at, width, name, _id(timeline, index))


def _width(transfer: Transfer) -> float:
    return transfer.ended_at - transfer.began_at


def _id(timeline: Timeline, index: Index) -> str:
    return _shown(str_of(timeline.plan.ids[index], MOST_OF_NAME))


def _shown(text: str) -> str:
    return shortened(escape_name(encodable(text)), MOST_OF_NAME)


def _measured(axes: "Axes", length_s: float, rows: int) -> DrawingArea:
    box, dpi = axes.bbox, axes.figure.dpi
    width, height = (72.0 * pixels / dpi for pixels in (box.width, box.height))
    return DrawingArea(axes, width / length_s, HEIGHT * height / max(1, rows))


def _draw_bars(area: DrawingArea, bars: Sequence[Bar], colours: Mapping[str, dict[str, Any]]) -> None:
    from matplotlib.collections import PolyCollection  # noqa: PLC0415 - an extra

    groups: dict[str, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar.name, []).append(bar)
    for name, group in groups.items():
        edges = [_edge(area, bar) for bar in group]
        look = {"edgecolor": "white", **colours[name]}
        area.axes.add_collection(PolyCollection([*map(_corners, group)], linewidths=edges, **look))


def _edge(area: DrawingArea, bar: Bar) -> float:
    # Edges of a fixed width would cover bars that are narrower.
    thickness = min(bar.width * area.points_per_second, area.row_points)
    return min(WIDEST_EDGE, thickness / POINTS_PER_EDGE_POINT)


def _corners(bar: Bar) -> list[tuple[float, float]]:
    left, right = bar.began_at, bar.began_at + bar.width
    top, bottom = bar.row - HEIGHT / 2, bar.row + HEIGHT / 2
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _draw_labels(area: DrawingArea, bars: Sequence[Bar]) -> None:
    if area.row_points < LABEL_SIZE:
        return
    # Without `parse_math`, a dollar in an id does not begin a formula, which may be wrong.
    look: dict[str, Any] = {
        "size": LABEL_SIZE,
        "ha": "center",
        "va": "center",
        "clip_on": True,
        "parse_math": False,
    }
    for bar in bars:
        room = int(bar.width * area.points_per_second / LETTER_WIDTH) - 1
        label = bar.label if len(bar.label) <= room else f"{bar.label[: max(0, room - 1)]}…"
        if len(label) > SHORTEST_LABEL or label == bar.label:
            area.axes.text(bar.began_at + bar.width / 2, bar.row, label, **look)


# --- Names ----------------------------------------------------------------------------------------------------------


def _name_rows(area: DrawingArea, tracks: Sequence[Track]) -> None:
    axes, rows = area.axes, len(tracks)
    every = 1 + rows // MOST_ROWS_OF_FULL_HEIGHT
    named = range(0, rows, every)
    labels = [_shown(f"{tracks[row].node}: {tracks[row].name}") for row in named]
    axes.set_yticks(named, labels, parse_math=False)
    axes.set_ylim(max(rows, 1) - 0.5, -0.5)


def _add_legend(axes: "Axes", names: set[str], colours: Mapping[str, dict[str, Any]]) -> None:
    if not names:
        return
    from matplotlib.patches import Patch  # noqa: PLC0415 - an extra

    shown = [name for name in colours if name in names]
    # A legend leaves out labels that begin with a low line, as names of functions may: they get theirs afterwards.
    patches = [Patch(**colours[name], label=str(number)) for number, name in enumerate(shown)]
    legend = axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    label: Text
    for name, label in zip(shown, legend.get_texts(), strict=True):
        label.set_text(_shown(name))
        label.set_parse_math(False)
