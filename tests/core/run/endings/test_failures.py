"""What a failure means: another try, the end of a function, or of the run."""

import pytest

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.endings.retries import MAX_LOSSES, MAX_WORKER_DEATHS, UNREACHABLE_PAUSES_S
from handoff_actors.core.run.events import (
    Cancel,
    FetchResult,
    FunctionObserved,
    FunctionsRefused,
    MessageFromNode,
    Release,
    ResultFetched,
    ResultFetchFailed,
    RunEffect,
    RunEnded,
    RunForgotten,
    SendToNode,
)
from handoff_actors.core.run.facts.phases import DONE, FAILED, SENT, WAITING
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.errors import (
    AllocationError,
    EnvironmentFailed,
    FunctionFailed,
    NodeLost,
    SerializationError,
    WorkerDied,
)
from handoff_actors.graph import Argument, Function
from handoff_actors.wire.messages.jobs import Traces
from handoff_actors.wire.messages.runs import Close, Failed, FailureKind, Stop, Stopped
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
    hook,
    job_in,
    node_up,
    recalled,
    run_of,
    started,
)


def going_on(*functions: Function, nodes: int = 1, **changes: object) -> RunMachine:
    """A run that goes on when functions fail, on its nodes "a", "b", ..."""
    run = run_of(*functions, on_failure="continue", **changes)
    run.start(0.0, [node_up(name, {"cpu": 4.0}, workers=4) for name in "abc"[:nodes]])
    return run


def failures(run: RunMachine) -> dict[object, str]:
    """The functions without a result: how each failed, or the function that it failed behind."""
    ids, view = run.view.plan.ids, run.view
    own = {ids[index]: type(failure.error).__name__ for index, failure in view.failures.items()}
    return own | {ids[index]: f"behind {ids[failed]}" for index, failed in view.failed_behind.items()}


def end_of(effects: list[RunEffect]) -> RunEnded:
    (end,) = ends(effects)
    return end


# --- Functions fail, and the run goes on ------------------------------------------------------------------------------


def test_only_what_depends_on_a_function_that_has_failed_does_not_run() -> None:
    run = going_on(
        Function("bad", [], code, max_retries=0),
        Function("good", [], code),
        Function("both", ["bad", "good"], code),
        Function("behind both", ["both"], code),
        Function("behind good", ["good"], code),
    )

    after_failure = run.handle(failed("a", 0), 0.1)
    after_good = run.handle(completed("a", done(1)), 0.2)
    last = run.handle(completed("a", done(4)), 0.3)
    run.check()

    assert (assigned(after_failure), assigned(after_good)) == ([], [("a", [4])])
    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"bad": "FunctionFailed", "both": "behind bad", "behind both": "behind bad"}
    assert run.view.failures[0].cause == b"error"
    assert [run.view.has_failed(index) for index in range(5)] == [True, False, True, True, False]


def test_run_of_which_everything_has_failed_ends_well() -> None:
    run = going_on(Function("x", [], code, max_retries=0), Function("y", ["x"], code), wanted={1})

    last = run.handle(failed("a", 0), 0.1)

    assert end_of(last) == RunEnded(None)


def test_failure_behind_two_functions_names_the_first() -> None:
    run = going_on(
        Function("x", [], code, max_retries=0),
        Function("y", [], code, max_retries=0),
        Function("z", ["y", "x"], code),
    )
    run.handle(failed("a", 0), 0.1)

    last = run.handle(failed("a", 1), 0.2)

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"x": "FunctionFailed", "y": "FunctionFailed", "z": "behind x"}


@pytest.mark.parametrize(
    ("kind", "error"), [("serialization", "SerializationError"), ("environment", "EnvironmentFailed")]
)
def test_function_that_can_run_nowhere_ends_alone(kind: FailureKind, error: str) -> None:
    run = going_on(Function("x", [], code), Function("y", ["x"], code), Function("z", [], code))
    run.handle(completed("a", done(2)), 0.1)

    last = run.handle(failed("a", 0, kind), 0.2)

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"x": error, "y": "behind x"}


def test_function_whose_worker_dies_each_time_ends_alone() -> None:
    run = going_on(Function("x", [], code), Function("y", [], code))
    run.handle(completed("a", done(1)), 0.1)
    for attempt in range(1, MAX_WORKER_DEATHS):
        assert not ends(run.handle(failed("a", 0, "worker", attempt=attempt), 0.1 * attempt))

    last = run.handle(failed("a", 0, "worker", attempt=MAX_WORKER_DEATHS), 0.9)

    assert end_of(last) == RunEnded(None)
    assert isinstance(run.view.failures[0].error, WorkerDied)


