"""A worker in which a function leaves something running ends with it, and the report says why."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import handoff_actors as handoff
from handoff_actors import events
from tests.processes import leaving
from tests.processes.app import App
from tests.workers import leftovers
from tests.workers.pool_harness import assert_ended

pytestmark = pytest.mark.processes


def _touch_at_retirement(path: Path, seen: list[events.RunEvent]) -> Callable[[events.RunEvent], None]:
    def on_event(event: events.RunEvent) -> None:
        if isinstance(event, events.WorkerRetired):
            seen.append(event)
            path.touch()

    return on_event


@pytest.mark.parametrize("leave", [leaving.leave_a_thread, leaving.leave_a_process, leaving.leave_a_daemon])
async def test_worker_in_which_something_spins_is_replaced(
    app: App, tmp_path: Path, leave: Callable[[], int]
) -> None:
    path, seen = tmp_path / "retired", list[events.RunEvent]()
    dag = handoff.new()
    dag.add_function(handoff.Function("leave", [], leave))
    dag.add_function(handoff.Function("wait", [], leaving.wait_for, extra_args=[str(path)]))

    run = await app.run(dag, on_event=_touch_at_retirement(path, seen))

    with suppress(psutil.NoSuchProcess):
        assert_ended(psutil.Process(run.results["leave"]))
    assert [(event.function_id, event.node) for event in seen] == [("leave", app.node.name)]
    assert "cores" in run.report["leave"].retired == seen[0].reason
    assert run.report["wait"].retired == ""
    assert f"a worker was retired after 'leave': {seen[0].reason}" in str(run.report)
    assert run.report["leave"].attempts == run.report["wait"].attempts == 1


async def test_retirement_after_the_run_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    worker = await app.call(leaving.leave_a_thread)

    await app.until(lambda: not psutil.pid_exists(worker))

    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [(record.message, "cores" in record.reason) for record in warned] == [("worker retired", True)]  # type: ignore[attr-defined]


async def test_functions_behind_one_that_does_damage_run_elsewhere_and_cost_no_retry(app: App) -> None:
    dag = handoff.new()
    for number in range(200):
        code = leftovers.lose_privileges if number == 100 else leftovers.seen_variable
        dag.add_function(handoff.Function(number, [], code))

    run = await app.run(dag, max_retries=0)

    assert run.results[199] == "usual"
    assert [number for number in range(200) if run.report[number].retired] == [100]
    assert "can't be put back" in run.report[100].retired


async def test_tasks_that_go_on_end_with_their_worker(app: App, tmp_path: Path) -> None:
    path, seen = tmp_path / "retired", list[events.RunEvent]()
    dag = handoff.new()
    dag.add_function(handoff.Function("leave", [], leaving.leave_a_task_that_goes_on))
    dag.add_function(handoff.Function("wait", [], leaving.wait_for_async, extra_args=[str(path)]))
    dag.add_function(handoff.Function("after", ["wait"], leaving.pid))

    run = await app.run(dag, on_event=_touch_at_retirement(path, seen))

    assert run.results["wait"] == run.results["leave"] != run.results["after"]
    assert "1 asyncio tasks" in run.report["leave"].retired
    assert "_go_on" in run.report["leave"].retired
    assert run.report["wait"].attempts == 1


async def test_tasks_that_end_when_they_are_cancelled_leave_the_worker_as_it_is(
    app: App, tmp_path: Path
) -> None:
    path = str(tmp_path / "ended")
    dag = handoff.new()
    dag.add_function(handoff.Function("leave", [], leaving.leave_a_task, extra_args=[path]))
    dag.add_function(handoff.Function("wait", [], leaving.wait_for_async, extra_args=[path]))
    dag.add_function(handoff.Function("after", ["wait"], leaving.pid))

    run = await app.run(dag)

    assert run.results["wait"] == run.results["leave"] == run.results["after"]
    assert run.report["leave"].retired == ""


async def test_threads_that_wait_leave_the_worker_as_it_is(app: App) -> None:
    worker = await app.call(leaving.leave_a_thread_that_waits)

    await app.until(lambda: not app.node._machine.is_to_be_sampled)

    assert psutil.pid_exists(worker)
