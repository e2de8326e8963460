from handoff_actors.core.stream.activity import MOST_SPANS, Activity
from handoff_actors.core.stream.stages.lane import BusySpan, Lane
from handoff_actors.graph import Function
from tests.core.stream.builders import code, ended, generated, generator, place, push, stream_of, up


def test_answers_that_follow_closely_make_one_span() -> None:
    activity, lane = Activity(), Lane(0, place())

    activity.worked(1, lane, 0.002, 10, 1.0)
    activity.worked(1, lane, 0.004, 20, 1.004)
    activity.worked(1, lane, 0.003, 5, 1.0105)
    activity.worked(1, lane, 0.001, 1, 2.0)

    assert [(span.began_at, span.ended_at, span.items, span.busy_s) for span in activity.spans] == [
        (0.998, 1.004, 30, 0.006),
        (1.0105 - 0.003, 1.0105, 5, 0.003),
        (1.999, 2.0, 1, 0.001),
    ]


def test_spans_of_a_worker_do_not_overlap() -> None:
    activity, lane = Activity(), Lane(0, place())

    activity.worked(1, lane, 1.0, 1, 1.0)
    activity.worked(1, lane, 3.0, 4, 2.0)

    assert list(activity.spans) == [
        BusySpan(1, 0, "a", 0.0, 1.0, 1.0, 1),
        BusySpan(1, 0, "a", 1.0, 2.0, 3.0, 4),
    ]


def test_latest_spans_are_kept() -> None:
    activity, lane = Activity(), Lane(0, place())
    for second in range(MOST_SPANS + 5):
        activity.worked(1, lane, 0.5, 1, float(second))

    assert len(activity.spans) == MOST_SPANS
    assert activity.spans[0].ended_at == 5.0
    assert activity.kept_since(0.0) == 4.5
    assert activity.kept_since(6.0) == 6.0


def test_answers_of_stages_are_noted_with_the_node_that_they_come_from() -> None:
    stream = stream_of(Function("y", ["x"], generator), Function("z", ["y"], code))
    push(stream)
    stream.handle(generated(1, 1, b"a", end=True), 1.0)
    stream.handle(ended(2, (2, b"b"), seconds=0.25), 2.0)
    push(stream)
    stream.handle(up(1, attempt=2, node="b"), 2.0)
    stream.handle(generated(1, 3, b"a", at=place(1, attempt=2, node="b")), 2.5)

    assert list(stream.view.busy_spans) == [
        BusySpan(1, 0, "a", 0.0, 1.0, 1.0, 1),
        BusySpan(2, 0, "a", 1.75, 2.0, 0.25, 1),
        BusySpan(1, 0, "b", 1.5, 2.5, 1.0, 1),
    ]
