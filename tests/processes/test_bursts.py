"""Many small runs, of one session and of several, on three nodes of one core and one worker each."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import pytest

import handoff_actors as handoff
from tests.daemons import Daemon, Daemons
from tests.integrations.functions import increment_later, start_and_wait_for
from tests.processes.app import single

pytestmark = pytest.mark.processes

NAMES = ["n1", "n2", "n3"]
RUNS = 12
NAP_S = 0.3
#: Far longer than adverts and messages take.
SOON_S = 5.0

Cost = Mapping[str, float] | None

with_and_without_cost = pytest.mark.parametrize("cost", [None, {"cpu": 1}], ids=["no cost", "1 cpu"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Daemon]]:
    """Each test leaves it as it has found it."""
    daemons = Daemons()
    yield [*start(daemons)]
    daemons.close()


def start(daemons: Daemons) -> Iterator[Daemon]:
    """Start nodes that can import what these tests have them run, and that check themselves."""
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "HANDOFF_CHECK": "1"}
    first: list[Daemon] = []
    for name in NAMES:
        join = ("--join", first[0].address) if first else ()
        first.append(
            daemons.start("--name", name, "--cpu", "1", "--workers", "1", *join, variables=variables)
        )
        yield first[-1]


@pytest.fixture
async def session(cluster: list[Daemon]) -> AsyncIterator[handoff.Session]:
    async with connected(cluster) as session:
        yield session


@pytest.fixture
async def other_session(cluster: list[Daemon]) -> AsyncIterator[handoff.Session]:
    """Yields a session that stands for another app."""
    async with connected(cluster) as session:
        yield session


@asynccontextmanager
async def connected(cluster: list[Daemon]) -> AsyncIterator[handoff.Session]:
    """Yields a session that knows all nodes as idle."""
    async with handoff.Session(seeds=[cluster[1].address]) as session:
        connections = session._hub._connections
        async with asyncio.timeout(10):
            while len(connections.ups()) < len(NAMES) or any(
                advert.running or advert.queued or advert.spare != advert.capabilities
                for advert in connections.adverts()
            ):
                await connections._next_change()
        yield session


async def allocated(session: handoff.Session, cost: Cost) -> str:
    """Run one function that sleeps, and return the name of its node."""
    return (await session.execute_distributed(single(time.sleep, NAP_S, cost=cost))).allocations["only"]


@with_and_without_cost
async def test_runs_of_one_session_that_start_together_are_spread(
    session: handoff.Session, cost: Cost
) -> None:
    nodes = await asyncio.gather(*(allocated(session, cost) for _ in range(RUNS)))

    assert Counter(nodes) == dict.fromkeys(NAMES, RUNS // len(NAMES))


@with_and_without_cost
async def test_runs_of_many_sessions_that_start_together_are_spread(
    cluster: list[Daemon], cost: Cost
) -> None:
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(connected(cluster)) for _ in range(RUNS)]

        nodes = await asyncio.gather(*(allocated(session, cost) for session in sessions))

    shares = Counter(nodes)
    assert min(shares[name] for name in NAMES) >= RUNS // 4, shares


@pytest.fixture(params=["of the same session", "of another session"])
def short_runs_session(
    request: pytest.FixtureRequest, session: handoff.Session, other_session: handoff.Session
) -> handoff.Session:
    return session if request.param == "of the same session" else other_session


@with_and_without_cost
async def test_short_runs_do_not_wait_behind_a_long_one(
    session: handoff.Session, short_runs_session: handoff.Session, cost: Cost, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as tasks, Gate(tmp_path / "long") as gate:
        tasks.create_task(session.execute_distributed(gate.held_function(cost)))
        await gate.is_reached()

        async with asyncio.timeout(SOON_S):
            await asyncio.gather(
                *(
                    short_runs_session.execute_distributed(single(time.sleep, 0.01, cost=cost))
                    for _ in range(RUNS)
                )
            )


@with_and_without_cost
async def test_runs_that_follow_one_another_each_take_an_idle_node(
    session: handoff.Session, short_runs_session: handoff.Session, cost: Cost, tmp_path: Path
) -> None:
    runs = []
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        for name, sender in zip(NAMES, [session, short_runs_session, session], strict=True):
            gate = await stack.enter_async_context(Gate(tmp_path / name))
            runs.append(tasks.create_task(sender.execute_distributed(gate.held_function(cost))))
            # It never would be if it waited behind an earlier one.
            await gate.is_reached()

    assert {run.result().allocations["only"] for run in runs} == set(NAMES)


@with_and_without_cost
@pytest.mark.parametrize("free", NAMES)
async def test_a_run_that_waits_goes_to_the_node_that_becomes_free(
    session: handoff.Session, short_runs_session: handoff.Session, free: str, cost: Cost, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        gates = {name: await stack.enter_async_context(Gate(tmp_path / name)) for name in NAMES}
        for name, gate in gates.items():
            tasks.create_task(session.execute_distributed(gate.held_function(cost, name)))
        for gate in gates.values():
            await gate.is_reached()
        waiting = tasks.create_task(short_runs_session.execute_distributed(single(int, cost=cost)))
        await have_messages_arrive(short_runs_session)

        gates[free].open()

        async with asyncio.timeout(SOON_S):
            assert (await waiting).allocations["only"] == free


async def have_messages_arrive(session: handoff.Session) -> None:
    """Run a coroutine on each node, which needs no worker: whatever was sent before is there by then."""
    for name in NAMES:
        await session.execute_distributed(single(increment_later, 1, node=name))


class Gate:
    """Holds a function until it is opened, at the latest on leaving."""

    def __init__(self, path: Path) -> None:
        self._reached = path.with_suffix(".reached")
        self._opened = path.with_suffix(".opened")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open()

    def held_function(self, cost: Cost, node: str | None = None) -> handoff.DAG:
        """Make a DAG of one function, which is held."""
        return single(start_and_wait_for, self._reached, self._opened, cost=cost, node=node)

    async def is_reached(self) -> None:
        """Wait until the function runs."""
        async with asyncio.timeout(10):
            while not self._reached.exists():  # noqa: ASYNC110 - another process tells
                await asyncio.sleep(0.005)

    def open(self) -> None:
        """Let the function end."""
        self._opened.touch()
