import pytest

from tests.report.builders import Past, function


def named(*args: object) -> None: ...


def some(count: int) -> Past:
    past = Past.of(*(function(f"f{number}", code=named) for number in range(count)))
    for number in range(count):
        past.went(
            f"f{number}", ready=0.0, sent=0.0, received=number + 1.0, ran=1.0, node=f"n{number % 2}", worker=7
        )
    return past


def test_a_small_run_has_a_row_for_each_function() -> None:
    lines = str(some(2).report).splitlines()

    assert lines[0].split()[:4] == ["function", "node", "worker", "tries"]
    assert [line.split()[:4] for line in lines[1:3]] == [["f0", "n0", "7", "1"], ["f1", "n1", "7", "1"]]
    assert lines[3:5] == ["", "2 functions in 2.00 s on 2 nodes, 2 workers"]
    assert lines[5].startswith("in sum: ran 2.00 s; waited for inputs 0 us")
    assert lines[6] == "critical path: 2.00 s, of which 1.00 s ran: f1"


def test_a_large_run_has_a_row_for_each_code() -> None:
    head, row, *_ = str(some(1000).report).splitlines()

    assert head.split() == [
        "code", "count", "tries", "nodes", "ran", "median", "room", "moving", "overhead", "moved", "in", "results",
    ]  # fmt: skip
    assert row.split()[:8] == ["named", "1000", "1000", "2", "1000", "s", "1.00", "s"]


def test_either_table_can_be_asked_for() -> None:
    report = some(2).report

    assert report.table("code").splitlines()[1].split()[:2] == ["named", "2"]
    assert len(some(100).report.table("function").splitlines()) == 105
    with pytest.raises(ValueError, match="'function', 'code' or None"):
        report.table("node")


def test_functions_that_were_added_by_others_name_them() -> None:
    past = some(2)
    past.plan.parent_of[1] = "f0"

    report = past.report
    head, first, second, *_ = str(report).splitlines()

    assert [report[name].parent for name in ("f0", "f1")] == [None, "f0"]
    assert head.endswith("  parent")
    assert second.endswith("  f0")
    assert len(first) < len(second)
    assert "parent" not in str(some(2).report)


def test_columns_are_aligned() -> None:
    rows = str(some(30).report).splitlines()[:31]

    assert len({row.index(" n") for row in rows}) == 1


def test_a_long_id_is_cut() -> None:
    past = Past.of(function("x" * 500)).went("x" * 500, ready=0.0, sent=0.0, received=1.0, ran=1.0)

    assert max(map(len, past.report.table().splitlines()[:2])) < 200


def test_names_are_letters_and_no_more() -> None:
    hostile = "\x1b[2J\u202ef"
    past = Past.of(function(hostile)).went(
        hostile, ready=0.0, sent=0.0, received=1.0, ran=1.0, node="\x9b2J\x07"
    )

    texts = [past.report.table("function"), past.report.table("code"), str(past.report.critical_path)]

    assert all(line.isprintable() for text in texts for line in text.split("\n"))
    assert texts[0].splitlines()[1].split()[:2] == [r"\x1b[2J\u202ef", r"\x9b2J\x07"]
    assert texts[0].endswith(r": \x1b[2J\u202ef")
    assert list(past.report) == [hostile]


def test_a_long_critical_path_is_cut_in_the_middle() -> None:
    past = Past.of(*(function(f"f{number}", [f"f{number - 1}"] if number else []) for number in range(50)))
    for number in range(50):
        past.went(f"f{number}", ready=number, sent=number, received=number + 1.0, ran=1.0)

    assert str(past.report).endswith("f0 > f1 > f2 > ... 44 more ... > f47 > f48 > f49")
    assert len(str(past.report.critical_path).splitlines()) == 52


def test_report_says_what_the_app_has_relayed_between_which_nodes() -> None:
    past = Past.of(function("x"), function("y", ["x"]))
    past.went("x", ready=0.0, sent=0.0, received=0.1, ran=0.1, node="a", value=2_000_000)
    past.state.note_relay(0, "a", "b")
    past.went("y", ready=0.1, sent=0.1, received=0.3, ran=0.1, node="b")

    assert past.report.relayed_nbytes == 2_000_000
    assert "the app relayed 2.00 MB from node 'a' to node 'b', which gets no connection to it" in str(
        past.report
    )
