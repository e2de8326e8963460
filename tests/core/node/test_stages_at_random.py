"""Stages and functions of two runs at random on one node: its accounts stay right, and each stage gets a worker for itself."""

from collections.abc import Callable, Sequence
from itertools import count
from random import Random

import pytest
from msgspec.structs import replace

from handoff_actors.core.node.events import (
    FetchInput,
    InputFetched,
    InputMissing,
    KillWorker,
    NestedWaitBegan,
    NestedWaitEnded,
    NodeEffect,
    NodeEvent,
    PeerConnected,
    RecallWorker,
    RunJobs,
    SpawnWorker,
    WorkerExited,
    WorkerRecalled,
    WorkerUp,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.stage_events import PassRows, StageAnswered
from handoff_actors.ids import Attempt, Index, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Job, Ref, Ticket, ValueKey
from handoff_actors.wire.messages.runs import CancelJobs, Close, Drop
from handoff_actors.wire.messages.stages import StageInput, StoredItem
from tests.core.builders import APP, LEASE_S, assign, done, job, said, template, worker_done

SEEDS = 40
STEPS = 300
TEMPLATES = [
    replace(template(0), is_stage=True),
    replace(template(1, {"cpu": 1.0}), is_stage=True),
    template(2),
    template(3, {"cpu": 1.0}),
]
VALUES = range(1000, 1005)


class World:
    """A node of three cores. Whatever it asks for happens at some time, or not."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.machine = NodeMachine({"cpu": 3.0}, 2, 8, LEASE_S)
        self.held: dict[WorkerId, list[tuple[RunId, Job]]] = {}
        self.starting: list[WorkerId] = []
        self.dying: list[WorkerId] = []
        self.recalled: list[WorkerId] = []
        self.fetching: list[tuple[RunId, Index]] = []
        self.attempts: dict[tuple[RunId, Index], int] = {}
        self.waits: list[tuple[RunId, Index, Attempt]] = []
        self.runs = [RunId(7), RunId(8)]
        self.passed = 0
        self.fresh = count(100)
        self.perform(self.machine.start(0.0))
        self.handle(PeerConnected(APP, has_lease=False))

    def handle(self, event: NodeEvent) -> None:
        self.now += self.random.choice((0.0, 0.001, 0.3))
        self.perform(self.machine.handle(event, self.now))

    def perform(self, effects: Sequence[NodeEffect]) -> None:  # noqa: C901 - one table
        self.machine.check()
        for effect in effects:
            match effect:
                case SpawnWorker(worker):
                    self.starting.append(worker)
                case RunJobs(worker, run, templates, jobs):
                    held = self.held[worker]
                    held += [(run, given) for given in jobs]
                    if any(templates[given.template].is_stage for given in jobs):
                        assert len(held) == 1, "a stage has its worker for itself"
                case KillWorker(worker):
                    self.dying.append(worker)
                case RecallWorker(worker):
                    self.recalled.append(worker)
                case FetchInput(_, run, index):
                    self.fetching.append((run, index))
                case PassRows(worker, run, index, attempt):
                    assert [(of, each.index, each.attempt) for of, each in self.held[worker]] == [
                        (run, index, attempt)
                    ]
                    self.passed += 1

    def step(self) -> None:
        acts: list[Callable[[], None]] = [
            self.assign, self.assign, self.come_up, self.come_up, self.end_job, self.exit, self.wake,
            self.tell, self.tell, self.answer, self.fetched, self.cancel, self.drop, self.wait, self.recall,
        ]  # fmt: skip
        self.random.choice(acts)()
        if self.random.random() < 0.01:
            # A run that is over does not begin again.
            self.handle(said(Close(self.runs.pop(0))))
            self.runs.append(RunId(self.runs[-1] + 1))

    def a_run(self) -> RunId:
        return self.random.choice(self.runs)

    def a_held(self) -> tuple[WorkerId, RunId, Job] | None:
        running = [(worker, *held[0]) for worker, held in self.held.items() if held]
        return self.random.choice(running) if running else None

    def assign(self) -> None:
        run, number = self.a_run(), self.random.randrange(4)
        # Each index is of one kind. A stage may begin again while its last attempt is ending.
        is_stage = TEMPLATES[number].is_stage
        index = Index(self.random.randrange(6) * 4 + number if is_stage else next(self.fresh))
        attempt = self.attempts[run, index] = self.attempts.get((run, index), 0) + 1
        self.handle(said(assign([job(index, attempt=attempt, number=number)], TEMPLATES, run)))

    def come_up(self) -> None:
        if self.starting:
            worker = self.starting.pop(self.random.randrange(len(self.starting)))
            self.held[worker] = []
            self.handle(WorkerUp(worker, 1000 + worker))

    def end_job(self) -> None:
        found = self.a_held()
        if found is not None:
            worker, run, ended = found
            self.held[worker].pop(0)
            entry = done(ended.index, attempt=ended.attempt, ran_s=self.random.choice((1e-6, 1.0)))
            self.handle(worker_done(entry, worker=worker, run=run))

    def exit(self) -> None:
        dying = [worker for worker in self.dying if worker in self.held]
        if not dying and self.held and self.random.random() < 0.3:
            dying = list(self.held)
        if dying:
            worker = self.random.choice(dying)
            del self.held[worker]
            self.handle(WorkerExited(worker, 9, None))

    def wake(self) -> None:
        self.now += 1.0
        self.perform(self.machine.wake(self.now))

    def tell(self) -> None:
        found = self.a_held()
        if found is not None:
            _, run, stage = found
            indices = self.random.sample(VALUES, self.random.randrange(3))
            needs = [Ref(Index(index), 100, ["there"], self.random.randrange(2)) for index in indices]
            message = StageInput(run, stage.index, stage.attempt, b"rows", needs)
            worker = self.machine.stages.worker_for(APP, message)
            if worker is None:
                self.handle(said(message))
            else:
                self.perform([PassRows(worker, run, stage.index, stage.attempt, b"rows")])

    def answer(self) -> None:
        found = self.a_held()
        if found is not None:
            worker, run, stage = found
            stored = [StoredItem(Index(self.random.choice(VALUES)), 100)]
            self.handle(StageAnswered(worker, run, stage.index, stage.attempt, b"rows", stored))

    def fetched(self) -> None:
        if self.fetching:
            run, index = self.fetching.pop(self.random.randrange(len(self.fetching)))
            is_there = self.random.random() < 0.8
            self.handle(InputFetched(run, index, 100) if is_there else InputMissing(run, index, "gone"))

    def cancel(self) -> None:
        found = self.a_held()
        if found is not None:
            _, run, stage = found
            self.handle(said(CancelJobs(run, [Ticket(stage.index, stage.attempt)])))

    def drop(self) -> None:
        self.handle(said(Drop(self.a_run(), [ValueKey(Index(self.random.choice(VALUES)))])))

    def wait(self) -> None:
        if self.waits and self.random.random() < 0.5:
            self.handle(NestedWaitEnded(*self.waits.pop()))
            return
        found = self.a_held()
        if found is not None:
            _, run, waiting = found
            self.waits.append((run, waiting.index, waiting.attempt))
            self.handle(NestedWaitBegan(*self.waits[-1]))

    def recall(self) -> None:
        if self.recalled:
            worker = self.recalled.pop()
            if worker in self.held:
                back = self.held[worker][1:]
                del self.held[worker][1:]
                tickets = [(run, Ticket(each.index, each.attempt)) for run, each in back]
                self.handle(WorkerRecalled(worker, tickets))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_accounts_stay_right(seed: int) -> None:
    world = World(seed)

    for _ in range(STEPS):
        world.step()

    world.machine.check()


def test_rows_pass() -> None:
    worlds = [World(seed) for seed in range(10)]

    for world in worlds:
        for _ in range(STEPS):
            world.step()

    assert sum(world.passed for world in worlds) > 10


def test_node_is_empty_when_all_runs_are_over() -> None:
    world = World(0)
    for _ in range(STEPS):
        world.step()

    for run in world.runs:
        world.handle(said(Close(run)))
    while world.dying:
        world.exit()
        world.dying = [worker for worker in world.dying if worker in world.held]
    world.wake()

    assert world.machine.is_idle
    assert world.machine.advertisement().stored == 0
    assert not world.machine.stages._waiting
