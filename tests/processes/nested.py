"""Functions that begin runs of their own, as users write them."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import handoff_actors as handoff
from tests.workers.functions import wait_forever

ALLOCATION_TIMEOUT_S = 0.7


def leaf(number: int) -> int:
    return number + 1


async def async_leaf(number: int) -> int:
    return number + 1


def leaves(count: int, claim: dict[str, float] | None, *, node: str | None = None) -> handoff.DAG:
    dag = handoff.new()
    for number in range(count):
        dag.call(leaf, number, id=f"leaf{number}", cost=claim, node=node)
    return dag


def total(run: handoff.Run) -> int:
    return sum(run.results.values())


async def run_within(
    seeds: Sequence[str],
    claim: dict[str, float] | None = None,
    *,
    node: str | None = None,
    **options: Any,
) -> int:
    """Run three leaves on the cluster of the function, and wait."""
    options = {"progress": False, "allocation_timeout": ALLOCATION_TIMEOUT_S} | options
    async with handoff.Session(seeds=seeds) as session:
        return total(await session.execute_distributed(leaves(3, claim, node=node), **options))


def parent(seeds: Sequence[str], claim: dict[str, float] | None = None, **options: Any) -> int:
    return asyncio.run(run_within(seeds, claim, **options))


async def async_parent(seeds: Sequence[str], claim: dict[str, float] | None = None, **options: Any) -> int:
    return await run_within(seeds, claim, **options)


async def announced_parent(path: str) -> None:
    """Await a nested run whose function announces itself and never ends."""
    dag = handoff.DAG().add_function(handoff.Function("child", [], wait_forever, extra_args=[path]))
    await handoff.execute_distributed(dag, progress=False)


def blocking_parent(claim: dict[str, float] | None = None) -> int:
    """Use the cluster that the environment names, and wait without an event loop."""
    run = handoff.run_sync(leaves(3, claim), progress=False, allocation_timeout=ALLOCATION_TIMEOUT_S)
    return total(run)


async def blocking_coroutine(claim: dict[str, float] | None = None) -> int:
    """Wait for coroutines while the event loop stands still."""
    dag = handoff.new()
    for number in range(3):
        dag.call(async_leaf, number, cost=claim)
    return total(handoff.run_sync(dag, progress=False))


async def coroutine_with_an_executor(claim: dict[str, float] | None = None) -> int:
    with handoff.Executor(cost=claim) as executor:
        return sum(executor.map(async_leaf, range(3)))


def descend(levels: int, claim: dict[str, float]) -> int:
    """Count the levels to the bottom, each within a run of the one above."""
    if levels == 0:
        return 0
    dag = handoff.new()
    below = dag.call(descend, levels - 1, claim, cost=claim)
    return 1 + int(handoff.run_sync(dag, progress=False).results[below.id])


async def async_descend(levels: int, claim: dict[str, float]) -> int:
    if levels == 0:
        return 0
    dag = handoff.new()
    below = dag.call(async_descend, levels - 1, claim, cost=claim)
    run = await handoff.execute_distributed(dag, progress=False)
    return 1 + int(run.results[below.id])


async def calling_coroutine(levels: int, claim: dict[str, float]) -> int:
    """Count the levels to the bottom by calls on the own run of the event loop's session."""
    if levels == 0:
        return 0
    return 1 + int(await handoff.call(calling_coroutine, levels - 1, claim, cost=claim))


def mapping(count: int) -> int:
    """Sum up what a map gives, of which the first items are done long before the last ones are made."""
    return sum(handoff.map_sync(leaf, range(count), ahead=2))


async def mapping_coroutine(count: int) -> int:
    """Take each result of a map in a task of its own."""
    total = 0
    async with aclosing(handoff.map(leaf, range(count), ahead=2)) as results:

        async def add_next() -> None:
            nonlocal total
            total += await anext(results)

        for _ in range(count):
            await asyncio.create_task(add_next())
    return total


def opening_parent(claim: dict[str, float]) -> int:
    """Add functions to a run one after the other."""

    async def main() -> int:
        number = 0
        async with handoff.open_run() as run:
            for _ in range(3):
                number = await run.call(leaf, number, cost=claim)
        return number

    return asyncio.run(main())


async def open_runs_of_the_session() -> int:
    """Count the runs that the session of the event loop goes on with for calls of functions."""
    from handoff_actors.client.api import _session  # noqa: PLC0415 - it has no other door

    runs = _session()._calls._runs
    while runs:  # noqa: ASYNC110 - their ends tell nobody
        await asyncio.sleep(0.001)
    return len(runs)


