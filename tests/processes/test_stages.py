"""Stages of streams as functions of open runs, told by hand what an app of a stream would tell them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

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
from tests.processes.app import App


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


async def test_a_stage_runs_until_it_is_closed(app: App) -> None:
    async with stages_of(app.session) as stages:
        handle = stages.start(1, double)
        await stages.ready(1)

        stages.tell(1, item(1, 4), item(2, 5))
        outcomes = await stages.outcomes(1, 2)

        assert {number: value_of(outcome) for number, outcome in outcomes.items()} == {1: 8, 2: 10}
        stages.tell(1, CloseStage())
        await handle
