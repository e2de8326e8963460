"""Functions that run although others have failed."""

import pytest

from handoff_actors.core.run.events import Cancel, RunEffect, RunEnded, SendToNode
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import FunctionCancelled, FunctionFailed, RunTimeout
from handoff_actors.graph import Argument, Function
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import FailedInput, Job, Ticket
from handoff_actors.wire.messages.runs import Assign, CancelJobs
from tests.core.builders import (
    RUN,
    assigned,
    code,
    completed,
    done,
    ends,
    failed,
    hook,
    node_up,
    recalled,
    run_of,
)


def error_of(index: Index) -> bytes:
    return f"error of {index}".encode()


def started(*functions: Function, nodes: str = "a", **changes: object) -> RunMachine:
    run = run_of(*functions, **({"max_retries": 0} | changes))
    run.start(0.0, [node_up(name, {"cpu": 4.0}, workers=4) for name in nodes], error_of=error_of)
    return run


def jobs(effects: list[RunEffect]) -> list[Job]:
    messages = [effect.message for effect in effects if isinstance(effect, SendToNode)]
    return [job for message in messages if isinstance(message, Assign) for job in message.jobs]


def args_of(effects: list[RunEffect]) -> dict[Index, object]:
    return {job.index: job.args for job in jobs(effects)}


# --- The run goes on --------------------------------------------------------------------------------------------------


def test_function_that_runs_always_gets_errors_in_place_of_results() -> None:
    run = started(
        Function("x", [], code),
        Function("bad", [], code),
        Function("behind", ["bad"], code),
        Function("clean", ["x", "bad", "behind"], code, run_if="always"),
        on_failure="continue",
    )
    assert jobs(run.handle(failed("a", 1), 0.1)) == []

    effects = run.handle(completed("a", done(0, value=b"x")), 0.2)
    run.check()

    assert args_of(effects) == {3: [b"x", FailedInput(b"error of 1"), FailedInput(b"error of 2")]}
    assert ends(run.handle(completed("a", done(3)), 0.3)) == [RunEnded(None)]


def test_function_that_runs_always_waits_for_inputs_that_are_tried_again() -> None:
    run = started(Function("x", [], code, max_retries=1), Function("clean", ["x"], code, run_if="always"))

    effects = run.handle(failed("a", 0), 0.1)
    last = run.handle(completed("a", done(0, attempt=2, value=b"x")), 0.2)

    assert [job.index for job in jobs(effects)] == [0]
    assert args_of(last) == {1: [b"x"]}


@pytest.mark.parametrize(("is_failing", "sent"), [(True, [("a", [1])]), (False, [])])
def test_function_for_failures_runs_only_if_an_input_has_failed(is_failing: bool, sent: object) -> None:
    run = started(
        Function("x", [], code), Function("alert", ["x"], code, run_if="failure"), on_failure="continue"
    )

    effects = run.handle(failed("a", 0) if is_failing else completed("a", done(0)), 0.1)

    assert assigned(effects) == sent
    assert run.view.outcome(1) == ("unfinished" if is_failing else "skipped")


def test_hooks_of_a_function_that_runs_always_work_on_the_results_that_there_are() -> None:
    run = started(
        Function("x", [], code),
        Function("bad", [], code),
        Function(
            "clean", [Argument("x", serialize=hook), Argument("bad", serialize=hook)], code, run_if="always"
        ),
        on_failure="continue",
    )
    run.handle(failed("a", 1), 0.1)

    hooked = run.handle(completed("a", done(0)), 0.2)
    effects = run.handle(completed("a", done(3, value=b"packed")), 0.3)
    run.check()

    assert [job.index for job in jobs(hooked)] == [3]
    assert args_of(effects) == {2: [b"packed", FailedInput(b"error of 4")]}


