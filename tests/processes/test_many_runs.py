"""Many runs at once on one session, and what an app may do with sessions and loops."""

import asyncio
import subprocess
import sys
import textwrap
import time

import pytest

import handoff_actors as handoff
from tests.processes.app import App, descendants, single
from tests.workers import functions

pytestmark = pytest.mark.processes

DAGS = 200


def branching(number: int) -> handoff.DAG:
    dag = handoff.DAG(f"dag-{number}")
    source = dag.call(functions.same, [number, number + 1, number + 2])
    left = dag.call(lambda values: [value + 1 for value in values], source)
    right = dag.call(lambda values: [value * 2 for value in values], source)
    dag.call(lambda first, second: sum(first) + sum(second), left, right, id="sum")
    return dag


async def test_200_runs_at_once_are_all_right(app: App) -> None:
    runs = await asyncio.gather(*(app.run(branching(number)) for number in range(DAGS)))

    assert [run.results["sum"] for run in runs] == [9 * number + 12 for number in range(DAGS)]
    assert [run.dag_id for run in runs] == [f"dag-{number}" for number in range(DAGS)]
    await app.until_idle()


async def test_small_run_is_not_kept_waiting_by_a_large_one(app: App) -> None:
    large = handoff.DAG().add_functions(
        handoff.Function(number, [], time.sleep, extra_args=[0.02], cost={"cpu": 1}) for number in range(300)
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(app.run(large))
        await app.until(lambda: app.node.advert().running > 0)

        for number in range(5):
            run = await app.run(single(functions.add, number, 1, cost={"cpu": 1}))
            assert run.results["only"] == number + 1

        assert not running.done()


async def test_one_dag_can_run_several_times_at_once(app: App) -> None:
    dag = branching(1)

    runs = await asyncio.gather(*(app.run(dag) for _ in range(10)))

    assert [run.results["sum"] for run in runs] == [21] * 10


async def test_failing_runs_leave_the_others_alone(app: App) -> None:
    bad = [app.run(single(functions.raise_unpicklable), max_retries=0) for _ in range(20)]
    good = [app.run(branching(number)) for number in range(20)]

    ends = await asyncio.gather(*bad, *good, return_exceptions=True)

    assert all(isinstance(end, handoff.FunctionFailed) for end in ends[:20])
    assert [end.results["sum"] for end in ends[20:] if isinstance(end, handoff.Run)] == [
        9 * number + 12 for number in range(20)
    ]


async def test_max_concurrency_bounds_what_is_in_flight(app: App) -> None:
    in_flight = most = 0

    def count(event: handoff.RunEvent) -> None:
        nonlocal in_flight, most
        in_flight += {"assigned": 1, "completed": -1}.get(event.kind, 0)
        most = max(most, in_flight)

    dag = handoff.DAG().add_functions(
        handoff.Function(number, [], functions.same, extra_args=[number]) for number in range(50)
    )
    await app.run(dag, max_concurrency=3, on_event=count)

    assert most == 3


async def test_first_runs_started_together_share_one_default_node() -> None:
    before = set(descendants())
    runs = await asyncio.gather(*(handoff.execute_distributed(branching(number)) for number in range(5)))

    assert len({node for run in runs for node in run.allocations.values()}) == 1
    assert len(await handoff.discover_nodes()) == 1
    await handoff.shutdown()
    assert set(descendants()) <= before


async def test_shutdown_can_be_followed_by_another_run() -> None:
    await handoff.register_local_node({"cpu": 1}, name="first")
    await handoff.shutdown()
    await handoff.register_local_node({"cpu": 1}, name="second")

    run = await handoff.execute(branching(1))

    assert set(run.allocations.values()) == {"second"}
    await handoff.shutdown()
    await handoff.shutdown()


SCRIPT = textwrap.dedent("""
    import asyncio, sys

    import psutil
    import uvloop

    import handoff_actors as handoff

    def dag():
        made = handoff.DAG()
        made.call(sum, made.call(lambda: [1, 2, 3]), id="sum")
        return made

    async def main():
        run = await handoff.execute_distributed(dag())
        print(run.results["sum"])
        if {shut_down}:
            await handoff.shutdown()

    for _ in range(2):
        {run}
    print(len(psutil.Process().children()))
""")


@pytest.mark.parametrize("shut_down", [True, False])
@pytest.mark.parametrize(
    "run",
    ["asyncio.run(main())", "uvloop.run(main())", "print(handoff.run_sync(dag()).results['sum'])"],
    ids=["asyncio", "uvloop", "run_sync"],
)
def test_loops_follow_one_another_and_leave_nothing(run: str, shut_down: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input=SCRIPT.format(run=run, shut_down=shut_down),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.stdout.split() == ["6", "6", "0"], ended.stderr
    assert ended.stderr == ""