async def closings_of_the_session() -> int:
    """Make a call, and count how often the session of the event loop has been closed."""
    from handoff_actors.client.api import _session  # noqa: PLC0415 - it has no other door

    await handoff.call(leaf, 1)
    return _session()._hub.closings


def parent_of_long_ones(levels: int, announcement: Path) -> float:
    """Wait for a function that takes a minute, some levels deeper."""
    function = parent_of_long_ones if levels else hold
    dag = handoff.new()
    below = dag.call(function, levels - 1 if levels else 60.0, announcement, cost={"cpu": 1.0})
    return float(handoff.run_sync(dag, progress=False).results[below.id])


async def async_parent_of_long_ones(levels: int, announcement: Path) -> float:
    function = async_parent_of_long_ones if levels else hold
    dag = handoff.new()
    below = dag.call(function, levels - 1 if levels else 60.0, announcement, cost={"cpu": 1.0})
    run = await handoff.execute_distributed(dag, progress=False)
    return float(run.results[below.id])


def threaded_parent(seeds: Sequence[str], claim: dict[str, float] | None = None) -> int:
    """Submit functions by an executor, whose session is in a thread of its own."""
    with handoff.Executor(seeds=seeds) as executor:
        return sum(executor.map(leaf, range(3)))


def grandparent(seeds: Sequence[str], claim: dict[str, float] | None) -> int:
    async def main() -> int:
        dag = handoff.new()
        dag.call(parent, seeds, claim, id="child", cost=claim)
        async with handoff.Session(seeds=seeds) as session:
            run = await session.execute_distributed(
                dag, progress=False, allocation_timeout=ALLOCATION_TIMEOUT_S
            )
            return total(run)

    return asyncio.run(main())


def parent_with_a_node(claim: dict[str, float] | None) -> int:
    async def main() -> int:
        async with handoff.Session(seeds=(), local_node={"cpu": 1}) as session:
            return total(await session.execute_distributed(leaves(3, claim), progress=False))

    return asyncio.run(main())


def explaining_parent(seeds: Sequence[str], claim: dict[str, float]) -> str:
    """Say why a leaf waits, once that is known."""

    async def main() -> str:
        async with handoff.Session(seeds=seeds) as session:
            dag = leaves(1, claim)
            running = asyncio.create_task(session.execute_distributed(dag, progress=False))
            why = ""
            while "of their own" not in why or "number" in why:
                await asyncio.sleep(0.01)
                why = "".join(text for entry in session.explain(dag.id) for text in entry.nodes.values())
            running.cancel()
            await asyncio.wait([running])
            return why

    return asyncio.run(main())


def hold(seconds: float, announcement: Path) -> float:
    """Keep a cpu for a while, as any long function does."""
    announcement.touch()
    time.sleep(seconds)
    return seconds


def parent_behind(seeds: Sequence[str], claim: dict[str, float], announcement: Path) -> int:
    """Begin a run once an ordinary function holds what it needs."""
    while not announcement.exists():
        time.sleep(0.005)
    return parent(seeds, claim, allocation_timeout=0.3)


def careful_parent(seeds: Sequence[str], claim: dict[str, float]) -> str:
    """Go on without the inner run, where that is impossible."""
    try:
        return str(parent(seeds, claim))
    except handoff.AllocationError as error:
        return f"{error.function_id} {error.held_by}"


def depth() -> str:
    return os.environ["HANDOFF_NESTING"]


def implicit_parent(claim: dict[str, float] | None = None) -> list[str]:
    """Name the nodes of a run without saying anything of a cluster."""
    run = handoff.run_sync(leaves(3, claim), progress=False)
    assert total(run) == 6
    return sorted(set(run.allocations.values()))


async def implicit_async_parent() -> list[str]:
    run = await handoff.execute_distributed(leaves(3, None), progress=False)
    return sorted({*run.allocations.values(), *await handoff.discover_nodes()})


def implicit_executor() -> int:
    with handoff.Executor(2) as executor:
        return sum(executor.map(leaf, range(3)))


async def local_parent() -> list[str]:
    run = await handoff.execute_local(leaves(3, None), progress=False)
    await handoff.shutdown()
    return sorted(set(run.allocations.values()))


def secrets_in_sight(key: str) -> list[str]:
    """Name where a key stands that any program may see which this one starts, or which looks at its arguments."""
    arguments = Path("/proc/self/cmdline").read_text(encoding="utf-8")
    return ["arguments"] * (key in arguments) + [name for name, value in os.environ.items() if key in value]
