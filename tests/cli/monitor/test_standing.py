"""Tables, plain pictures and lines about nodes, whatever these call themselves."""

import io
import json

import pytest
from msgspec.structs import replace
from rich.console import Console, RenderableType

from handoff_actors.actors.node.cluster_monitor import MonitoredNode
from handoff_actors.cli.monitor.screen import Screen
from handoff_actors.cli.monitor.standing import (
    complaints,
    fields,
    function_rows,
    plain_picture,
    run_rows,
    stage_rows,
    standings,
    summary,
)
from handoff_actors.cli.monitor.tables import (
    live_node_table,
    live_run_table,
    live_stage_table,
    node_table,
    run_table,
    stage_table,
)
from handoff_actors.cli.node import _ready_line
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.members import (
    Advert,
    RunningFunction,
    RunProgress,
    ServedRun,
    StageProgress,
    WarmCopies,
)

#: Sets the title, clears the screen, begins a line of its own and turns what follows around.
HOSTILE = "\x1b]0;title\x07\x1b[2J\n\u202e"
SHOWN = r"\x1b]0;title\x07\x1b[2J\n\u202e"
#: Each begins with a letter of its own.
ADVERT = Advert(
    name=f"n{HOSTILE}",
    incarnation="1",
    seq=1,
    address=f"a{HOSTILE}",
    bus="",
    capabilities={f"r{HOSTILE}": 2.0},
    spare={f"r{HOSTILE}": 1.0},
    workers=1,
    running=1,
    queued=0,
    stored=0,
    leaving=False,
    view=0,
    version="1",
    python="3.11",
)
MEMBER = MonitoredNode(
    ADVERT,
    is_suspect=True,
    runs=[ServedRun(RunId(1), f"o{HOSTILE}", 1, 0, 0, closing=False, dag_name=f"d{HOSTILE}")],
)
REPORTING = MonitoredNode(
    ADVERT,
    is_suspect=False,
    runs=[
        ServedRun(
            RunId(1),
            "app",
            2,
            0,
            0,
            closing=False,
            dag_name=f"d{HOSTILE}",
            reporting=[RunningFunction(f"f{HOSTILE}", 412, 1000), RunningFunction("", 7.5, None)],
        )
    ],
)


def drawn(picture: RenderableType) -> str:
    file = io.StringIO()
    Console(file=file, width=400, force_terminal=True, color_system=None).print(picture)
    return file.getvalue()


def assert_harmless(text: str, *names: str) -> None:
    assert all(line.isprintable() for line in text.split("\n"))
    for name in names:
        assert f"{name}{SHOWN}" in text


def test_plain_pictures_show_names_as_letters() -> None:
    picture = plain_picture([MEMBER])

    assert_harmless(picture, "n", "a", "r", "o", "d")
    assert f"n{SHOWN} (suspect)  a{SHOWN}" in picture
    assert [len(part.splitlines()) for part in picture.split("\n\n")] == [2, 1, 2]


def test_a_node_that_runs_should_not_use_is_marked_with_the_reason() -> None:
    advert = replace(
        ADVERT, name="n2", leaving=True, out_of_use=f"no GPU{HOSTILE}", unreachable=["n3", f"n4{HOSTILE}"]
    )
    member = MonitoredNode(advert, is_suspect=False, runs=None)

    table, wrong = plain_picture([member]).split("\n\n")
    shown = fields(member)

    assert "n2 (leaving) (out of use)" in table
    assert wrong.splitlines() == [f"n2 is out of use: no GPU{SHOWN}", f"n2 can't reach n3, n4{SHOWN}"]
    assert (shown["out_of_use"], shown["unreachable"], shown["answers"]) == (
        advert.out_of_use,
        advert.unreachable,
        False,
    )


def test_nodes_that_are_well_have_no_complaints() -> None:
    member = MonitoredNode(ADVERT, is_suspect=False, runs=())

    assert complaints([member]) == []
    assert (fields(member)["out_of_use"], fields(member)["unreachable"]) == (None, [])


def test_objects_that_workers_keep_are_shown() -> None:
    kept = [WarmCopies(b"key", "load('w.pt')", 2, 1_000_000_000), WarmCopies(b"other", f"m{HOSTILE}", 1, 0)]
    member = MonitoredNode(replace(ADVERT, warm=kept), is_suspect=False, runs=())

    _, lines = plain_picture([member]).split("\n\n")

    assert lines.splitlines() == [
        f"n{SHOWN} keeps load('w.pt') in 2 workers, 1000 MB",
        f"n{SHOWN} keeps m{SHOWN} in 1 worker, 0 MB",
    ]
    assert fields(member)["objects"] == [
        {"name": "load('w.pt')", "workers": 2, "bytes": 1_000_000_000},
        {"name": f"m{HOSTILE}", "workers": 1, "bytes": 0},
    ]