def test_function_whose_node_is_lost_each_time_ends_alone() -> None:
    run = going_on(Function("x", [], code, node="a"), Function("y", [], code, node="b"), nodes=2)
    for turn in range(MAX_LOSSES):
        assert failures(run) == {}
        run.handle(NodeDown("a", "gone"), turn + 0.1)
        run.handle(node_up("a"), turn + 0.2)

    last = run.handle(completed("b", done(1)), 99.0)

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"x": "NodeLost"}


def test_functions_that_no_node_can_hold_end_alone_each_with_its_own_error() -> None:
    run = going_on(
        Function("x", [], code, cost={"gpu": 1}),
        Function("y", [], code, cost={"gpu": 1}),
        Function("z", ["x"], code),
        Function("pinned", [], code, node="elsewhere"),
        Function("fits", [], code),
        allocation_timeout_s=1.0,
    )
    run.handle(completed("a", done(4)), 0.5)
    assert run.wake_at == 1.0

    last = run.wake(1.0)

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {
        "x": "AllocationError",
        "y": "AllocationError",
        "z": "behind x",
        "pinned": "AllocationError",
    }
    errors = [failure.error for failure in run.view.failures.values()]
    assert [error.function_id for error in errors if isinstance(error, AllocationError)] == [
        "x",
        "y",
        "pinned",
    ]


def test_function_that_runs_on_a_node_that_offers_less_now_is_left_alone() -> None:
    run = started(Function("x", [], code, cost={"cpu": 4}), allocation_timeout_s=1.0)
    run.handle(node_up("a", {"cpu": 4.0}), 0.1)
    run.handle(node_up("a", {"cpu": 1.0}), 0.2)

    assert not ends(run.wake(1.2))

    # It would be given up once it came back and nothing had changed.
    assert run.wake_at == 2.2
    assert not ends(run.handle(recalled("a", 0), 1.5))
    assert isinstance(run.wake(2.2)[0], SendToNode)
    assert isinstance(error_of(run), AllocationError)


def test_functions_that_are_out_are_not_looked_at_all_the_time() -> None:
    run = run_of(Function("x", [], code, cost={"cpu": 4}), nodes_may_join=False)
    run.start(0.0, [node_up("a", {"cpu": 4.0})])
    run.handle(node_up("a", {"cpu": 1.0}), 0.1)

    assert not ends(run.wake(0.1))
    assert run.wake_at == 1.1


def test_value_that_can_never_be_fetched_is_the_failure_of_its_function() -> None:
    run = going_on(Function("x", [], code), wanted={0})
    attempt = 1
    while 0 not in run.view.failures:
        effects = run.handle(completed("a", done(0, attempt=attempt, value=100_000)), float(attempt))
        assert any(isinstance(effect, FetchResult) for effect in effects)
        last = run.handle(ResultFetchFailed(0, "cut off"), attempt + 0.5)
        attempt += 1
        assert attempt <= MAX_LOSSES + 1

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"x": "NodeLost"}
    # News of a fetch that went well after all changes nothing.
    assert not ends(run.handle(ResultFetched(0), 99.0))
    run.check()


def test_dependents_that_are_out_with_it_follow_when_they_come_back() -> None:
    quick = Durations()
    quick.record(b"", 0.000001)
    run = run_of(
        Function("x", [], code, max_retries=0),
        Function("y", ["x"], code),
        Function("z", ["y"], code),
        on_failure="continue",
        policy=POLICIES["most_spare"],
        durations=quick,
    )
    (sent,) = run.start(0.0, [node_up()])
    assert [member.index for member in job_in(sent).then] == [1, 2]

    run.handle(failed("a", 0), 0.1)
    assert [*run.state.phase] == [FAILED, SENT, SENT]
    last = run.handle(recalled("a", 1, 2), 0.2)

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"x": "FunctionFailed", "y": "behind x", "z": "behind x"}


def test_lost_value_that_depends_on_a_failed_function_fails_behind_it() -> None:
    run = going_on(
        Function("x", [], code, node="a", max_retries=0),
        Function("y", ["x"], code, node="b"),
        Function("z", ["y", "slow"], code, node="b"),
        Function("slow", [], code, node="c"),
        nodes=3,
    )
    run.handle(completed("a", done(0, value=100_000)), 0.1)
    run.handle(completed("b", done(1, value=100_000)), 0.2)
    run.handle(NodeDown("a", "gone"), 0.3)
    run.handle(node_up("a"), 0.4)
    # Losing y, too, needs x anew, which fails this time.
    run.handle(NodeDown("b", "gone"), 0.5)
    run.handle(node_up("b"), 0.6)
    assert run.state.phase[0] == SENT

    run.handle(failed("a", 0, attempt=2), 0.7)
    last = run.handle(completed("c", done(3)), 0.8)
    run.check()

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"x": "FunctionFailed", "y": "behind x", "z": "behind x"}


