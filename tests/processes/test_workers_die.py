"""However workers die, their functions run again, the node stays, and what kills every worker is found out."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

import handoff_actors as handoff
from tests.processes import functions as dying
from tests.processes.app import App, single
from tests.workers import functions
from tests.workers.announcement import Announcement
from tests.workers.pool_harness import zygote_of

pytestmark = pytest.mark.processes


async def test_killed_worker_costs_no_retry(app: App, announcement: Announcement, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(single(dying.announce_then_return, str(tmp_path)), max_retries=0))
        victim = int(await announcement.text())
        os.kill(victim, signal.SIGKILL)

    run = running.result()
    assert run.results["only"] != victim
    assert run.report["only"].attempts == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
async def test_function_of_a_worker_that_died_runs_again(app: App, tmp_path: Path, number: int) -> None:
    assert await app.call(dying.die_once, str(tmp_path), int(number), max_retries=0) == "alive"


@pytest.mark.parametrize(
    ("code", "args", "died_of", "exit_code"),
    [
        (functions.exit_at_once, (3,), None, 3),
        (functions.exit_at_once, (0,), None, 0),
        (functions.read_address_zero, (), signal.SIGSEGV, None),
        (os.abort, (), signal.SIGABRT, None),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), (), signal.SIGKILL, None),
    ],
    ids=["os._exit", "os._exit(0)", "segfault", "abort", "kill"],
)
async def test_function_that_kills_every_worker_is_told_by_how(
    app: App, code: object, args: tuple[int, ...], died_of: int | None, exit_code: int | None
) -> None:
    with pytest.raises(handoff.WorkerDied) as caught:
        await app.call(code, *args)  # type: ignore[arg-type]  # of many shapes

    assert (caught.value.signal, caught.value.exit_code) == (died_of, exit_code)
    assert caught.value.function_id == "only"
    assert caught.value.node == app.node.name
    assert "'only'" in str(caught.value)
    await app.until_idle()
    assert await app.call(functions.add, 1, 2) == 3


async def test_coroutines_beside_a_killer_run_again(app: App) -> None:
    async def answer(number: int) -> int:
        await asyncio.sleep(0.05)
        return number

    async def kill() -> None:
        os._exit(5)

    dag = handoff.DAG().add_functions(
        handoff.Function(str(number), [], answer, extra_args=[number]) for number in range(50)
    )
    async with asyncio.TaskGroup() as tasks:
        innocent = tasks.create_task(app.run(dag))
        with pytest.raises(handoff.WorkerDied):
            await app.call(kill)

    assert list(innocent.result().results.values()) == list(range(50))


async def test_functions_beside_a_killer_all_get_done(app: App, tmp_path: Path) -> None:
    dag = handoff.DAG().add_functions(
        handoff.Function(number, [], functions.add, extra_args=[number, 1]) for number in range(300)
    )
    dag.add_function(
        handoff.Function("killer", [], dying.die_once, extra_args=[str(tmp_path), int(signal.SIGKILL)])
    )

    run = await app.run(dag, max_retries=0)

    assert [run.results[number] for number in range(300)] == list(range(1, 301))
    assert run.results["killer"] == "alive"


async def test_stored_value_outlives_the_worker_that_made_it(app: App) -> None:
    dag = handoff.DAG().add_function(handoff.Function("made", [], lambda: b"x" * 1_000_000))
    dag.add_function(handoff.Function("maker", [], os.getpid))
    dag.add_function(handoff.Function("killed", ["maker", "made"], lambda pid, made: dying.kill_other(pid)))
    dag.add_function(handoff.Function("read", ["killed", "made"], lambda _, made: len(made)))

    run = await app.run(dag)

    assert run.results["read"] == 1_000_000
    assert run.report["made"].attempts == 1


async def test_death_of_the_zygote_is_survived(app: App) -> None:
    assert await app.call(functions.add, 1, 2) == 3

    zygote_of(app.node._store.directory).kill()

    assert await app.call(functions.add, 3, 4) == 7
    assert await app.call(functions.double_later, 4) == 8
