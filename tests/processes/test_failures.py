"""Functions that fail, beside others that go on, and runs that fail, with what they had done."""

import asyncio
import contextlib
import gc
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import events
from tests.processes.app import App

pytestmark = pytest.mark.processes


class Refused(Exception):
    """An exception of this module."""


def add(*parts: int) -> int:
    return sum(parts)


def refuse(*_: object) -> None:
    raise Refused("no good")


async def refuse_later(*_: object) -> None:
    raise Refused("no good")


def misspell(value: Any) -> object:
    return value.no_such_attribute


def one_bad_branch() -> handoff.DAG:
    dag = handoff.DAG("branches")
    good = dag.call(add, 1, 2, id="good")
    bad = dag.call(refuse, good, id="bad", max_retries=1)
    dag.call(add, good, bad, id="both")
    dag.call(add, dag.call(add, good, 10, id="more"), 100, id="most")
    return dag


# --- Functions fail, and the run goes on ------------------------------------------------------------------------------


async def test_whatever_does_not_depend_on_a_failed_function_has_its_result(app: App) -> None:
    run = await app.run(one_bad_branch(), on_failure="continue")

    assert dict(run.results) == {"good": 3, "more": 13, "most": 113}
    assert [*run.failures] == ["bad", "both"]
    assert len(run.results) == 3
    assert "bad" not in run.results
    assert repr(run) == "<Run of DAG 'branches': 3 functions, 2 failed>"


async def test_result_of_a_failed_function_raises_its_error(app: App) -> None:
    run = await app.run(one_bad_branch(), on_failure="continue")

    with pytest.raises(handoff.FunctionFailed, match=r"'bad' failed on node .* after 2 attempt") as failed:
        _ = run.results["bad"]
    with pytest.raises(
        handoff.DependencyFailed, match=r"'both' has no result, .* 'bad', which failed"
    ) as behind:
        await run.fetch("both")

    assert isinstance(failed.value.__cause__, Refused)
    assert failed.value is run.failures["bad"] is run.failures["both"].__cause__
    assert (behind.value.function_id, behind.value.failed_id) == ("both", "bad")


async def test_report_and_events_tell_failed_functions_from_skipped_ones(app: App) -> None:
    seen: list[events.RunEvent] = []

    run = await app.run(one_bad_branch(), on_failure="continue", on_event=seen.append)

    outcomes = {function_id: entry.outcome for function_id, entry in run.report.items()}
    assert outcomes == {"good": "done", "bad": "failed", "both": "skipped", "more": "done", "most": "done"}
    assert run.report["bad"].attempts == 2
    assert run.report["bad"].node == app.node.name
    assert run.report["both"].attempts == 0
    assert "5 functions (1 failed, 1 skipped)" in str(run.report)
    told = [event for event in seen if isinstance(event, events.Failed | events.Skipped)]
    assert [(type(event), event.function_id) for event in told] == [
        (events.Failed, "bad"),
        (events.Skipped, "both"),
    ]
    assert isinstance(seen[-1], events.RunFinished)
    assert seen[-1].outcome == "finished"


async def test_each_kind_of_error_that_names_a_function_ends_that_function_alone(app: App) -> None:
    dag = handoff.DAG("kinds")
    good = dag.call(add, 1, id="good")
    dag.call(misspell, good, id="raised")
    dag.call(add, good, cost={"gpu": 1}, id="no node")
    dag.call(add, good, node="elsewhere", id="pinned")
    lock = threading.Lock()
    dag.call(lambda: lock, id="result")
    dag.call(len, lock, id="argument")
    dag.call(add, good, working_dir="/no/such/directory", id="directory")
    dag.call(_exit, id="dies")
    dag.call(_sleep, 60, id="slow", timeout=0.2, max_retries=0)
    dag.call(add, good, 1, id="last")

    run = await app.run(dag, on_failure="continue", allocation_timeout=0.2)

    assert dict(run.results) == {"good": 1, "last": 2}
    assert {function_id: type(error) for function_id, error in run.failures.items()} == {
        "raised": handoff.FunctionFailed,
        "no node": handoff.AllocationError,
        "pinned": handoff.AllocationError,
        "result": handoff.SerializationError,
        "argument": handoff.SerializationError,
        "directory": handoff.EnvironmentFailed,
        "dies": handoff.WorkerDied,
        "slow": handoff.FunctionFailed,
    }
    for function_id, error in run.failures.items():
        assert repr(function_id) in str(error)


