"""Nodes that join, leave and die while apps run DAGs, for as long as is wanted."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

import handoff_actors as handoff
from tests.daemons import Daemon, Daemons
from tests.faults import functions
from tests.faults.observing import until_empty
from tests.faults.watchdog import Watchdog

APPS = 5
FEWEST, MOST = 2, 4
#: Seconds between one change and the next.
PAUSES_S = (0.2, 0.6, 1.0)
LAYERS, WIDTH = 4, 4
PATHS = {"PYTHONPATH": os.pathsep.join(sys.path)}


@dataclass
class Tally:
    """The outcomes so far."""

    #: Runs that succeeded, and names of the errors that ended others.
    runs: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    #: Faults that must not have happened.
    complaints: list[str] = field(default_factory=list)


class Churn:
    """One cluster, and its apps. The first node stays, so that the others can find one another."""

    def __init__(self, daemons: Daemons, seed: int) -> None:
        self.tally = Tally()
        self._daemons = daemons
        self._random = Random(seed)
        self._numbers = count(1)
        self._first = self._start("first")
        self._others: list[Daemon] = []
        self._gone: list[Daemon] = []

    async def go_on_for(self, seconds: float) -> None:
        """Returns when that time is over, all runs have ended, and no node has anything left of them."""
        ends_at = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._change_until(ends_at), name="changes")
            for number in range(APPS):
                tasks.create_task(
                    self._use_until(ends_at, self._random.randrange(1 << 30)), name=f"app {number}"
                )
        async with handoff.Session(seeds=[self._first.address]) as session:
            await until_empty(session, self._first, *self._others)
        await asyncio.to_thread(self._end_all)

    # --- Nodes --------------------------------------------------------------------------------------------------

    async def _change_until(self, ends_at: float) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as drains:
            while loop.time() < ends_at:
                name, change = self._next_change(drains)
                self.tally.changes[name] += 1
                await change()
                await asyncio.sleep(self._random.choice(PAUSES_S))

    def _next_change(self, drains: asyncio.TaskGroup) -> tuple[str, Callable[[], Awaitable[None]]]:
        if len(self._others) < FEWEST:
            return "join", self._join
        choices: dict[str, Callable[[], Awaitable[None]]] = {
            "drain": partial(self._drain, drains),
            "kill": self._kill,
        }
        if len(self._others) < MOST:
            choices["join"] = self._join
        name = self._random.choice(sorted(choices))
        return name, choices[name]

    async def _join(self) -> None:
        name = f"node{next(self._numbers)}"
        self._others.append(await asyncio.to_thread(self._start, name, "--join", self._first.address))

    async def _drain(self, drains: asyncio.TaskGroup) -> None:
        """Drain a node, without waiting for the end."""
        drains.create_task(asyncio.to_thread(self._terminate, self._take_one()), name="drain")

    async def _kill(self) -> None:
        node = self._take_one()
        await asyncio.to_thread(node.kill)
        self.tally.complaints += node.leftovers()

    def _terminate(self, node: Daemon) -> None:
        status = node.terminate()
        left = [f"{node.name} ended with {status}: {node.log()[-2000:]}"] if status else []
        self.tally.complaints += left + node.leftovers()

    def _take_one(self) -> Daemon:
        return self._others.pop(self._random.randrange(len(self._others)))

    def _start(self, name: str, *options: str) -> Daemon:
        return self._daemons.start("--name", name, "--cpu", "2", *options, variables=PATHS)

    def _end_all(self) -> None:
        for node in (*self._others, self._first):
            self._terminate(node)

    # --- Apps ---------------------------------------------------------------------------------------------------

    async def _use_until(self, ends_at: float, seed: int) -> None:
        loop, random = asyncio.get_running_loop(), Random(seed)
        async with handoff.Session(seeds=[self._first.address]) as session:
            watchdog = Watchdog(session)
            while loop.time() < ends_at:
                await self._run_one(session, random)
            watchdog.close()
        self.tally.complaints += watchdog.complaints

    async def _run_one(self, session: handoff.Session, random: Random) -> None:
        dag, expected = make_dag(random)
        try:
            run = await session.execute_distributed(dag, fetch=list(expected))
        except (handoff.NodeLost, handoff.AllocationError) as error:
            self.tally.runs[type(error).__name__] += 1
            return
        self.tally.runs["right" if dict(run.results) == expected else "wrong"] += 1
        await run.release()


def make_dag(random: Random) -> tuple[handoff.DAG, dict[int, bytes]]:
    """Layers, each function of which takes two results of the layer before; and what comes of each."""
    dag = handoff.DAG()
    expected: dict[int, bytes] = {}
    for number in range(LAYERS * WIDTH):
        layer_before = [taken for taken in range(number) if taken // WIDTH == number // WIDTH - 1]
        args = random.sample(layer_before, min(2, len(layer_before)))
        expected[number] = functions.blend(number, *(expected[taken] for taken in args))
        code = partial(functions.blend_slowly, number)
        dag.add_function(handoff.Function(number, args, code, cost={"cpu": 1}))
    return dag, expected
