from handoff_actors.core.stream.events import (
    DrainStream,
    ItemFailure,
    ItemObserved,
    LaneClosed,
    LaneLost,
    NodeGone,
    NodeLeaving,
    StreamEffect,
    StreamEvent,
    WorkerObserved,
)
from handoff_actors.core.stream.machine import StreamMachine
from handoff_actors.core.stream.observing import MOST_FAILURES, MOST_OF_A_REASON, StreamObserving
from handoff_actors.graph import Function
from tests.core.stream.builders import (
    ERROR,
    code,
    ended,
    failure,
    finish,
    generated,
    generator,
    new_stream,
    push,
    stored,
    up,
)


def observed(*functions: Function, **options: object) -> StreamMachine:
    stream = new_stream(*functions, is_observed=True, **options)
    stream.start(0.0)
    for stage in stream.view.stages():
        for worker in stage.workers:
            stream.handle(up(stage.number, worker.number), 0.0)
    return stream


def told(stream: StreamMachine, event: StreamEvent, now: float = 1.0) -> list[StreamEffect]:
    return [
        effect for effect in stream.handle(event, now) if isinstance(effect, ItemObserved | WorkerObserved)
    ]


def item(change: str, number: int, stage: int | None, attempt: int, kind: str, reason: str) -> ItemObserved:
    return ItemObserved(change, number, stage, "", attempt, kind, reason)  # type: ignore[arg-type]


def gone(reason: str, lane: int = 0) -> WorkerObserved:
    return WorkerObserved(1, lane, "a", is_up=False, reason=reason)


def counts(stream: StreamMachine) -> list[tuple[int, int, int]]:
    return [(stage.ended, stage.failed, stage.retried) for stage in stream.view.stages()]


def test_stream_that_nobody_observes_counts_failures_and_tells_nothing() -> None:
    stream = new_stream(Function("y", ["x"], code, max_retries=1))
    stream.start(0.0)
    stream.handle(up(), 0.0)
    push(stream)

    assert told(stream, ended(1, (1, failure()))) == []
    assert counts(stream) == [(0, 0, 1)]
    assert told(stream, ended(1, (1, failure()))) == []
    assert counts(stream) == [(1, 1, 1)]


def test_attempts_and_failures_of_items_are_told_with_their_stages() -> None:
    stream = observed(Function("y", ["x"], code, max_retries=1))
    push(stream)
    push(stream)

    assert told(stream, ended(1, (1, failure("no")))) == [item("retried", 0, 1, 1, "exception", "no")]
    assert told(stream, ended(1, (1, failure("never")), (2, b"b"))) == [
        item("failed", 0, 1, 2, "exception", "never")
    ]


def test_generator_that_fails_is_told() -> None:
    stream = observed(Function("y", ["x"], generator, max_retries=1))
    push(stream)

    assert told(stream, generated(1, 1, failure=failure("no"), end=True)) == [
        item("retried", 0, 1, 1, "exception", "no")
    ]
    assert told(stream, generated(1, 1, failure=failure("no"), end=True)) == [
        item("failed", 0, 1, 2, "exception", "no")
    ]


def test_finish_that_fails_is_told_as_an_item_of_its_own() -> None:
    stream = observed(Function("y", ["x"], code, init=code, finish=finish))
    stream.handle(DrainStream(), 1.0)

    assert told(stream, generated(1, 1, failure=failure("no"), end=True)) == [
        item("failed", 0, 1, 1, "exception", "its finish failed: no")
    ]


def test_join_that_times_out_is_told() -> None:
    stream = observed(Function("y", ["x"], code), Function("z", ["x"], code), join_timeout_s=1.0)
    push(stream)
    stream.handle(ended(1, (1, b"a")), 1.0)

    assert item("failed", 0, None, 1, "join_timeout", "not all of its inputs came in time") in stream.wake(
        2.0
    )


