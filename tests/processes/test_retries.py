"""Retries: how often, of what, and with which pauses."""

import asyncio
import os
import time
from pathlib import Path

import pytest

import handoff_actors as handoff
from tests.processes import functions as failing
from tests.processes.app import App, single
from tests.workers import functions

pytestmark = pytest.mark.processes


@pytest.fixture
def counter(tmp_path: Path) -> str:
    return str(tmp_path / "counter")


@pytest.mark.parametrize("code", [failing.fail_until, failing.fail_until_later])
async def test_function_that_raises_is_tried_three_more_times(app: App, counter: str, code: object) -> None:
    assert await app.call(code, counter, 4) == 4  # type: ignore[arg-type]  # either of two shapes


@pytest.mark.parametrize(
    ("of_run", "of_function", "attempts"),
    [(0, None, 1), (2, None, 3), (0, 2, 3), (2, 0, 1), (5, 1, 2)],
)
async def test_retries_of_the_function_come_before_those_of_the_run(
    app: App, counter: str, of_run: int, of_function: int | None, attempts: int
) -> None:
    with pytest.raises(handoff.FunctionFailed) as caught:
        await app.run(single(failing.fail_until, counter, 100, max_retries=of_function), max_retries=of_run)

    assert caught.value.attempts == attempts
    assert await asyncio.to_thread(os.path.getsize, counter) == attempts
    assert str(caught.value.__cause__) == f"attempt {attempts}"


@pytest.mark.parametrize("of", ["run", "function"])
async def test_backoff_pauses_before_each_further_try(app: App, counter: str, of: str) -> None:
    backoff = (0.2, 2.0, 0.3)
    dag = single(failing.fail_until, counter, 3, retry_backoff=backoff if of == "function" else None)
    began = time.perf_counter()

    run = await app.run(dag, retry_backoff=backoff if of == "run" else None)

    # Jitter takes away half of a pause at most: (0.2 + 0.3) / 2.
    assert time.perf_counter() - began >= 0.25
    assert run.report["only"].attempts == 3


async def test_time_limit_of_an_attempt_costs_a_retry(app: App, counter: str) -> None:
    run = await app.run(single(failing.sleep_until, counter, 2, timeout=1), max_retries=1)

    assert run.results["only"] == 2
    assert run.report["only"].attempts == 2


async def test_failure_ends_the_run_and_what_runs_beside_it(app: App) -> None:
    dag = handoff.DAG().add_functions(
        [
            handoff.Function("other", [], time.sleep, extra_args=[600], cost={"cpu": 1}),
            handoff.Function("bad", [], functions.raise_unpicklable, cost={"cpu": 1}),
        ]
    )

    with pytest.raises(handoff.FunctionFailed, match="'bad'"):
        await app.run(dag, max_retries=0)

    await app.until_idle()


async def test_retries_are_told(app: App, counter: str) -> None:
    events: list[handoff.RunEvent] = []

    await app.run(single(failing.fail_until, counter, 2), on_event=events.append)

    assert [(event.kind, event.attempt) for event in events] == [
        ("run_started", 0),
        ("node_joined", 0),
        ("assigned", 1),
        ("started", 1),
        ("retried", 1),
        ("assigned", 2),
        ("started", 2),
        ("completed", 2),
        ("run_finished", 0),
    ]
    assert "attempt 1" in events[4].reason
