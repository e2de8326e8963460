import re
from xml.etree import ElementTree as ET

from handoff_actors.report.html_table import FIRST_ROWS, LAST_ROWS, MOST_OF_CELL, paragraph, picked, table
from tests.report.builders import Past, function


def cells(text: str) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in ET.fromstring(text).iter("tr")]


def test_cells_are_escaped_and_have_no_control_characters() -> None:
    text = table(("<b>", "b"), [("<script>alert(1)</script>", "\x1b[2J\n\u202e&"), ("\udcff", "x")])

    assert "<script>" not in text
    assert cells(text) == [["<b>", "b"], ["<script>alert(1)</script>", "\\x1b[2J \\u202e&"], ["\\udcff", "x"]]


def test_a_cell_is_one_short_line() -> None:
    [_, [cell]] = cells(table(("a",), [("line\n" * 10_000_000,)]))

    assert len(cell) <= MOST_OF_CELL
    assert cell.startswith("line line")


def test_long_tables_have_their_ends_and_say_how_much_is_between() -> None:
    shown, left_out = picked(list(range(10_000)))
    rows = cells(table(("a", "b"), [(str(number), "x") for number in shown], left_out))

    assert len(rows) == 1 + FIRST_ROWS + 1 + LAST_ROWS
    assert rows[1 + FIRST_ROWS] == ["... 9,985 more ..."]
    assert rows[-1] == ["9999", "x"]
    assert picked([1, 2]) == ([1, 2], 0)


def test_columns_of_numbers_are_to_the_right() -> None:
    text = table(("name", "ran"), [("f1", "2.00 s"), ("f2", "")])

    assert re.findall("text-align:(left|right)", text) == ["left", "right"] * 3


def test_tables_have_the_colours_of_their_page() -> None:
    assert not re.search("color|background|font", table(("a",), [("b",)]) + paragraph("c"))


def test_a_paragraph_has_lines() -> None:
    assert paragraph("<a>\n\x1bb") == "<p>&lt;a&gt;<br>\\x1bb</p>"


def some(count: int) -> Past:
    past = Past.of(*(function(f"<f{number}>") for number in range(count)))
    for number in range(count):
        past.went(f"<f{number}>", ready=0.0, sent=0.0, received=1.0, ran=1.0)
    return past


def test_a_report_is_the_table_that_it_is_as_text() -> None:
    form = some(2).report._repr_html_()

    rows = cells(f"<div>{form}</div>".replace("<br>", "<br/>"))
    assert [row[:4] for row in rows[1:]] == [["<f0>", "n", "1", "1"], ["<f1>", "n", "1", "1"]]
    assert "critical path: 1.00 s, of which 1.00 s ran: &lt;f1&gt;" in form


def test_a_report_on_many_functions_is_short() -> None:
    form = some(5000).report._repr_html_()

    assert form.count("<tr>") == 2
    assert len(form) < 3000