def test_hook_of_a_function_that_has_failed_is_in_vain_whatever_that_runs_on() -> None:
    run = started(
        Function("x", [], code),
        Function("c", [], code),
        Function("clean", [Argument("x", serialize=hook)], code, run_if="always", when="c"),
        on_failure="continue",
    )

    effects = run.handle(failed("a", 1), 0.1)
    last = run.handle(completed("a", done(0)), 0.2)

    assert jobs(effects) == []
    assert ends(last) == [RunEnded(None)]
    assert run.view.failed_behind == {2: 1, 3: 1}


def test_function_that_comes_back_runs_again_with_the_error_of_an_input_that_has_failed_since() -> None:
    run = started(
        Function("x", [], code), Function("clean", ["x"], code, run_if="always"), on_failure="continue"
    )
    run.handle(failed("a", 0), 0.1)

    run.handle(recalled("a", 1), 0.2)
    effects = run.handle(node_up("b", {"cpu": 1.0}), 0.3)

    assert args_of(effects) == {1: [FailedInput(b"error of 0")]}


def test_explanation_lists_no_failed_input_among_those_that_are_waited_for() -> None:
    run = started(
        Function("x", [], code),
        Function("bad", [], code),
        Function("clean", ["x", "bad"], code, run_if="always"),
        on_failure="continue",
    )
    run.handle(failed("a", 1), 0.1)

    (_, explanation) = run.view.explain()

    assert explanation.waits_for == ("x",)


# --- The run ends -----------------------------------------------------------------------------------------------------


def test_run_that_stops_at_a_failure_cancels_the_others_and_cleans_up_before_it_ends() -> None:
    run = started(
        Function("bad", [], code),
        Function("running", [], code),
        Function("waiting", ["running"], code),
        Function("clean", ["bad", "running", "waiting"], code, run_if="always"),
    )

    effects = run.handle(failed("a", 0), 0.1)
    cleaning = run.handle(failed("a", 1, "cancelled"), 0.2)
    run.handle(completed("a", done(3)), 0.3)

    sent = [effect.message for effect in effects if isinstance(effect, SendToNode)]
    assert sent == [CancelJobs(RUN, [Ticket(1, 1)])]
    assert args_of(cleaning) == {3: [FailedInput(b"error of %d" % index) for index in range(3)]}
    assert [type(failure.error) for failure in run.view.failures.values()] == [
        FunctionFailed,
        FunctionCancelled,
        FunctionCancelled,
    ]
    outcome = run._completion.outcome
    assert outcome is not None
    assert outcome.error is run.view.failures[0].error


def test_failure_in_a_clean_up_is_not_the_error_of_a_run_that_has_failed_before() -> None:
    run = started(
        Function("bad", [], code),
        Function("clean", ["bad"], code, run_if="always"),
        Function("tell", ["clean"], code, run_if="failure"),
    )
    run.handle(failed("a", 0), 0.1)
    first = run.view.failures[0].error

    told = run.handle(failed("a", 1), 0.2)
    run.handle(completed("a", done(2)), 0.3)

    assert args_of(told) == {2: [FailedInput(b"error of 1")]}
    outcome = run._completion.outcome
    assert outcome is not None
    assert outcome.error is first


def test_run_without_clean_up_to_come_ends_at_once() -> None:
    run = started(Function("clean", [], code, run_if="always"), Function("bad", [], code))
    run.handle(completed("a", done(0)), 0.1)

    run.handle(failed("a", 1), 0.2)

    assert run._completion.outcome is not None


def test_nothing_is_cleaned_up_in_a_run_that_is_cancelled_or_out_of_time() -> None:
    for is_cancelled in (True, False):
        run = started(Function("x", [], code), Function("clean", ["x"], code, run_if="always"), timeout_s=2.0)

        effects = run.handle(Cancel(), 1.0) if is_cancelled else run.wake(2.0)

        assert assigned(effects) == []
        outcome = run._completion.outcome
        assert outcome is not None
        assert outcome.cancelled or isinstance(outcome.error, RunTimeout)
