"""Quick functions that are sent along with one another behave like any others, whatever happens among them."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from tests.processes.app import App
from tests.processes.steps import LARGE_NBYTES, grow, step
from tests.workers.announcement import Announcement

pytestmark = pytest.mark.processes

LENGTH = 12


def chain(mishap: str = "", path: str = "", at: int = 6, **options: Any) -> handoff.DAG:
    dag = handoff.DAG("chain")
    for index in range(LENGTH):
        kwargs = {"mishap": mishap, "path": path} if index == at else {}
        args = [index - 1] if index else []
        extra_args = () if index else (0,)
        dag.add_function(
            handoff.Function(
                index,
                args,
                step,
                extra_args=extra_args,
                kwargs=kwargs,
                cost={"cpu": 1},
                **(options if index == at else {}),
            )
        )
    return dag


@pytest.fixture
async def warm(app: App) -> App:
    """An app that knows that `step` is quick."""
    await app.run(chain())
    await app.run(chain())
    return app


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "once")


async def test_chain_of_quick_functions_is_sent_as_one_and_reported_one_by_one(warm: App) -> None:
    events: list[handoff.RunEvent] = []

    run = await warm.run(chain(), on_event=events.append)

    kinds = [event.kind for event in events if event.function_id is not None]
    assert run.results[LENGTH - 1] == LENGTH
    assert kinds == ["assigned"] * LENGTH + ["started"] * LENGTH + ["completed"] * LENGTH
    assert len({run.report[index].worker for index in range(LENGTH)}) == 1
    assert {run.report[index].attempts for index in range(LENGTH)} == {1}


async def test_failure_in_the_middle_is_tried_again_alone(warm: App, path: str) -> None:
    run = await warm.run(chain("raise once", path))

    assert run.results[LENGTH - 1] == LENGTH
    assert [run.report[index].attempts for index in range(LENGTH)] == [1] * 6 + [2] * 6


async def test_failure_in_the_middle_names_its_function(warm: App) -> None:
    with pytest.raises(handoff.FunctionFailed, match="function 6 ") as caught:
        await warm.run(chain("raise"), max_retries=1)

    assert caught.value.attempts == 2
    assert str(caught.value.__cause__) == "always"


async def test_death_of_the_worker_in_the_middle_costs_nothing_but_time(warm: App, path: str) -> None:
    run = await warm.run(chain("die once", path))

    assert run.results[LENGTH - 1] == LENGTH


async def test_function_that_always_kills_its_worker_is_the_one_to_blame(warm: App) -> None:
    with pytest.raises(handoff.WorkerDied, match="function 6 ") as caught:
        await warm.run(chain("die"))

    assert caught.value.signal == signal.SIGKILL


async def test_unpicklable_result_in_the_middle_names_its_function(warm: App) -> None:
    with pytest.raises(handoff.SerializationError, match="function 6 "):
        await warm.run(chain("unpicklable"))


async def test_slow_function_in_the_middle_keeps_nobody_waiting(warm: App) -> None:
    dag = chain("sleep")
    # They claim the other core, and wait for what is made before the slow one.
    dag.add_function(handoff.Function("beside", [0], step, cost={"cpu": 1}, timeout=60))
    ended: dict[Any, float] = {}

    def note(event: handoff.RunEvent) -> None:
        if event.kind == "completed":
            ended[event.function_id] = time.perf_counter()

    run = await warm.run(dag, on_event=note)

    assert (run.results[LENGTH - 1], run.results["beside"]) == (LENGTH, 2)
    assert ended["beside"] < ended[6] - 0.1


async def test_cancelling_in_the_middle_stops_all_of_it(warm: App, announcement: Announcement) -> None:
    running = asyncio.create_task(warm.run(chain("hang", announcement.path)))
    await announcement.text()
    began = time.perf_counter()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert time.perf_counter() - began < 1.0


async def test_time_limit_in_the_middle_is_kept(warm: App, announcement: Announcement) -> None:
    with pytest.raises(handoff.FunctionFailed, match="function 6 "):
        await warm.run(chain("hang", announcement.path, timeout=0.2), max_retries=0)


async def test_large_values_are_handed_on_within_the_worker(app: App) -> None:
    dag = handoff.DAG("growing")
    for index in range(5):
        args = [index - 1] if index else []
        extra_args = () if index else (b"",)
        dag.add_function(handoff.Function(index, args, grow, extra_args=extra_args, cost={"cpu": 1}))

    for _ in range(3):
        run = await app.run(dag)

    assert run.results[4] == bytes(5 * LARGE_NBYTES)
    assert await run.fetch(2) == bytes(3 * LARGE_NBYTES)