def test_item_whose_value_is_lost_for_good_is_told() -> None:
    stream = observed(Function("y", ["x"], code))
    stream.handle(LaneLost(1, 0, ERROR, is_loss=True), 1.0)
    push(stream, stored(9, node="b"))
    stream.handle(NodeGone("b"), 2.0)

    assert told(stream, up(attempt=2))[1:] == [
        item("failed", 0, None, 1, "lost", "a value of it was lost with node b")
    ]


def test_value_that_is_made_again_in_vain_is_no_failure_of_its_own() -> None:
    stream = observed(Function("y", ["x"], code), Function("z", ["y"], code))
    push(stream)
    stream.handle(ended(1, (1, stored(5, node="b"))), 1.0)
    stream.handle(NodeGone("b"), 2.0)

    assert told(stream, ended(1, (1, failure("no")))) == []


def test_result_that_is_made_again_in_vain_is_told_once_it_is_handed_out() -> None:
    stream = observed(Function("y", ["x"], code, parallelism=2))
    push(stream)
    push(stream)
    stream.handle(ended(1, (2, stored(5, node="b")), lane=1), 1.0)
    stream.handle(NodeGone("b"), 2.0)

    assert told(stream, ended(1, (2, failure("no")), lane=1)) == []
    assert told(stream, ended(1, (1, b"a"))) == [item("failed", 1, 1, 1, "exception", "no")]


def test_comings_and_goings_of_workers_are_told() -> None:
    stream = new_stream(Function("y", ["x"], code), is_observed=True)
    stream.start(0.0)
    here, there = (WorkerObserved(1, 0, node, is_up=True) for node in ("a", "b"))

    assert told(stream, up()) == [here]
    assert told(stream, up(attempt=2, node="b")) == [gone("its worker was lost"), there]
    assert told(stream, up(attempt=3)) == [
        WorkerObserved(1, 0, "b", is_up=False, reason="its worker was lost"),
        here,
    ]
    assert told(stream, LaneLost(1, 0, ERROR, is_loss=True)) == [gone(str(ERROR))]
    assert told(stream, up(attempt=4)) == [here]
    assert told(stream, NodeGone("a")) == [gone("node a is gone")]
    assert told(stream, up(attempt=5)) == [here]
    stream.handle(NodeLeaving("a"), 1.0)
    assert told(stream, LaneClosed(1, 0)) == [gone("its node drains")]
    assert told(stream, up(attempt=6)) == [here]
    stream.handle(DrainStream(), 1.0)
    assert told(stream, LaneClosed(1, 0)) == [gone("it is not needed any more")]


def test_worker_that_takes_too_long_is_told_with_its_item() -> None:
    stream = observed(Function("y", ["x"], code, timeout=1.0))
    push(stream)

    reason = "it took longer than its time limit of 1.0 s"
    assert ItemObserved("failed", 0, 1, "a", 1, "timeout", reason) in stream.wake(1.0)
    assert told(stream, LaneClosed(1, 0)) == [gone("it was stopped at its time limit")]
    assert counts(stream) == [(1, 1, 0)]


def test_item_that_kills_its_workers_is_told() -> None:
    stream = observed(Function("y", ["x"], code))
    push(stream)
    for attempt in (2, 3):
        stream.handle(up(attempt=attempt), 1.0)

    reason = "its worker has died 3 times while it was the only item there"
    assert ItemObserved("failed", 0, 1, "a", 3, "worker", reason) in told(stream, up(attempt=4))
    assert counts(stream) == [(1, 1, 0)]


def test_latest_failures_are_kept_and_reasons_are_cut() -> None:
    observing = StreamObserving(is_on=True)
    for number in range(MOST_FAILURES + 1):
        observing.item_failed(number, failure())
    observing.item_failed(1, ItemFailure("exception", b"", "x" * 1000))

    assert len(observing.failures) == MOST_FAILURES
    assert next(iter(observing.failures)) == 2
    last = observing.take()[-1]
    assert isinstance(last, ItemObserved)
    assert len(last.reason) == MOST_OF_A_REASON
    assert observing.take() == []
