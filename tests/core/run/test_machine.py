from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.endings.retries import MAX_LOSSES, MAX_WORKER_DEATHS
from handoff_actors.core.run.events import (
    Cancel,
    FetchResult,
    FunctionObserved,
    MessageFromNode,
    Release,
    ResultFetched,
    RunEnded,
    RunForgotten,
    SendToNode,
)
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.errors import (
    EnvironmentFailed,
    FunctionFailed,
    NodeLost,
    RemoteProtocolError,
    RunTimeout,
    SerializationError,
    WorkerDied,
)
from handoff_actors.graph import Constant, Function
from handoff_actors.wire.messages.jobs import Call
from handoff_actors.wire.messages.runs import Close, Rejected
from tests.core.builders import (
    CLOSED,
    RUN,
    assigned,
    code,
    completed,
    done,
    ends,
    error_of,
    failed,
    job_in,
    node_up,
    options,
    program_of,
    recalled,
    run_of,
    started,
)

# --- The good way -----------------------------------------------------------------------------------------------


def test_empty_run_is_over_at_once() -> None:
    assert run_of().start(0.0) == [RunEnded(None), RunForgotten()]


def test_functions_go_out_when_their_inputs_are_done_and_the_run_ends_with_the_last() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code))

    first = run.handle(node_up(), 0.1)
    second = run.handle(completed("a", done(0)), 0.2)
    last = run.handle(completed("a", done(1)), 0.3)

    assert assigned(first) == [("a", [0])]
    assert assigned(second) == [("a", [1])]
    assert last == [SendToNode("a", Close(RUN)), RunEnded(None)]
    assert run.is_over
    assert run.handle(MessageFromNode("a", CLOSED), 0.4) == [RunForgotten()]


def test_run_that_was_prepared_before_its_start_does_the_same() -> None:
    functions = [Function("x", [], code), Function("y", ["x"], code), Function("z", [], code)]
    prepared = RunMachine.prepared(RUN, program_of(*functions), options(), 0.0)

    effects = prepared.start(0.1, [node_up()])

    assert assigned(effects) == assigned(run_of(*functions).start(0.1, [node_up()])) == [("a", [0, 2])]


def test_nodes_that_are_known_at_the_start_share_the_work_from_the_start() -> None:
    run = run_of(Function("x", [], code), Function("y", [], code))

    effects = run.start(0.0, [node_up("a", workers=1), node_up("b", workers=1)])

    assert sorted(assigned(effects)) == [("a", [0]), ("b", [1])]


def test_most_urgent_functions_go_first() -> None:
    run = started(
        Function("low", [], code, priority=-1),
        Function("sink", [], code),
        Function("long way", [], code),
        Function("end", ["long way"], code),
        Function("high", [], code, priority=1),
        max_concurrency=4,
    )

    assert assigned(run.handle(node_up(workers=4), 0.1)) == [("a", [4, 2, 1, 0])]


def test_no_more_functions_go_to_the_only_node_at_once_than_the_run_allows() -> None:
    functions = [Function(number, [], code) for number in range(5)]
    run = started(*functions, max_concurrency=3, policy=POLICIES["most_spare"])

    assert assigned(run.handle(node_up(workers=4), 0.1)) == [("a", [0, 1, 2])]


def test_no_more_functions_are_in_flight_than_the_run_allows() -> None:
    run = started(*(Function(number, [], code) for number in range(3)), max_concurrency=1)

    assert assigned(run.handle(node_up(), 0.1)) == [("a", [0])]
    assert assigned(run.handle(completed("a", done(0)), 0.2)) == [("a", [1])]


def test_stale_completion_changes_nothing() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    assert run.handle(completed("a", done(0, attempt=2)), 0.2) == []
    assert run.handle(completed("b", done(0)), 0.2) == []
    assert run.handle(failed("a", 0, attempt=2), 0.2) == []
    assert run.handle(recalled("a", 0, attempt=2), 0.2) == []


def test_wanted_value_is_brought_home_before_the_run_ends() -> None:
    run = started(Function("x", [], code), wanted=[0])
    run.handle(node_up(), 0.1)

    brought = run.handle(completed("a", done(0, value=100)), 0.2)
    ended = run.handle(ResultFetched(0), 0.3)
    let_go = run.handle(Release(), 0.4)

    assert brought == [FetchResult(0, 100, ("a",))]
    assert ended == [RunEnded(None)]
    assert let_go == [SendToNode("a", Close(RUN))]


def test_constants_travel_with_the_job() -> None:
    run = started(Function("x", [Constant("c")], code, extra_args=(1,)))

    (effect,) = run.handle(node_up(), 0.1)

    sent = job_in(effect)
    assert (sent.args, sent.constants) == ([b"'c'"], b"((1,), {})")


def test_value_that_an_inline_function_takes_travels_within_its_call() -> None:
    run = started(
        Function("x", [], code), Function("i", ["x"], code, type="inline"), Function("y", ["i"], code)
    )
    run.handle(node_up(), 0.1)

    (effect,) = run.handle(completed("a", done(0, value=b"small")), 0.2)

    (call,) = job_in(effect).args
    assert isinstance(call, Call)
    assert call.args == [b"small"]