def test_value_that_is_lost_after_what_it_was_made_from_has_failed_fails_behind_it() -> None:
    run = going_on(
        Function("x", [], code, node="a", max_retries=0),
        Function("y", ["x"], code, node="b"),
        Function("other", ["x"], code, node="c"),
        Function("z", ["y", "gate"], code, node="b"),
        Function("gate", [], code, node="c"),
        nodes=3,
    )
    run.handle(completed("a", done(0, value=100_000)), 0.1)
    run.handle(completed("b", done(1, value=100_000)), 0.2)
    run.handle(failed("c", 2, "input", lost=0), 0.3)
    run.handle(failed("a", 0, attempt=2), 0.4)
    assert failures(run) == {"x": "FunctionFailed", "other": "behind x"}

    run.handle(NodeDown("b", "gone"), 0.5)
    run.check()

    assert failures(run) == {"x": "FunctionFailed", "other": "behind x", "y": "behind x", "z": "behind x"}


def test_function_that_rests_while_its_input_fails_follows_afterwards() -> None:
    run = going_on(
        Function("x", [], code, node="a", max_retries=0),
        Function("y", ["x"], code, node="b", retry_backoff=(4.0, 1.0, 4.0)),
        nodes=2,
    )
    run.handle(completed("a", done(0, value=100_000)), 0.1)
    run.handle(failed("b", 1), 0.2)
    resting_until = run.wake_at
    run.handle(NodeDown("a", "gone"), 0.3)
    run.handle(node_up("a"), 0.4)

    assert resting_until is not None
    run.wake(resting_until)
    last = run.handle(failed("a", 0, attempt=2), resting_until + 1.0)

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"x": "FunctionFailed", "y": "behind x"}


def test_failure_of_a_serialize_hook_is_that_of_its_consumer() -> None:
    run = going_on(
        Function("x", [], code), Function("y", [Argument("x", serialize=hook)], code, max_retries=0)
    )
    run.handle(completed("a", done(0)), 0.1)

    last = run.handle(failed("a", 2), 0.2)

    assert end_of(last) == RunEnded(None)
    hook_id = run.view.plan.ids[2]
    assert failures(run) == {hook_id: "FunctionFailed", "y": f"behind {hook_id}"}


def test_serialize_hook_has_nothing_to_do_once_its_consumer_has_failed() -> None:
    run = going_on(
        Function("x", [], code),
        Function("bad", [], code, max_retries=0),
        Function("y", [Argument("x", serialize=hook), "bad"], code),
    )
    run.handle(failed("a", 1), 0.1)

    last = run.handle(completed("a", done(0)), 0.2)

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"bad": "FunctionFailed", "y": "behind bad", run.view.plan.ids[3]: "behind bad"}


def test_each_function_that_fails_or_is_skipped_is_observed_once() -> None:
    run = going_on(Function("x", [], code, max_retries=0), Function("y", ["x"], code), observe=True)

    effects = run.handle(failed("a", 0), 0.1)

    assert [(effect.kind, effect.index) for effect in effects if isinstance(effect, FunctionObserved)] == [
        ("failed", 0),
        ("skipped", 1),
    ]


def test_functions_that_cannot_be_sent_end_alone_from_the_start_or_later() -> None:
    run = run_of(
        *(Function(name, [], code) for name in "xyz"), Function("w", ["y"], code), on_failure="continue"
    )
    refusal = SerializationError("too large", "x")

    run.start(0.0, [node_up()], refused={0: refusal})
    assert failures(run) == {"x": "SerializationError"}
    run.handle(FunctionsRefused({0: refusal, 1: EnvironmentFailed("y", "a", "too large")}), 0.1)
    last = run.handle(completed("a", done(2)), 0.2)
    run.check()

    assert end_of(last) == RunEnded(None)
    assert failures(run) == {"x": "SerializationError", "y": "EnvironmentFailed", "w": "behind y"}


def test_functions_that_cannot_be_sent_end_a_run_that_stops_at_failures() -> None:
    run = started(Function("x", [], code), Function("y", [], code))
    run.handle(node_up(), 0.1)
    refusal = SerializationError("too large", "y")

    run.handle(FunctionsRefused({1: refusal, 0: SerializationError("as well", "x")}), 0.2)

    assert error_of(run) is refusal
    assert failures(run) == {"y": "SerializationError"}


