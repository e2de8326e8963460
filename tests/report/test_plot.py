"""The picture of a run, as matplotlib is told to draw it."""

from io import BytesIO
from typing import Any

import pytest
from matplotlib.collections import PolyCollection

from handoff_actors.report.plot import MOST_CODES, plot
from tests.report.builders import Past, async_code, function


def code_named(name: str) -> Any:
    def code(*args: object) -> None: ...

    code.__qualname__ = name
    return code


def some(count: int, names: list[str], rows: int = 2) -> Past:
    codes = [code_named(name) for name in names]
    past = Past.of(*(function(f"$f{number}", code=codes[number % len(codes)]) for number in range(count)))
    for number in range(count):
        past.went(
            f"$f{number}",
            ready=0.0,
            sent=0.0,
            received=1.0 + number // rows,
            ran=1.0,
            node="n$",
            worker=number % rows,
        )
    return past


def bars(axes: Any) -> list[Any]:
    return [drawn for drawn in axes.collections if isinstance(drawn, PolyCollection)]


def draw(axes: Any) -> bytes:
    written = BytesIO()
    axes.figure.savefig(written, format="png")
    return written.getvalue()


def test_each_function_is_a_bar_with_its_name_and_an_edge() -> None:
    axes: Any = plot(some(4, ["load", "train"]).report)

    assert [text.get_text() for text in axes.texts] == ["$f0", "$f2", "$f1", "$f3"]
    assert [len(group.get_paths()) for group in bars(axes)] == [2, 2]
    assert {float(width) for group in bars(axes) for width in group.get_linewidths()} == {1.0}
    assert draw(axes)


def test_of_many_functions_edges_leave_something_to_see_and_labels_stay_out() -> None:
    axes: Any = plot(some(5000, ["load", "train"]).report)

    assert len(axes.texts) == 0
    assert max(width for group in bars(axes) for width in group.get_linewidths()) < 0.1
    assert draw(axes)


def test_a_legend_names_the_longest_codes_whatever_they_are_called() -> None:
    names = ["_private", "$x$", "<lambda>", "x" * 200, *(f"code{number}" for number in range(20))]

    axes: Any = plot(some(48, names).report)

    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(shown) == MOST_CODES + 1
    assert {"_private", "$x$", "<lambda>", "others"} <= set(shown)
    assert max(map(len, shown)) == 40
    assert draw(axes)


def test_a_thousand_rows_are_still_a_picture_with_some_of_their_names() -> None:
    past = Past.of(*(function(f"f{number}", code=async_code) for number in range(3000)))
    for number in range(3000):
        past.went(f"f{number}", ready=0.0, sent=0.0, received=1.0 + number / 1e6, ran=1.0)

    axes: Any = plot(past.report)

    assert axes.figure.get_figheight() < 20
    assert len(axes.get_yticks()) <= 41
    assert draw(axes)


def test_a_quick_function_beside_a_long_one_can_be_seen() -> None:
    past = Past.of(function("long"), function("quick"))
    past.went("long", ready=0.0, sent=0.0, received=1000.0, ran=1000.0, worker=1)
    past.went("quick", ready=0.0, sent=0.0, received=1.0, ran=1e-6, worker=2)

    [group] = bars(plot(past.report))

    widths = [path.get_extents().width for path in group.get_paths()]
    assert min(widths) == pytest.approx(0.5)


def test_a_run_of_nothing_has_a_picture() -> None:
    axes: Any = plot(Past.of(function("a")).report)

    assert axes.get_legend() is None
    assert draw(axes)