def test_columns_are_as_wide_as_what_is_shown() -> None:
    other = MonitoredNode(replace(ADVERT, name="n2"), is_suspect=False, runs=())

    header, *rows = plain_picture([MEMBER, other]).split("\n\n")[0].splitlines()

    assert {row.index(f"a{SHOWN}") for row in rows} == {header.index("address")}


def test_summary_and_ready_line_show_names_as_letters() -> None:
    assert_harmless(summary([MEMBER]), "r")
    assert_harmless(_ready_line(ADVERT, {}), "n", "a", "r")


def test_tables_show_names_as_letters() -> None:
    assert_harmless(drawn(node_table([MEMBER])), "n", "a", "r")
    assert_harmless(drawn(run_table([MEMBER])), "o", "n", "d")


def test_live_tables_show_names_as_letters() -> None:
    assert_harmless(drawn(live_node_table([MEMBER])), "n", "r")
    runs = drawn(live_run_table(list(standings([MEMBER]).items())))
    assert_harmless(runs, "o", "n")
    # Names of DAGs are cut.
    assert r"d\x1b]0;title\x07" in runs


def test_the_screen_shows_names_as_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    screen = Screen(lambda: None)
    screen._members = [MEMBER]

    assert_harmless(drawn(screen._picture()), "n", "r", "o")


def test_functions_that_report_are_shown_with_their_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    screen = Screen(lambda: None)
    screen._members = [REPORTING]

    rows = function_rows([REPORTING])
    picture = plain_picture([REPORTING]).split("\n\n")[-1]
    live = drawn(screen._picture())

    assert [row[-1] for row in rows] == ["412/1000 (41 %)", "7.5"]
    assert_harmless(picture, "f", "d", "n")
    assert picture.splitlines()[0].split() == ["function", "run", "node", "done"]
    assert_harmless(live, "f", "n")
    assert "412/1000 (41 %)" in live
    assert fields(REPORTING)["runs"][0]["reporting"] == [  # type: ignore[index]
        {"function": f"f{HOSTILE}", "done": 412, "total": 1000},
        {"function": None, "done": 7.5, "total": None},
    ]


def test_progress_of_a_run_is_the_furthest_that_a_node_has_been_told() -> None:
    runs = [
        ServedRun(RunId(1), "app", 1, 0, 0, False, "nightly", progress)
        for progress in (
            None,
            RunProgress(RunId(1), "nightly", 9, 2, 3, 1, 2),
            RunProgress(RunId(1), "nightly", 9, 1, 1, 0),
        )
    ]
    members = [
        MonitoredNode(replace(ADVERT, name=f"n{number}"), is_suspect=False, runs=[run])
        for number, run in enumerate(runs)
    ]

    assert run_rows(members) == [
        ("0" * 15 + "1", "nightly", "app", "n0, n1, n2", "2/9, 3 retried, 1 failed, 2 skipped", "3", "0", "0")
    ]
    assert run_rows(members[:1])[0][4] == "?"


def streaming(items: int) -> MonitoredNode:
    stages = [
        StageProgress(f"s{HOSTILE}", ["n1", f"m{HOSTILE}"], 2, items, 1, 4, 3),
        StageProgress("'last'", [], 0, 0, 0, 0, 0),
    ]
    progress = RunProgress(RunId(1), f"d{HOSTILE}", 2, 0, 0, 0, stages=stages)
    run = ServedRun(RunId(1), "app", 2, 0, 0, False, f"d{HOSTILE}", progress)
    return MonitoredNode(ADVERT, is_suspect=False, runs=[run])


def test_streams_are_shown_by_their_stages() -> None:
    members = [streaming(10), streaming(12)]

    assert stage_rows(members) == [
        (f"s{HOSTILE}", f"d{HOSTILE}", f"n1, m{HOSTILE}", "2", "12, 1 failed", "7"),
        ("'last'", f"d{HOSTILE}", "", "0", "0", "0"),
    ]
    assert run_rows(members)[0][4] == "2 stages"
    for picture in (
        plain_picture(members),
        drawn(stage_table(stage_rows(members))),
        drawn(live_stage_table(stage_rows(members))),
    ):
        assert_harmless(picture, "s", "d", "m")
    screen = Screen(lambda: None)
    screen._members = members
    assert_harmless(drawn(screen._picture()), "s", "m")
    assert fields(members[1])["runs"][0]["progress"]["stages"][0] == {  # type: ignore[index]
        "function": f"s{HOSTILE}",
        "nodes": ["n1", f"m{HOSTILE}"],
        "workers": 2,
        "items": 12,
        "failed": 1,
        "queued": 4,
        "with_workers": 3,
    }


def test_json_has_the_names_themselves() -> None:
    text = json.dumps(fields(MEMBER))

    assert text.isprintable()
    assert json.loads(text)["name"] == f"n{HOSTILE}"
    assert json.loads(text)["runs"][0]["owner"] == f"o{HOSTILE}"
