"""The picture of a DAG in a notebook: lines run around boxes, and have heads."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from handoff_actors.graph import DAG, Argument, Function, collocated
from tests.graph.pictures.geometry import Picture, Rectangle


def add(*values: Any) -> Any:
    return sum(values)


@st.composite
def dags(draw: st.DrawFn) -> DAG:
    """DAGs with every kind of line, and now and then with cycles and missing functions."""
    size = draw(st.integers(1, 30))
    reach = size if draw(st.booleans()) else 0
    functions = []
    for number in range(size):
        most = max(number + reach // 4, 1)
        producers = draw(st.lists(st.integers(0, most - 1), max_size=4)) if most > 1 else []
        hooked = draw(st.booleans())
        args = [Argument(producer, serialize=add) if hooked else producer for producer in producers]
        partner = draw(st.none() | st.integers(0, size))
        place = None if partner is None else collocated(partner)
        functions.append(Function(number, args, add, node=place))
    return DAG("some").add_functions(functions)


def check(picture: Picture) -> None:
    """No line touches a box beside its own, nothing overlaps, all is within the picture, and arrows end at boxes."""
    for one, other in combinations(picture.boxes, 2):
        assert apart(one, other), (one, other)
    for way in picture.ways:
        ends = {number for number, box in enumerate(picture.boxes) if is_at(box, way[0], way[-1])}
        assert ends
        for number, box in enumerate(picture.boxes):
            if number not in ends:
                assert not any(box.contains(point, margin=2.0) for point in way), (box, way)
            else:
                assert not any(box.contains(point, margin=-0.2) for point in way), (box, way)
    width, height = picture.size()
    points = [point for way in picture.ways for point in way]
    points += [(box.right, box.bottom) for box in picture.boxes]
    assert all(0 <= across <= width and 0 <= down <= height for across, down in points)
    for tip in picture.tips:
        assert any(is_at(box, tip) for box in picture.boxes)


def apart(one: Rectangle, other: Rectangle) -> bool:
    return (
        one.right + 2 < other.left
        or other.right + 2 < one.left
        or one.bottom < other.top
        or other.bottom < one.top
    )


def is_at(box: Rectangle, *points: tuple[float, float]) -> bool:
    # A line ends where the head of its arrow begins.
    return any(box.contains(point, margin=8.5) for point in points)


@given(dags())
@settings(max_examples=40, deadline=None)
def test_no_line_runs_through_a_box_that_is_not_its_own(dag: DAG) -> None:
    picture = Picture.of(dag, fold=False)

    assert len(picture.boxes) >= len(dag)
    check(picture)


@given(dags())
@settings(max_examples=30, deadline=None)
def test_nor_does_one_in_a_folded_picture(dag: DAG) -> None:
    check(Picture.of(dag, fold=True))


@pytest.mark.parametrize("size", [9, 60, 120])
def test_nor_where_many_lines_lead_to_one_box(size: int) -> None:
    dag = DAG().add_functions(Function(number, [], add) for number in range(size))
    dag.add_function(Function("sum", list(range(size)), add))

    picture = Picture.of(dag, fold=False)

    check(picture)
    assert len(picture.tips) == size
    # Rows of boxes rather than one that is too wide to be read.
    assert max(box.right for box in picture.boxes) < 150 * max(10, size / 6)


def test_every_line_but_collocation_has_a_head_at_its_consumer() -> None:
    dag = DAG().add_functions(
        [
            Function("a", [], add),
            Function("b", ["a"], add),
            Function("c", ["a", Argument("b", serialize=add)], add, node=collocated("a")),
        ]
    )

    picture = Picture.of(dag)

    boxes = dict(zip(picture.labels(), picture.boxes, strict=True))
    assert len(picture.ways) == 4
    assert sorted(tip[1] for tip in picture.tips) == [boxes["b"].top, boxes["c"].top, boxes["c"].top]
    assert sorted(title for title in picture.titles() if "(" not in title) == ["collocated", "hook"]


def test_lines_with_the_same_ends_are_beside_one_another() -> None:
    dag = DAG().add_functions(
        [Function("a", [], add), Function("b", ["a"], add, node=collocated("a")), Function("c", ["b"], add)]
    )

    starts = [way[0] for way in Picture.of(dag).ways]

    assert len(set(starts)) == 3


def test_a_line_within_a_row_runs_below_the_boxes_that_stand_between_its_ends() -> None:
    names = ["a", "between", "b"]
    functions = [Function(name, [], add, node=collocated("a") if name == "b" else None) for name in names]

    picture = Picture.of(DAG().add_functions(functions))

    check(picture)
    boxes = dict(zip(picture.labels(), picture.boxes, strict=True))
    [way] = picture.ways
    assert {way[0], way[-1]} == {((box.left + box.right) / 2, box.bottom) for box in (boxes["a"], boxes["b"])}
    assert max(down for _, down in way) > boxes["between"].bottom
    assert picture.tips == []


def test_a_line_within_a_row_moves_no_box() -> None:
    def picture(place: Any) -> Picture:
        functions = [Function("a", [], add), Function("b", [], add, node=place)]
        functions += [Function(f"{name}{number}", [name], add) for name in "ab" for number in range(3)]
        return Picture.of(DAG().add_functions(functions))

    without, with_line = picture(None), picture(collocated("a"))

    assert len(with_line.ways) == len(without.ways) + 1
    assert with_line.boxes == without.boxes


def test_a_cycle_is_drawn_with_its_arrows() -> None:
    ring = DAG().add_functions(
        [Function("a", ["c"], add), Function("b", ["a"], add), Function("c", ["b"], add)]
    )

    picture = Picture.of(ring)

    check(picture)
    # One of the three leads upwards, to the lower side of its box.
    below = [any(tip[1] == box.bottom for box in picture.boxes) for tip in picture.tips]
    assert sorted(below) == [False, False, True]


def test_a_function_that_takes_its_own_result_has_a_loop() -> None:
    picture = Picture.of(DAG().add_functions([Function("a", ["a"], add), Function("b", ["a"], add)]))

    check(picture)
    assert len(picture.ways) == len(picture.tips) == 2


def test_boxes_are_as_wide_as_their_labels() -> None:
    dag = DAG().add_functions(
        [Function("a", [], add), Function("x" * 18, [], add), Function("日本" * 9, [], add)]
    )

    widths = [box.right - box.left for box in Picture.of(dag).boxes]

    assert widths == sorted(widths)
    assert len(set(widths)) == 3


def test_a_notebook_gets_svg_and_mermaid_of_the_same_drawing() -> None:
    dag = DAG("some").add_functions([Function("a", [], add), Function("b", ["a"], add)])

    bundle = dag._repr_mimebundle_(include=None, exclude=None)

    assert bundle == {
        "text/plain": "<DAG 'some': 2 function(s)>",
        "image/svg+xml": dag.to_svg(),
        "text/vnd.mermaid": dag.to_mermaid(),
    }