def _exit() -> None:
    os._exit(3)


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


class _Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("nothing of it can be sent")


async def test_each_function_with_a_part_that_cannot_be_sent_fails_alone(app: App) -> None:
    bad = _Unpicklable()
    dag = handoff.DAG("parts")
    good = dag.call(add, 1, id="good")
    dag.add_function(handoff.Function("constants", ["good"], add, extra_args=[bad]))
    dag.add_function(handoff.Function("code", ["good"], lambda _: bad))
    dag.add_function(handoff.Function("code again", ["good"], dag.functions["code"].code, cost={"cpu": 2}))
    dag.add_function(handoff.Function("rule", ["good"], add, retry_on=lambda _: bad))
    dag.add_function(handoff.Function("inline", ["good"], lambda _: bad, type="inline"))
    dag.add_function(handoff.Function("of inline", ["inline"], add))
    dag.call(add, good, 1, id="last")

    run = await app.run(dag, on_failure="continue")

    assert dict(run.results) == {"good": 1, "last": 2}
    assert [*run.failures] == ["constants", "code", "code again", "rule", "of inline"]
    for function_id, error in run.failures.items():
        assert isinstance(error, handoff.SerializationError)
        assert error.function_id == function_id
        assert "can't be sent to a node" in str(error)


async def test_journal_of_a_run_that_went_on_has_what_was_done(app: App, tmp_path: Path) -> None:
    first = await app.run(one_bad_branch(), on_failure="continue", journal=tmp_path / "journal")
    second = await app.run(one_bad_branch(), on_failure="continue", journal=tmp_path / "journal")

    assert {*first.results} == {*second.results} == second.reused == {"good", "more", "most"}
    assert [*second.failures] == ["bad", "both"]


async def test_whoever_waits_for_a_result_gets_the_error_of_its_function(app: App) -> None:
    going_on = asyncio.ensure_future(app.run(slow_beside_bad(), on_failure="continue"))
    bad_failed = asyncio.Event()

    run = asyncio.ensure_future(
        app.run(slow_beside_bad(), on_failure="continue", on_event=lambda event: _note(event, bad_failed))
    )
    await bad_failed.wait()
    with pytest.raises(handoff.FunctionFailed):
        await app.session.get_result("slow beside bad", "bad")

    for ended in (await run, await going_on):
        assert [*ended.failures] == ["bad"]


def slow_beside_bad() -> handoff.DAG:
    dag = handoff.DAG("slow beside bad")
    dag.call(refuse, id="bad", max_retries=0)
    dag.call(_sleep, 0.3, id="slow")
    return dag


def _note(event: events.RunEvent, failed: asyncio.Event) -> None:
    if isinstance(event, events.Failed):
        failed.set()


async def test_on_failure_is_checked(app: App) -> None:
    with pytest.raises(ValueError, match="on_failure='ignore': it is 'stop' or 'continue'"):
        await app.run(one_bad_branch(), on_failure="ignore")


# --- A run that has failed --------------------------------------------------------------------------------------------


async def test_error_of_a_run_has_what_was_done_until_then(app: App, tmp_path: Path) -> None:
    dag = handoff.DAG("stops")
    good = dag.call(add, 1, 2, id="good")
    bad = dag.call(refuse, good, id="bad", max_retries=0)
    dag.call(add, bad, id="behind")

    with pytest.raises(handoff.FunctionFailed) as caught:
        await app.run(dag)

    run = caught.value.run
    assert run is not None
    assert dict(run.results) == {"good": 3}
    assert [*run.failures] == ["bad"]
    assert run.allocations["good"] == run.allocations["bad"] == app.node.name
    assert {function_id: entry.outcome for function_id, entry in run.report.items()} == {
        "good": "done",
        "bad": "failed",
        "behind": "unfinished",
    }
    assert "3 functions (1 failed, 1 unfinished)" in str(run.report)
    with pytest.raises(KeyError, match="'behind' has no result: its run ended before it was done"):
        _ = run.results["behind"]
    run.to_trace(tmp_path / "trace.json")
    assert "good" in (tmp_path / "trace.json").read_text(encoding="utf-8")


def large_then_bad() -> handoff.DAG:
    dag = handoff.DAG("large")
    large = dag.call(bytes, 1_000_000, id="large")
    dag.call(refuse, large, id="bad", max_retries=0)
    return dag


