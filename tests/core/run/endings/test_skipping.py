"""Functions that are skipped, and what runs behind them or not."""

import pytest

from handoff_actors.core.run.events import FunctionObserved, RecordResults, RunEffect, RunEnded
from handoff_actors.core.run.facts.resumption import ReusedResult
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.errors import AllocationError
from handoff_actors.graph import Argument, Function
from handoff_actors.skip import ENCODED_SKIP, FALSE_VALUES
from tests.core.builders import (
    assigned,
    code,
    completed,
    done,
    ends,
    failed,
    hook,
    job_in,
    node_up,
    run_of,
)

FALSE = b"\x80\x05\x89."
TRUE = b"\x80\x05\x88."


def going_on(*functions: Function, **changes: object) -> RunMachine:
    run = run_of(*functions, **({"on_failure": "continue", "max_retries": 0, "observe": True} | changes))
    run.start(0.0, [node_up("a", {"cpu": 4.0}, workers=4)])
    return run


def skipped(effects: list[RunEffect]) -> dict[int, str]:
    return {
        effect.index: effect.reason
        for effect in effects
        if isinstance(effect, FunctionObserved) and effect.kind == "skipped"
    }


def outcomes(run: RunMachine) -> list[str]:
    return [run.view.outcome(index) for index in range(run.view.plan.size)]


# --- Conditions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", sorted(FALSE_VALUES))
def test_function_whose_condition_is_false_is_not_sent_and_nor_is_what_depends_on_it(value: bytes) -> None:
    run = going_on(
        Function("c", [], code),
        Function("x", [], code, when="c"),
        Function("y", ["x"], code),
        Function("z", ["y"], code),
    )

    effects = run.handle(completed("a", done(0, value=value)), 0.1)
    run.check()

    assert assigned(effects) == []
    assert ends(effects) == [RunEnded(None)]
    assert outcomes(run)[1:] == ["skipped", "skipped", "skipped"]
    assert [run.view.inline[index] for index in (1, 2, 3)] == [ENCODED_SKIP] * 3


def test_function_behind_a_skipped_one_waits_for_its_other_inputs() -> None:
    run = going_on(
        Function("c", [], code),
        Function("x", [], code, when="c"),
        Function("busy", [], code),
        Function("y", ["x", "busy"], code),
    )

    first = run.handle(completed("a", done(0, value=FALSE)), 0.1)
    second = run.handle(completed("a", done(2)), 0.2)
    run.check()

    assert [*skipped(first)] == [1]
    assert [*skipped(second)] == [3]
    assert outcomes(run) == ["done", "skipped", "done", "skipped"]


def test_reasons_say_what_a_function_was_skipped_for() -> None:
    run = going_on(Function("c", [], code), Function("x", [], code, when="c"), Function("y", ["x"], code))

    effects = run.handle(completed("a", done(0, value=FALSE)), 0.1)

    assert skipped(effects) == {1: "its condition 'c' is false", 2: "function 'x' was skipped"}


def test_function_with_conditions_that_may_be_true_is_sent_with_them_behind_its_arguments() -> None:
    run = going_on(
        Function("a", [], code), Function("c", [], code), Function("x", ["a"], code, when=["c", "a"])
    )
    run.handle(completed("a", done(0, value=b"anything")), 0.1)

    effects = run.handle(completed("a", done(1, value=TRUE)), 0.2)

    sent = next(effect for effect in effects if not isinstance(effect, FunctionObserved))
    assert job_in(sent).args == [b"anything", TRUE, b"anything"]


def test_one_false_condition_of_several_is_enough() -> None:
    run = going_on(Function("c", [], code), Function("d", [], code), Function("x", [], code, when=["c", "d"]))
    run.handle(completed("a", done(0, value=TRUE)), 0.1)

    run.handle(completed("a", done(1, value=FALSE)), 0.2)

    assert outcomes(run) == ["done", "done", "skipped"]


def test_condition_that_fails_fails_what_it_decides_whatever_that_runs_on() -> None:
    run = going_on(Function("c", [], code), Function("x", [], code, when="c", run_if="always"))

    effects = run.handle(failed("a", 0), 0.1)

    assert ends(effects) == [RunEnded(None)]
    assert outcomes(run) == ["failed", "skipped"]
    assert run.view.failed_behind == {1: 0}


def test_failure_of_an_input_goes_before_the_skip_of_another_whichever_comes_first() -> None:
    for first, second in ((0, 1), (1, 0)):
        run = going_on(Function("s", [], code), Function("bad", [], code), Function("x", ["s", "bad"], code))
        events = {0: completed("a", done(0, value=ENCODED_SKIP)), 1: failed("a", 1)}

        run.handle(events[first], 0.1)
        run.handle(events[second], 0.2)

        assert run.view.failed_behind == {2: 1}


