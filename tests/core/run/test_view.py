import pytest

from handoff_actors.core.run.events import SendToNode
from handoff_actors.core.run.facts.resumption import ReusedResult
from handoff_actors.core.run.view import FunctionCounts
from handoff_actors.graph import Function
from handoff_actors.wire.messages.members import RunProgress
from handoff_actors.wire.messages.runs import Assign
from tests.core.builders import RUN, code, completed, done, failed, node_up, run_of, started


def test_view_follows_the_run() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code), max_concurrency=1)
    view = run.view

    before = (view.remaining, view.is_done(0), view.in_flight())
    run.handle(node_up("b"), 1.0)
    run.handle(node_up("a"), 1.0)
    run.handle(failed("b", 0), 1.5)
    sent_to = view.node[0]
    assert sent_to is not None
    run.handle(completed(sent_to, done(0, attempt=2)), 2.0)

    assert before == (2, False, {})
    assert (view.remaining, view.is_done(0)) == (1, True)
    assert view.counts() == FunctionCounts(total=2, done=1, retried=1, failed=0)
    assert sorted(view.in_flight()) == list(view.in_flight()) == ["a", "b"]
    assert sum(view.in_flight().values()) == 1
    assert (view.tries(0), view.finished_at[0], view.inline) == (2, 2.0, {0: b"v"})


def test_only_an_attempt_that_is_out_is_in_flight() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code))
    run.handle(node_up("a"), 1.0)
    view = run.view

    first = [
        view.is_in_flight(index, attempt) for index, attempt in ((0, 1), (0, 2), (1, 1), (-1, 1), (2, 1))
    ]
    run.handle(failed("a", 0), 1.1)
    second = [view.is_in_flight(0, attempt) for attempt in (1, 2)]
    run.handle(completed("a", done(0, attempt=2)), 1.2)

    assert first == [True, False, False, False, False]
    assert second == [False, True]
    assert not view.is_in_flight(0, 2)


def test_attempts_that_were_repeated_are_told_from_functions_that_failed() -> None:
    run = started(Function("x", [], code), max_retries=1)
    run.handle(node_up("a"), 1.0)

    run.handle(failed("a", 0, kind="worker"), 1.1)
    run.handle(failed("a", 0, attempt=2), 1.2)
    before = run.view.counts()
    run.handle(failed("a", 0, attempt=3), 1.3)

    assert before == FunctionCounts(total=1, done=0, retried=2, failed=0)
    assert run.view.counts() == FunctionCounts(total=1, done=0, retried=2, failed=1)


def test_functions_that_never_run_are_told_from_those_that_failed() -> None:
    run = started(
        Function("x", [], code),
        Function("y", ["x"], code),
        Function("z", [], code),
        max_retries=0,
        on_failure="continue",
    )
    run.handle(node_up("a"), 1.0)

    run.handle(failed("a", 0), 1.1)
    run.handle(completed("a", done(2)), 1.2)

    assert run.view.counts() == FunctionCounts(total=3, done=1, retried=0, failed=1, skipped=1)
    assert run.view.counts().ended == 3


def test_monitors_are_told_the_name_of_the_dag_with_templates_and_the_progress_later() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code), max_concurrency=1)

    [first] = [effect.message for effect in run.handle(node_up("a"), 1.0) if isinstance(effect, SendToNode)]
    [second] = [
        effect.message
        for effect in run.handle(completed("a", done(0)), 2.0)
        if isinstance(effect, SendToNode)
    ]

    assert isinstance(first, Assign)
    assert isinstance(second, Assign)
    assert (first.dag_name, second.dag_name) == ("dag", "")
    assert run.view.progress(RUN) == RunProgress(RUN, "dag", 2, 1, 0, 0)


def test_values_are_described_wherever_they_are() -> None:
    run = started(
        Function("inline", [], code), Function("stored", [], code), Function("none", ["stored"], code)
    )
    view = run.view
    run.handle(node_up("a"), 1.0)
    run.handle(completed("a", done(0)), 1.5)
    had_stored = view.has_stored
    run.handle(completed("a", done(1, value=100)), 2.0)

    assert (had_stored, view.has_stored) == (False, True)
    assert [view.is_available(index) for index in range(3)] == [True, True, False]
    assert [view.holders(index) for index in range(3)] == [(), ("a",), ()]
    assert [view.result_nbytes(index) for index in range(3)] == [1, 100, 0]
    assert view.stored_nbytes(1) == 100
    with pytest.raises(KeyError):
        view.stored_nbytes(2)


def test_each_function_has_an_outcome() -> None:
    run = run_of(
        Function("reused", [], code),
        Function("done", [], code),
        Function("failed", [], code, max_retries=0),
        Function("skipped", ["failed"], code),
        Function("unfinished", [], code),
        on_failure="continue",
    )
    run.start(0.0, [node_up("a", workers=3)], reused={0: ReusedResult("a", b"v")})
    run.handle(completed("a", done(1)), 1.0)
    run.handle(failed("a", 2), 2.0)

    assert [run.view.outcome(index) for index in range(5)] == [*run.view.plan.ids]


def test_reused_functions_are_known_as_such() -> None:
    run = run_of(Function("x", [], code), Function("y", [], code))
    run.start(0.0, reused={0: ReusedResult("a", b"v")})

    assert [run.view.is_reused(index) for index in range(2)] == [True, False]