def test_run_that_stops_at_a_failure_knows_whose_it_was() -> None:
    run = started(Function("x", [], code, max_retries=0), Function("y", ["x"], code))
    run.handle(node_up(), 0.1)

    run.handle(failed("a", 0), 0.2)

    assert isinstance(error_of(run), FunctionFailed)
    assert failures(run) == {"x": "FunctionFailed"}
    assert run.state.phase[1] == WAITING


def test_results_reused_by_a_run_that_goes_on_are_not_taken_back() -> None:
    run = going_on(Function("x", [], code), Function("y", [], code, max_retries=0))
    run.handle(completed("a", done(0)), 0.1)

    run.handle(failed("a", 1), 0.2)

    assert [*run.state.phase] == [DONE, FAILED]


# --- The values of a run that has failed ------------------------------------------------------------------------------


def failing(*names: str) -> RunMachine:
    """A run that has failed while node a had the value of one function, and node b, if it is there, was running another."""
    run = run_of(
        Function("x", [], code, node="a"),
        Function("bad", ["x"], code, node="a", max_retries=0),
        Function("y", [], code, node=names[-1]),
    )
    run.start(0.0, [node_up(name) for name in names])
    run.handle(completed("a", done(0, value=100_000)), 0.1)
    return run


def messages(effects: list[RunEffect]) -> list[tuple[str, object]]:
    return [(effect.name, effect.message) for effect in effects if isinstance(effect, SendToNode)]


def test_nodes_that_hold_values_of_a_failed_run_keep_them_and_the_others_close_it() -> None:
    run = failing("a", "b")

    at_once = run.handle(failed("a", 1), 0.2)
    stopped = run.handle(MessageFromNode("a", Stopped(RUN)), 0.3)
    last = run.handle(MessageFromNode("b", CLOSED), 0.4)
    let_go = run.handle(Release(), 0.5)
    forgotten = run.handle(MessageFromNode("a", CLOSED), 0.6)

    assert messages(at_once) == [("b", Close(RUN)), ("a", Stop(RUN))]
    assert ends(stopped) == []
    assert isinstance(end_of(last).error, FunctionFailed)
    assert messages(let_go) == [("a", Close(RUN))]
    assert forgotten == [RunForgotten()]
    run.check()


def test_values_of_a_cancelled_run_are_dropped() -> None:
    run = failing("a", "b")

    effects = run.handle(Cancel(), 0.2)

    assert messages(effects) == [("a", Close(RUN)), ("b", Close(RUN))]


def test_failed_run_whose_values_nobody_wants_any_more_is_closed_everywhere() -> None:
    run = failing("a")
    run.handle(failed("a", 1), 0.2)

    effects = run.handle(Release(), 0.3)

    assert messages(effects) == [("a", Close(RUN))]
    assert isinstance(error_of(run), FunctionFailed)


def test_node_that_is_lost_while_it_stops_a_run_is_not_waited_for() -> None:
    run = failing("a")
    run.handle(failed("a", 1), 0.2)

    last = run.handle(NodeDown("a", "gone"), 0.3)

    assert isinstance(end_of(last).error, FunctionFailed)
    assert last[-1] == RunForgotten()


def test_node_that_leaves_need_not_wait_for_the_values_of_a_failed_run() -> None:
    run = failing("a")
    run.handle(failed("a", 1), 0.2)
    run.handle(MessageFromNode("a", Stopped(RUN)), 0.3)

    effects = run.handle(node_up("a", leaving=True), 0.4)

    assert messages(effects) == [("a", Close(RUN))]


# --- Retries ----------------------------------------------------------------------------------------------------------


def timed_out(attempt: int) -> MessageFromNode:
    return failed("a", 0, "timeout", attempt=attempt)


def raised(attempt: int = 1, *, not_retried: str = "") -> MessageFromNode:
    traces = Traces(not_retried=not_retried)
    return MessageFromNode(
        "a", Failed(RUN, 0, attempt, "exception", b"error", "reason", None, None, None, 0.0, traces)
    )


def test_exception_that_retry_on_excludes_is_final_and_says_so() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up(), 0.1)

    run.handle(raised(not_retried="TypeError is not retried unless retry_on says so"), 0.2)

    error = error_of(run)
    assert isinstance(error, FunctionFailed)
    assert error.attempts == 1
    assert error.not_retried == "TypeError is not retried unless retry_on says so"
    assert str(error).startswith(
        "function 'x' failed on node 'a' after 1 attempt(s) (TypeError is not retried unless retry_on says so): reason"
    )


