"""Functions that are skipped, and those that run although others have failed, with real workers."""

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors import SKIP, events
from tests.processes.app import App
from tests.processes.functions import loop_for_ever
from tests.workers.functions import same

pytestmark = pytest.mark.processes


class Refused(Exception):
    """An exception of this module."""


class Empty:
    """False, as only who knows the class can tell."""

    def __bool__(self) -> bool:
        return False


class Undecided:
    """Neither true nor false."""

    def __bool__(self) -> bool:
        raise Refused("it depends")


def refuse(*_: object) -> None:
    raise Refused("no good")


def refuse_after(path: Path) -> None:
    path.read_bytes()
    raise Refused


def told(*args: Any) -> list[tuple[str, str]]:
    return [(type(arg).__name__, type(getattr(arg, "__cause__", None)).__name__) for arg in args]


def test_skip_is_one_false_object_wherever_it_gets() -> None:
    assert not SKIP
    assert repr(SKIP) == "SKIP"
    assert pickle.loads(pickle.dumps(SKIP)) is SKIP
    assert copy.deepcopy([SKIP])[0] is SKIP
    assert type(SKIP)() is SKIP


@pytest.mark.parametrize("value", [False, None, 0, 0.0, "", Empty(), SKIP, b"", frozenset()])
async def test_false_condition_skips_a_function_whatever_its_type(app: App, value: object) -> None:
    dag = handoff.DAG()
    condition = dag.call(same, value)
    skipped = dag.call(refuse, when=condition)
    behind = dag.call(refuse, [skipped])
    beside = dag.call(same, 1, when=dag.call(same, "true"))

    run = await app.run(dag)

    assert run.results[skipped] is SKIP
    assert run.results[behind] is SKIP
    assert run.results[beside] == 1
    assert dict(run.failures) == {}


async def test_inline_functions_may_be_conditions_and_are_skipped_with_their_inputs(app: App) -> None:
    dag = handoff.DAG()
    loss = dag.call(same, 0.3)
    is_bad = dag.call(lambda value: value > 0.5, loss, type="inline")
    retrained = dag.call(same, 1, when=is_bad)
    inline = dag.call(refuse, retrained, type="inline")
    seen = dag.call(told, inline, [retrained], loss, run_if="always")
    skips = dag.call(lambda: SKIP, type="inline")
    behind = dag.call(refuse, skips)

    run = await app.run(dag)

    assert run.results[retrained] is SKIP
    assert [name for name, _ in run.results[seen]] == ["SkipType", "list", "float"]
    assert run.results[behind] is SKIP


async def test_condition_that_can_not_be_decided_fails_the_function(app: App) -> None:
    dag = handoff.DAG()
    dag.call(same, 1, when=dag.call(Undecided), id="x")

    with pytest.raises(handoff.FunctionFailed, match="it depends") as raised:
        await app.run(dag)

    assert raised.value.function_id == "x"


async def test_async_functions_are_skipped_and_get_errors_as_others_do(app: App) -> None:
    async def tell(*args: object) -> list[tuple[str, str]]:
        return told(*args)

    dag = handoff.DAG()
    bad = dag.call(refuse, max_retries=0)
    seen = dag.call(tell, bad, run_if="always")
    skipped = dag.call(tell, when=dag.call(same, ""))

    run = await app.run(dag, on_failure="continue")

    assert run.results[seen] == [("FunctionFailed", "Refused")]
    assert run.results[skipped] is SKIP


async def test_clean_up_runs_before_a_failed_run_ends_and_sees_why_each_input_is_missing(app: App) -> None:
    dag = handoff.DAG()
    good = dag.call(same, 1, id="good")
    bad = dag.call(refuse, good, id="bad", max_retries=0)
    behind = dag.call(same, bad, id="behind")
    hooked = handoff.Argument(bad, deserialize=refuse)
    inline = dag.call(same, bad, type="inline")
    dag.call(told, good, [bad], behind, hooked, inline, id="clean", run_if="always")
    dag.call(told, bad, id="alert", run_if="failure")

    with pytest.raises(handoff.FunctionFailed) as raised:
        await app.run(dag)

    run = raised.value.run
    assert run is not None
    assert raised.value.function_id == "bad"
    failed = ("FunctionFailed", "Refused")
    assert run.results["clean"] == [
        ("int", "NoneType"),
        ("list", "NoneType"),
        ("DependencyFailed", "FunctionFailed"),
        failed,
        failed,
    ]
    assert run.results["alert"] == [failed]


async def test_running_functions_are_stopped_before_clean_up_that_takes_from_them(
    app: App, tmp_path: Path
) -> None:
    running = tmp_path / "running"
    os.mkfifo(running)
    dag = handoff.DAG()
    dag.call(refuse_after, running, id="bad", max_retries=0)
    endless = dag.call(loop_for_ever, str(running))
    dag.call(told, endless, id="clean", run_if="always")

    with pytest.raises(handoff.FunctionFailed) as raised:
        await app.run(dag)

    run = raised.value.run
    assert run is not None
    assert [name for name, _ in run.results["clean"]] == ["FunctionCancelled"]


async def test_events_report_and_progress_say_what_was_skipped(app: App) -> None:
    seen: list[events.RunEvent] = []
    dag = handoff.DAG()
    dag.call(same, 1, when=dag.call(same, False, id="no"), id="x")
    dag.call(same, 1, when=dag.call(same, "", id="empty"), id="y")

    run = await app.run(dag, on_event=seen.append)

    skipped = {event.function_id: event.attempt for event in seen if isinstance(event, events.Skipped)}
    assert skipped == {"x": 0, "y": 1}
    assert [run.report[name].outcome for name in ("no", "x", "empty", "y")] == ["done", "skipped"] * 2
    assert "2 skipped" in str(run.report)


async def test_journal_knows_what_was_skipped_and_cleans_up_anew_after_a_failure(
    app: App, tmp_path: Path
) -> None:
    switch, log = tmp_path / "switch", tmp_path / "log"

    def note(name: str, *_: object) -> str:
        with log.open("a") as file:
            file.write(f"{name} ")
        return name

    def fail_at_first() -> None:
        if not switch.exists():
            switch.touch()
            raise Refused

    dag = handoff.DAG()
    large = dag.call(bytes, 1_000_000)
    skipped = dag.call(note, "skipped", large, when=dag.call(same, 0))
    first = dag.call(fail_at_first, max_retries=0)
    dag.call(note, "clean", first, run_if="always")

    with pytest.raises(handoff.FunctionFailed):
        await app.run(dag, journal=tmp_path / "run.db")
    run = await app.run(dag, journal=tmp_path / "run.db")
    again = await app.run(dag, journal=tmp_path / "run.db")

    assert run.results[skipped] is again.results[skipped] is SKIP
    assert log.read_text().split() == ["clean", "clean"]
    assert {again.report[handle].outcome for handle in (large, skipped, first)} == {"reused", "skipped"}


async def test_open_run_takes_conditions_and_functions_that_run_in_any_case(app: App) -> None:
    async with app.session.open_run(on_failure="continue") as run:
        bad = run.call(refuse)
        seen = run.call(told, bad, run_if="always")
        no = run.call(same, 0)
        skipped = run.call(same, 1, when=no)
        assert await seen == [("FunctionFailed", "Refused")]
        assert await skipped is SKIP
        later = run.call(told, bad, skipped, run_if="always")
        assert await run.call(same, skipped) is SKIP
        assert await later == [("FunctionFailed", "Refused"), ("SkipType", "NoneType")]
        assert isinstance(bad.exception(), handoff.FunctionFailed)
