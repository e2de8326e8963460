"""What the report on a stream says of its stages, and of the one that the others wait for."""

from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.graph import Function
from handoff_actors.report.pipeline_report import PipelineReport, explain, report_on
from tests.core.stream.builders import code, ended, failure, new_stream, push, stream_of, up


def reported(stream: StreamMachine, now: float = 10.0) -> PipelineReport:
    return report_on(stream.view, 0.0, now)


def test_report_is_a_table_of_stages_with_the_bottleneck_below() -> None:
    stream = stream_of(Function("quick", ["x"], code), Function("slow\x1b", ["quick"], code))
    for number in (1, 3, 5, 7):
        push(stream)
        stream.handle(ended(1, (number, b"a"), seconds=0.0), 0.0)
    report = reported(stream)

    heads, *rows, _, below = str(report).splitlines()
    assert heads.split() == [
        "stage",
        "items",
        "rate",
        "busy",
        "queued",
        "with",
        "workers",
        "workers",
        "waits",
        "for",
    ]
    assert [row.split()[:2] for row in rows] == [["quick", "4"], [r"slow\x1b", "0"]]
    assert below.startswith("4 items in flight after 10.0 s: ")
    assert "<th" in report._repr_html_()
    assert "\x1b" not in report._repr_html_()


def test_failures_have_columns_where_there_are_any() -> None:
    stream = stream_of(Function("y", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, failure())), 0.0)

    heads, row, *_ = str(reported(stream)).splitlines()
    assert heads.split()[-4:] == ["failed", "retried", "waits", "for"]
    assert row.split()[-3:] == ["1", "0", "input"]


def test_bottleneck_is_a_stage_without_workers_first() -> None:
    stream = new_stream(Function("y", ["x"], code), Function("z", ["y"], code))
    stream.start(0.0)
    stream.handle(up(), 0.0)

    report = reported(stream)

    assert (report.bottleneck, report.reason) == ("z", "function 'z' has no worker that takes items")
    assert [stage.waits_for for stage in report.stages.values()] == ["input", "workers"]
    assert [worker.state for worker in explain(stream.view, {})] == ["waiting", "starting"]


def test_bottleneck_is_the_stage_that_is_busy() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=4.0), 10.0)
    stream.handle(ended(2, (2, b"a"), seconds=0.1), 10.0)

    report = reported(stream)

    assert report.bottleneck == "y"
    assert report.reason == "function 'y' is busy for 80% of the time, 0 item(s) wait for it"


def test_bottleneck_is_the_stage_that_works_on_one_item_for_long() -> None:
    stream = stream_of(Function("y", ["x"], code), Function("z", ["x"], code))
    push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=0.5), 9.0)

    assert reported(stream).bottleneck == "z"


def test_there_is_no_bottleneck_where_pushes_or_whoever_takes_results_are_waited_for() -> None:
    stream = stream_of(Function("y", ["x"], code), in_flight=1)
    assert reported(stream).reason == "items are not pushed as fast as its stages could take them"

    push(stream)
    stream.handle(ended(1, (1, b"a"), seconds=0.1), 0.0)

    assert (reported(stream).bottleneck, reported(stream).reason) == (
        None,
        "its results are not taken as fast as they come",
    )
    assert reported(stream, 0.0).stages["y"].items_per_s == 0.0