def test_rule_is_not_mentioned_where_no_retry_was_left() -> None:
    run = started(Function("x", [], code, max_retries=0))
    run.handle(node_up(), 0.1)

    run.handle(raised(not_retried="TypeError is not retried unless retry_on says so"), 0.2)

    assert "retry_on" not in str(error_of(run))


@pytest.mark.parametrize(
    ("of_run", "of_function", "is_retried"),
    [
        (None, None, True),
        (TimeoutError, None, True),
        (OSError, None, True),
        (ValueError, None, False),
        ((ValueError, TimeoutError), None, True),
        (ValueError, TimeoutError, True),
        (TimeoutError, ValueError, False),
        ((), None, False),
        (lambda error: "timeout" in str(error), None, False),
        (lambda error: isinstance(error, TimeoutError), None, True),
        (lambda error: error.no_such_attribute, None, False),
    ],
)
def test_time_limit_is_retried_as_the_rule_says_of_a_timeout_error(
    of_run: object, of_function: object, *, is_retried: bool
) -> None:
    run = started(Function("x", [], code, retry_on=of_function), retry_on=of_run)  # type: ignore[arg-type]
    run.handle(node_up(), 0.1)

    effects = run.handle(timed_out(1), 0.2)

    assert bool(assigned(effects)) == is_retried
    if not is_retried:
        assert "retry_on" in str(error_of(run))


def test_exponential_backoff_never_overflows() -> None:
    run = started(Function("x", [], code, max_retries=5000, retry_backoff=(0.001, 2.0, 0.002)))
    run.handle(node_up(), 0.0)
    now = 0.0
    for attempt in range(1, 3000):
        run.handle(raised(attempt), now)
        wake_at = run.wake_at
        assert wake_at is not None
        assert 0.0 <= wake_at - now <= 0.002 + 1e-9
        now = wake_at
        run.wake(now)

    assert run.view.tries(0) == 3000


def _unreachable(index: int, attempt: int, lost: int, node: str = "b") -> MessageFromNode:
    reason = f"node {node} could not fetch an input: no answer"
    return MessageFromNode(
        node, Failed(RUN, index, attempt, "unreachable", b"", reason, lost, None, None, 0.0)
    )


def _holder_and_consumer() -> RunMachine:
    """ "x" has a stored value on "a", and "y", which takes it, has been sent to "b"."""
    run = going_on(Function("x", [], code, node="a"), Function("y", ["x"], code, node="b"), nodes=2)
    run.handle(completed("a", done(0, value=100_000)), 0.1)
    return run


def test_value_whose_holder_cannot_be_reached_is_not_lost_and_its_function_is_tried_again() -> None:
    run = _holder_and_consumer()
    attempts, now = [1], 0.1

    for pause_s in UNREACHABLE_PAUSES_S:
        effects = run.handle(_unreachable(1, attempts[-1], lost=0), now)
        assert run.view.holders(0) == ("a",)
        now += pause_s
        effects = effects if pause_s == 0 else run.wake(now)
        assert assigned(effects) == [("b", [1])]
        attempts.append(job_in(effects[0]).attempt)
        run.check()
    run.handle(completed("b", done(1, attempt=attempts[-1])), now)

    assert run.view.tries(0) == 1
    assert run.view.is_done(1)


def test_value_that_no_try_reaches_fails_its_function_and_names_the_nodes() -> None:
    run = _holder_and_consumer()
    now = 0.1
    for attempt in range(1, len(UNREACHABLE_PAUSES_S) + 1):
        run.handle(_unreachable(1, attempt, lost=0), now)
        now += UNREACHABLE_PAUSES_S[attempt - 1]
        run.wake(now)

    run.handle(_unreachable(1, len(UNREACHABLE_PAUSES_S) + 1, lost=0), now)

    error = run.view.failures[1].error
    assert isinstance(error, NodeLost)
    assert "node 'b': function 'y' can't run there" in str(error)
    assert "'x' is on node 'a'" in str(error)


def test_value_whose_unreachable_holder_turns_out_to_be_gone_is_made_again() -> None:
    run = run_of(Function("x", [], code), Function("y", ["x"], code, node="b"))
    run.start(0.0, [node_up("a")])
    run.handle(node_up("b"), 0.05)
    run.handle(completed("a", done(0, value=100_000)), 0.1)
    for attempt in (1, 2):
        run.handle(_unreachable(1, attempt, lost=0), 0.2)

    effects = run.handle(NodeDown("a", "gone"), 0.3)

    assert assigned(effects) == [("b", [0])]
    assert assigned(run.wake(1.2)) == []
    run.check()
