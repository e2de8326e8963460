"""App, node and worker of a run that never ends do not grow with the functions that have gone through it."""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.core.run.facts import history
from handoff_actors.core.run.growing import retention
from tests.processes.app import App
from tests.workers.functions import same

if TYPE_CHECKING:
    from handoff_actors.client.growing.run_handle import RunHandle

pytestmark = pytest.mark.processes

#: Blocks of memory by which a process varies that does nothing new.
NOISE = 350
LARGE = bytes(100_000)


async def calls(run: OpenRun) -> None:
    """500 calls, a few at a time."""

    async def caller() -> None:
        for number in range(100):
            assert await run.call(same, number) == number

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(caller())


class Chain:
    """100 further steps of one chain, each of which would leave some twenty blocks behind, as others may be made from it."""

    def __init__(self) -> None:
        self._state: RunHandle[bytes] | bytes = LARGE

    async def __call__(self, run: OpenRun) -> None:
        for _ in range(100):
            self._state = run.call(same, self._state)
        assert await run.call(len, self._state) == len(LARGE)


@pytest.mark.parametrize("work", [calls, Chain()], ids=["calls", "chain"])
async def test_nothing_grows_with_the_number_of_functions_that_are_done(
    app: App, monkeypatch: pytest.MonkeyPatch, work: Callable[[OpenRun], Awaitable[None]]
) -> None:
    monkeypatch.setattr(retention, "MOST_LINEAGE", 10)
    monkeypatch.setattr(history, "MOST_FORGOTTEN", 10)
    monkeypatch.setattr(history, "SUMMED_AT_ONCE", 1)
    async with app.session.open_run() as run:
        # Caches, tables and estimates reach their sizes.
        await work(run)
        before = await blocks(run)

        await work(run)

        assert await blocks(run) - before < NOISE


async def blocks(run: OpenRun) -> int:
    """The memory that this process has allocated: the app and its own node are in it."""
    gc.collect()
    async with asyncio.timeout(10):
        while run._released:  # noqa: ASYNC110 - what is forgotten has nobody to tell
            await asyncio.sleep(0)
    return sys.getallocatedblocks()