def test_serialize_hook_is_skipped_with_its_consumer() -> None:
    run = going_on(
        Function("a", [], code),
        Function("c", [], code),
        Function("x", [Argument("a", serialize=hook)], code, when="c"),
    )
    run.handle(completed("a", done(0)), 0.1)

    effects = run.handle(completed("a", done(1, value=FALSE)), 0.2)

    assert assigned(effects) == []
    assert outcomes(run) == ["done", "done", "skipped", "skipped"]


# --- SKIP as a result -------------------------------------------------------------------------------------------------


def test_function_that_returns_skip_counts_as_skipped_and_nothing_is_learnt_from_its_time() -> None:
    durations = Durations()
    run = going_on(Function("x", [], code), Function("y", ["x"], code), durations=durations)

    effects = run.handle(completed("a", done(0, value=ENCODED_SKIP)), 0.1)

    assert [*skipped(effects)] == [0, 1]
    assert outcomes(run) == ["skipped", "skipped"]
    assert run.view.counts().skipped == 2
    assert run.view.counts().done == 0
    assert durations.of(b"") is None


def test_function_that_runs_always_gets_skip_in_place_of_a_result() -> None:
    run = going_on(Function("s", [], code), Function("x", ["s"], code, run_if="always"))

    effects = run.handle(completed("a", done(0, value=ENCODED_SKIP)), 0.1)

    (sent,) = [effect for effect in effects if not isinstance(effect, FunctionObserved)]
    assert job_in(sent).args == [ENCODED_SKIP]


def test_skipped_functions_are_recorded_and_taken_over() -> None:
    functions = [Function("s", [], code), Function("x", ["s"], code), Function("y", ["x"], code)]
    run = going_on(*functions, is_journaled=True, wanted={2})

    effects = run.handle(completed("a", done(0, value=ENCODED_SKIP)), 0.1)
    again = run_of(*functions)
    taken = again.start(0.0, [], {0: ReusedResult("a", ENCODED_SKIP)})

    assert [sorted(effect.indices) for effect in effects if isinstance(effect, RecordResults)] == [[0, 1, 2]]
    assert ends(taken) == [RunEnded(None)]
    assert outcomes(again) == ["skipped"] * 3


def test_what_is_made_from_a_failure_is_not_recorded() -> None:
    run = going_on(
        Function("bad", [], code),
        Function("x", ["bad"], code, run_if="always"),
        Function("y", ["x"], code),
        Function("z", [], code),
        is_journaled=True,
        wanted={2, 3},
    )
    run.handle(failed("a", 0), 0.1)
    run.handle(completed("a", done(1)), 0.2)
    run.handle(completed("a", done(2)), 0.3)

    effects = run.handle(completed("a", done(3)), 0.4)

    assert [effect.indices for effect in effects if isinstance(effect, RecordResults)] == [[3]]


def test_value_for_a_node_that_was_skip_may_be_made_again() -> None:
    run = going_on(Function("x", [], code, when="c"), Function("c", [], code))
    run.handle(completed("a", done(1, value=FALSE)), 0.1)

    run.state.undo(0)

    assert run.state.skipped == set()


# --- Room -------------------------------------------------------------------------------------------------------------


def test_function_that_fits_nowhere_is_no_error_before_its_condition_is_known() -> None:
    functions = [
        Function("c", [], code),
        Function("x", [], code, when="c", cost={"gpu": 1}),
        Function("y", ["x"], code, cost={"gpu": 1}),
    ]
    kept, dropped = (going_on(*functions, allocation_timeout_s=1.0) for _ in range(2))
    for run in (kept, dropped):
        assert ends(run.wake(1.5)) == []
    ended = dropped.handle(completed("a", done(0, value=FALSE)), 2.0)
    kept.handle(completed("a", done(0, value=TRUE)), 2.0)
    kept.wake(4.0)

    assert outcomes(dropped) == ["done", "skipped", "skipped"]
    assert ends(ended) == [RunEnded(None)]
    assert isinstance(kept.view.failures[1].error, AllocationError)


def test_hook_that_waits_for_a_node_that_is_not_there_is_no_condition_to_come() -> None:
    run = going_on(
        Function("c", [], code),
        Function("x", [Argument("c", serialize=hook)], code, when="c", cost={"gpu": 1}),
        allocation_timeout_s=1.0,
    )
    run.handle(completed("a", done(0, value=TRUE)), 0.5)

    run.wake(3.0)

    assert isinstance(run.view.failures[1].error, AllocationError)


def test_function_for_failures_that_fits_nowhere_is_no_error_before_there_is_one() -> None:
    run = going_on(
        Function("x", [], code),
        Function("alert", ["x"], code, run_if="failure", cost={"gpu": 1}),
        allocation_timeout_s=1.0,
    )
    run.wake(1.5)

    effects = run.handle(completed("a", done(0)), 2.0)

    assert ends(effects) == [RunEnded(None)]
    assert outcomes(run) == ["done", "skipped"]
