"""Stages of streams as functions of open runs, told by hand what an app of a stream would tell them."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

import handoff_actors as handoff
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Ref, ValueKey
from handoff_actors.wire.messages.runs import Drop
from handoff_actors.wire.messages.stage_rows import (
    CloseStage,
    FromStage,
    ItemsEnded,
    OutcomeRow,
    RunItem,
    StageReady,
    ToStage,
)
from handoff_actors.wire.messages.stages import StageInput, StageInputLost, StageOutput
from handoff_actors.wire.payload import decode, encode
from handoff_actors.workers.child.stage.run import run_stage
from handoff_actors.workers.stage_protocol import content_of, from_stage
from handoff_actors.workers.stage_spec import FromProducer, StageSpec
from tests.daemons import Daemon, Daemons
from tests.processes.app import App
from tests.workers.pool_harness import zygote_of

pytestmark = pytest.mark.processes


class Stages:
    """What the stages of one open run say, and what they are told."""

    def __init__(self, session: handoff.Session, run: handoff.OpenRun) -> None:
        self._hub = session._hub
        self.run = run
        self.run_id = run._going.runner.run
        self._hub.runs.stage_listeners[self.run_id] = self._heard
        #: By lane: its latest place.
        self.places: dict[int, tuple[str, Index, int]] = {}
        self.rows: dict[int, list[FromStage]] = {}
        #: Stored values, with the node and the attempt that made each.
        self.stored: dict[Index, tuple[str, int]] = {}
        self.lost: list[StageInputLost] = []
        self._changed = asyncio.Event()

    def start(
        self, lane: int, code: Callable[..., Any], *extra: Any, **options: Any
    ) -> handoff.RunHandle[None]:
        spec = StageSpec(0, lane, "stage", code, (FromProducer(0),), **options.pop("fields", {}))
        return self.run.call(run_stage, spec, *extra, **options)

    def _heard(self, node: str, message: StageOutput | StageInputLost) -> None:
        self._changed.set()
        if isinstance(message, StageInputLost):
            self.lost.append(message)
            return
        rows = from_stage(message.content)
        for row in rows:
            if isinstance(row, StageReady):
                self.places[row.lane] = node, message.index, message.attempt
                self.rows.setdefault(row.lane, [])
        self.stored |= {item.index: (node, message.attempt) for item in message.stored}
        [lane] = [
            lane for lane, place in self.places.items() if place == (node, message.index, message.attempt)
        ]
        self.rows[lane] += rows

    def tell(self, lane: int, *rows: ToStage, needs: Sequence[Ref] = ()) -> None:
        node, index, attempt = self.places[lane]
        self._hub.send(node, StageInput(self.run_id, index, attempt, content_of(rows), list(needs)))

    def drop(self, node: str, index: Index) -> None:
        self._hub.send(node, Drop(self.run_id, [ValueKey(index, self.stored[index][1])], []))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def ready(self, *lanes: int) -> None:
        await self.until(lambda: self.places.keys() >= set(lanes))

    async def outcomes(self, lane: int, count: int) -> dict[int, OutcomeRow]:
        def found() -> dict[int, OutcomeRow]:
            ended = [row for row in self.rows[lane] if isinstance(row, ItemsEnded)]
            return {number: outcome for row in ended for number, outcome, _ in row.ends}

        await self.until(lambda: len(found()) >= count)
        return found()


@asynccontextmanager
async def stages_of(session: handoff.Session) -> AsyncIterator[Stages]:
    async with session.open_run(on_failure="continue") as run:
        yield Stages(session, run)


def item(number: int, value: Any) -> RunItem:
    return RunItem(number, [encode(value).to_bytes()])


def value_of(outcome: OutcomeRow) -> Any:
    assert isinstance(outcome, bytes), outcome
    return decode(outcome)


def double(x: Any) -> Any:
    return 2 * x


def sum_of(x: Any) -> float:
    return float(x.sum())


def pid_of(_x: Any) -> int:
    return os.getpid()


def die_behind_a_large_result(number: int) -> Any:
    if number == 39:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.ones(20_000) if number == 38 else number


def sleep(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_stage_runs_until_it_is_closed(app: App) -> None:
    async with stages_of(app.session) as stages:
        handle = stages.start(1, double)
        await stages.ready(1)

        stages.tell(1, item(1, 4), item(2, 5))
        outcomes = await stages.outcomes(1, 2)

        assert {number: value_of(outcome) for number, outcome in outcomes.items()} == {1: 8, 2: 10}
        stages.tell(1, CloseStage())
        await handle


async def test_more_stages_than_cores_run_beside_functions(app: App) -> None:
    async with stages_of(app.session) as stages:
        handles = [stages.start(lane, double) for lane in range(6)]
        await stages.ready(*range(6))

        for lane in range(6):
            stages.tell(lane, item(1, lane))
        outcomes = [await stages.outcomes(lane, 1) for lane in range(6)]
        ordinary = await asyncio.gather(*(stages.run.call(double, number) for number in range(20)))

        assert [value_of(outcome[1]) for outcome in outcomes] == [2 * lane for lane in range(6)]
        assert ordinary == [2 * number for number in range(20)]
        # The stages run on.
        await app.until(lambda: app.node.advert().busy == 0 and app.node.advert().running == 6)
        for lane in range(6):
            stages.tell(lane, CloseStage())
        await asyncio.gather(*handles)
    await app.until_idle()


async def test_stages_hold_their_claims_until_they_end(app: App) -> None:
    async with stages_of(app.session) as stages:
        first = stages.start(1, double, cost={"cpu": 2})
        await stages.ready(1)
        second = stages.start(2, double, cost={"cpu": 1})
        await app.until(lambda: app.node.advert().spare["cpu"] == 0.0)
        assert 2 not in stages.places

        stages.tell(1, CloseStage())
        await first
        await stages.ready(2)

        stages.tell(2, CloseStage())
        await second
    await app.until_idle()


async def test_large_values_stay_in_the_store_until_they_are_dropped(app: App) -> None:
    array = np.arange(100_000.0)
    async with stages_of(app.session) as stages:
        stages.start(1, double)
        handle = stages.start(2, sum_of)
        await stages.ready(1, 2)

        stages.tell(1, item(1, array))
        [outcome] = (await stages.outcomes(1, 1)).values()
        assert isinstance(outcome, tuple)
        assert len(outcome) == 2
        index, nbytes = outcome
        name, attempt = stages.stored[index]
        stages.tell(2, RunItem(7, [outcome]), needs=[Ref(index, nbytes, [], attempt)])

        assert value_of((await stages.outcomes(2, 1))[7]) == 2 * array.sum()
        assert app.stored_files() == [f"{stages.run_id:016x}-{index}"]
        stages.drop(name, index)
        stages.tell(2, item(8, np.ones(3)))
        await stages.outcomes(2, 2)
        assert app.stored_files() == []
        stages.tell(1, item(2, array))
        await stages.outcomes(1, 2)
        stages.tell(1, CloseStage())
        stages.tell(2, CloseStage())
        await handle
    await app.until_idle()
    assert app.stored_files() == []


async def test_killed_worker_is_replaced_and_says_that_it_is_ready(app: App) -> None:
    async with stages_of(app.session) as stages:
        handle = stages.start(1, pid_of)
        await stages.ready(1)
        stages.tell(1, item(1, 0))
        pid = value_of((await stages.outcomes(1, 1))[1])
        before = stages.places[1]

        os.kill(pid, signal.SIGKILL)
        await stages.until(lambda: stages.places[1] != before)
        stages.tell(1, item(2, 0))

        assert value_of((await stages.outcomes(1, 2))[2]) != pid
        stages.tell(1, CloseStage())
        await handle
    await app.until_idle()


async def test_what_a_killed_stage_has_stored_and_not_told_of_is_removed(app: App) -> None:
    async with stages_of(app.session) as stages:
        handle = stages.start(1, die_behind_a_large_result)
        await stages.ready(1)
        before = stages.places[1]

        # The first item's result is in the store, and not told of as the second takes long.
        stages.tell(1, item(0, 0))
        stages.tell(1, *(item(number, number) for number in range(1, 40)))
        await stages.until(lambda: stages.places[1] != before)

        told = {f"{stages.run_id:016x}-{each}" for each in stages.stored}
        assert set(app.stored_files()) <= told
        stages.tell(1, CloseStage())
        await handle
    await app.until_idle()


async def test_stages_end_when_their_run_is_cancelled(app: App) -> None:
    async def stream() -> None:
        async with stages_of(app.session) as stages:
            for lane in range(4):
                stages.start(lane, sleep)
            await stages.ready(*range(4))
            stages.tell(0, item(1, 60.0))
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await stream()

    await app.until_idle()
    # Besides the zygote there are the usual workers, and perhaps one that has not been idle for long. The others may still be ending.
    zygote = zygote_of(app.node._store.directory)
    async with asyncio.timeout(10):
        while len(zygote.children(recursive=True)) > 3:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.05)


async def test_cancelled_stage_ends_in_the_middle_of_an_item(app: App) -> None:
    async with stages_of(app.session) as stages:
        handle = stages.start(1, sleep)
        await stages.ready(1)
        stages.tell(1, item(1, 60.0))
        await asyncio.sleep(0.05)

        assert handle.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handle
    await app.until_idle()


async def test_stage_that_cannot_begin_fails_as_functions_do(app: App) -> None:
    def init() -> None:
        raise OSError("no such model")

    async with stages_of(app.session) as stages:
        handle = stages.start(1, double, fields={"init": init}, max_retries=0)

        with pytest.raises(handoff.FunctionFailed) as caught:
            await handle

    assert isinstance(caught.value.__cause__, OSError)


# --- Several nodes ----------------------------------------------------------------------------------------------


@pytest.fixture
def daemons() -> Iterator[Daemons]:
    made = Daemons()
    yield made
    made.close()


def start(daemons: Daemons, name: str, *options: str) -> Daemon:
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "HANDOFF_CHECK": "1"}
    return daemons.start("--name", name, "--cpu", "2", "--memory", "1000", *options, variables=variables)


async def test_large_values_travel_between_nodes_and_none_is_left(daemons: Daemons) -> None:
    first = start(daemons, "n1")
    second = start(daemons, "n2", "--join", first.address)
    array = np.arange(200_000.0)
    async with handoff.Session(seeds=[first.address]) as session, stages_of(session) as stages:
        stages.start(1, double, node="n1")
        stages.start(2, sum_of, node="n2")
        await stages.ready(1, 2)

        stages.tell(1, item(1, array))
        outcome = (await stages.outcomes(1, 1))[1]
        assert isinstance(outcome, tuple)
        assert len(outcome) == 2
        index, nbytes = outcome
        assert len(first.stored()) == 1
        stages.tell(
            2, RunItem(1, [outcome]), needs=[Ref(index, nbytes, [first.address], stages.stored[index][1])]
        )
        # It waits behind the other.
        stages.tell(2, item(2, np.ones(2)))
        outcomes = await stages.outcomes(2, 2)

        assert list(outcomes) == [1, 2]
        assert value_of(outcomes[1]) == 2 * array.sum()
        assert len(second.stored()) == 1
        stages.tell(2, RunItem(3, [(index + 1, 10)]), needs=[Ref(index + 1, 10, [first.address])])
        await stages.until(lambda: bool(stages.lost))
        assert stages.lost[0].lost == index + 1
        stages.drop("n1", index)
        for lane in (1, 2):
            stages.tell(lane, CloseStage())
    daemons_are_empty = [first, second]
    for daemon in daemons_are_empty:
        daemon.wait_until(lambda daemon=daemon: daemon.stored() == [])  # type: ignore[misc]


async def test_stage_of_a_killed_node_begins_again_on_another(daemons: Daemons) -> None:
    first = start(daemons, "n1")
    second = start(daemons, "n2", "--join", first.address)
    by_name = {"n1": first, "n2": second}
    async with (
        handoff.Session(seeds=[first.address, second.address]) as session,
        stages_of(session) as stages,
    ):
        handle = stages.start(1, double)
        await stages.ready(1)
        name, _, _ = stages.places[1]

        by_name[name].process.kill()
        await stages.until(lambda: stages.places[1][0] != name)
        stages.tell(1, item(1, 4))

        assert value_of((await stages.outcomes(1, 1))[1]) == 8
        stages.tell(1, CloseStage())
        await handle