async def test_large_results_of_a_failed_run_can_be_fetched_and_let_go(app: App) -> None:
    with pytest.raises(handoff.FunctionFailed) as caught:
        await app.run(large_then_bad())

    run = caught.value.run
    assert run is not None
    assert isinstance(run.results["large"], handoff.StoredValue)
    assert not app.node._machine.is_working
    assert await run.fetch("large") == bytes(1_000_000)
    await run.release()
    assert app.node.is_idle


async def test_large_results_of_a_failed_run_go_with_its_error(app: App) -> None:
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(handoff.FunctionFailed):
            await app.run(large_then_bad())
        # No cycle of references keeps the error, and with it the values, until garbage is collected.
        await app.until_idle()
    finally:
        gc.enable()


async def test_error_can_be_pickled_without_its_run(app: App) -> None:
    with pytest.raises(handoff.FunctionFailed) as caught:
        await app.run(large_then_bad())

    copied = pickle.loads(pickle.dumps(caught.value))

    assert copied.run is None
    assert str(copied) == str(caught.value)


async def test_run_that_is_out_of_time_has_what_was_done_until_then(app: App) -> None:
    dag = handoff.DAG("slow")
    dag.call(_sleep_after, dag.call(add, 1, id="good"), id="slow")
    await app.call(add, 1)
    seen: list[events.RunEvent] = []

    with pytest.raises(handoff.RunTimeout) as caught:
        await app.run(dag, timeout=0.5, on_event=seen.append)

    run = caught.value.run
    assert run is not None
    assert [*run.results] == [event.function_id for event in seen if isinstance(event, events.Finished)]
    assert run.report["slow"].outcome == "unfinished"


def _sleep_after(_: int) -> None:
    _sleep(60)


# --- Which exceptions are tried again ---------------------------------------------------------------------------------


class Passing(Exception):
    """An exception that goes away."""


class Lasting(Exception):
    """An exception that stays."""


def raise_it(kind: type[Exception]) -> None:
    raise kind("as told")


async def raise_it_later(kind: type[Exception]) -> None:
    raise kind("as told")


def is_passing(error: BaseException) -> bool:
    return isinstance(error, Passing)


@pytest.mark.parametrize("code", [raise_it, raise_it_later])
@pytest.mark.parametrize(
    "kind",
    [TypeError, NameError, AttributeError, ImportError, SyntaxError, NotImplementedError, AssertionError],
)
async def test_exceptions_that_another_try_cannot_change_are_final(
    app: App, code: Any, kind: type[Exception]
) -> None:
    with pytest.raises(
        handoff.FunctionFailed, match=f"{kind.__name__} is not retried unless retry_on"
    ) as caught:
        await app.call(code, kind)

    assert caught.value.attempts == 1


@pytest.mark.parametrize("code", [raise_it, raise_it_later])
@pytest.mark.parametrize(
    "rule", [Passing, (OSError, Passing), is_passing, lambda error: isinstance(error, Passing)]
)
@pytest.mark.parametrize("of", ["run", "function"])
async def test_rule_of_ones_own_says_what_is_tried_again(app: App, code: Any, rule: Any, of: str) -> None:
    attempts = []
    for kind in (Passing, Lasting):
        dag = handoff.DAG()
        dag.call(code, kind, id="only", max_retries=2, retry_on=rule if of == "function" else None)
        with pytest.raises(handoff.FunctionFailed) as caught:
            await app.run(dag, retry_on=rule if of == "run" else None)
        attempts.append(caught.value.attempts)

    assert attempts == [3, 1]


async def test_rule_may_allow_what_is_final_by_default(app: App) -> None:
    with pytest.raises(handoff.FunctionFailed) as caught:
        await app.call(raise_it, TypeError, retry_on=Exception, max_retries=1)

    assert caught.value.attempts == 2


async def test_rule_that_raises_allows_no_other_try_and_is_named(app: App) -> None:
    with pytest.raises(handoff.FunctionFailed, match="retry_on raised ZeroDivisionError") as caught:
        await app.call(raise_it, Passing, retry_on=lambda _: 1 / 0)

    assert caught.value.attempts == 1
    assert isinstance(caught.value.__cause__, Passing)


@pytest.mark.parametrize("rule", ["ValueError", 5, (ValueError, "OSError"), int])
async def test_rule_that_is_none_is_refused(app: App, rule: Any) -> None:
    with pytest.raises(ValueError, match="retry_on="):
        await app.run(one_bad_branch(), retry_on=rule)
    with pytest.raises(handoff.InvalidFunctionError, match="retry_on must be"):
        handoff.DAG().call(add, 1, retry_on=rule)