def test_watchers_are_told_what_happens() -> None:
    run = started(Function("x", [], code), observe=True)

    seen = [
        *run.handle(node_up(), 0.1),
        *run.handle(failed("a", 0), 0.2),
        *run.handle(completed("a", done(0, attempt=2)), 0.3),
    ]

    assert [(effect.kind, effect.attempt) for effect in seen if isinstance(effect, FunctionObserved)] == [
        ("assigned", 1),
        ("retried", 1),
        ("assigned", 2),
        ("completed", 2),
    ]


# --- Failure ----------------------------------------------------------------------------------------------------


def test_exceptions_cost_retries_and_one_too_many_ends_the_run() -> None:
    run = started(Function("x", [], code), max_retries=1)
    run.handle(node_up(), 0.1)

    again = run.handle(failed("a", 0), 0.2)
    closing = run.handle(failed("a", 0, attempt=2), 0.3)
    (end,) = ends(run.handle(MessageFromNode("a", CLOSED), 0.4))

    assert assigned(again) == [("a", [0])]
    assert closing == [SendToNode("a", Close(RUN))]
    assert isinstance(end.error, FunctionFailed)
    assert (end.error.function_id, end.error.node, end.error.attempts) == ("x", "a", 2)
    assert end.cause == b"error"


def test_failed_attempt_that_is_reported_again_after_the_end_changes_nothing() -> None:
    run = started(Function("x", [], code), max_retries=0)
    run.handle(node_up(), 0.1)
    run.handle(failed("a", 0), 0.2)

    assert run.handle(failed("a", 0), 0.3) == []


def test_function_rests_between_tries() -> None:
    run = started(Function("x", [], code, retry_backoff=(1, 2, 5)))
    run.handle(node_up(), 0.0)

    assert run.handle(failed("a", 0), 1.0) == []
    assert run.wake_at is not None
    assert 1.5 <= run.wake_at <= 2.0
    assert assigned(run.wake(run.wake_at)) == [("a", [0])]


def test_killer_of_workers_is_found_out() -> None:
    run = started(Function("x", [], code), max_retries=0)
    run.handle(node_up(), 0.1)

    for attempt in range(1, MAX_WORKER_DEATHS + 1):
        run.handle(failed("a", 0, "worker", attempt=attempt), 0.2)

    assert isinstance(error_of(run), WorkerDied)


def test_cause_of_a_failure_by_a_time_limit_is_a_timeout() -> None:
    run = started(Function("x", [], code), max_retries=0)
    run.handle(node_up(), 0.1)

    run.handle(failed("a", 0, "timeout"), 0.2)

    error = error_of(run)
    assert isinstance(error, FunctionFailed)
    assert isinstance(error.__cause__, TimeoutError)
    assert str(error.__cause__) == "reason"


def test_what_cannot_be_pickled_is_not_tried_again() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    run.handle(failed("a", 0, "serialization"), 0.2)

    assert isinstance(error_of(run), SerializationError)


def test_environment_that_can_not_be_had_ends_the_run_at_once() -> None:
    run = run_of(Function("x", [], code, working_dir="/x"))
    run.start(0.0, [node_up("a")])

    run.handle(failed("a", 0, "environment"), 1.0)

    error = error_of(run)
    assert isinstance(error, EnvironmentFailed)
    assert (error.function_id, error.node, error.reason) == ("x", "a", "reason")


def test_constant_that_cannot_be_had_is_asked_for_again_but_not_for_ever() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    for attempt in range(1, MAX_LOSSES + 1):
        run.handle(failed("a", 0, "input", attempt=attempt, lost=9 if attempt % 2 else None), 0.2)

    assert isinstance(error_of(run), NodeLost)


def test_run_whose_message_is_rejected_ends_with_the_reason() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    effects = run.handle(MessageFromNode("a", Rejected(RUN, "nonsense")), 0.2)

    assert effects == [SendToNode("a", Close(RUN))]
    error = error_of(run)
    assert isinstance(error, RemoteProtocolError)
    assert str(error) == "node 'a' rejected a message of this run: nonsense"


def test_run_that_takes_too_long_ends_in_time() -> None:
    run = started(Function("x", [], code), timeout_s=5.0)
    run.handle(node_up(), 0.1)

    assert run.wake_at == 5.0
    assert run.wake(5.0) == [SendToNode("a", Close(RUN))]
    assert run.wake_at is None
    assert isinstance(error_of(run), RunTimeout)


def test_cancelled_run_is_over_once_all_nodes_have_closed_it() -> None:
    run = run_of(Function("x", [], code), Function("y", [], code))
    run.start(0.0, [node_up("a", workers=1), node_up("b", workers=1)])

    closing = run.handle(Cancel(), 0.2)
    run.handle(Cancel(), 0.2)
    first = run.handle(MessageFromNode("a", CLOSED), 0.3)
    last = run.handle(NodeDown("b", "gone"), 0.4)

    assert closing == [SendToNode("a", Close(RUN)), SendToNode("b", Close(RUN))]
    assert first == []
    assert last == [RunEnded(None, cancelled=True), RunForgotten()]
