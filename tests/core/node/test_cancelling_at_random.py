"""A node whose app cancels attempts at random, on simulated workers: each attempt has one outcome, in time."""

from collections import Counter
from random import Random

import pytest

from handoff_actors.core.node.events import (
    CancelCoroutine,
    DiscardValue,
    FetchInput,
    InputFetched,
    InputMissing,
    KeepValue,
    KillWorker,
    MessageFromPeer,
    NodeEffect,
    NodeEvent,
    PeerConnected,
    RecallWorker,
    Reply,
    RunJobs,
    SpawnWorker,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.scheduling.worker_scheduler import CANCEL_GRACE_S
from handoff_actors.ids import Attempt, Index, RunId, WorkerId
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.jobs import Earlier, Job, Ref, Ticket
from handoff_actors.wire.messages.runs import Assign, CancelJobs, Close, Closed, Completed, Failed, Recalled
from tests.core.builders import APP, LEASE_S, RUN, template
from tests.simulation.dags import LARGE_NBYTES, Conduct
from tests.simulation.network import Channel, Clock, Timeline
from tests.simulation.workers import Key, SimulatedWorker, Task

SEEDS = 100
FUNCTIONS = 60
DELAY_S = 0.0005
#: Longer than anything that the app waits for.
ENDLESS_S = 1e6
LONG_S = 1.0
ENDS_WITHIN_S = 200.0
#: A coroutine or a computation that doesn't listen, behind one other that nobody has cancelled, and what is on its way.
CANCELLED_WITHIN_S = LONG_S + CANCEL_GRACE_S + 0.1
TEMPLATES = [
    template(0, {"cpu": 1.0}),
    template(1, is_async=True),
    template(2, {"cpu": 1.0}, timeout=0.7),
    template(3, timeout=0.7, is_async=True),
]


class World:
    """A node of two cores, its workers, and an app that sends functions again which the node has not run."""

    longest_lag_s = 0.0

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.timeline = Timeline()
        self.clock = Clock(self.timeline, self.random)
        self.machine = NodeMachine({"cpu": 2.0}, 2, 6, LEASE_S)
        self.workers: dict[WorkerId, SimulatedWorker] = {}
        self.conducts: dict[Index, Conduct] = {}
        self.templates: dict[Index, int] = {}
        self.attempts: dict[Index, int] = {}
        self.open: set[Index] = set()
        self.asked_at: dict[tuple[Index, Attempt], float] = {}
        self.reports: Counter[tuple[Index, Attempt]] = Counter()
        self.kinds: Counter[str] = Counter()
        self.results: set[tuple[Index, Attempt]] = set()
        self.stored: set[tuple[Index, Attempt]] = set()
        self.is_closed = False
        self._to_node = Channel[ToNode](
            self.timeline, self.random, DELAY_S, lambda said: self.handle(MessageFromPeer(APP, said))
        )
        self._to_app = Channel[FromNode](self.timeline, self.random, DELAY_S, self.hear)
        self.perform(self.machine.start(self.clock.now))
        self.handle(PeerConnected(APP, has_lease=False))

    # --- The node

    def handle(self, event: NodeEvent) -> None:
        self.perform(self.machine.handle(event, self.clock.now))

    def wake(self) -> None:
        if (self.machine.wake_at or 0.0) <= self.clock.now:
            self.perform(self.machine.wake(self.clock.now))

    def perform(self, effects: list[NodeEffect]) -> None:
        self.machine.check()
        for effect in effects:
            self.carry_out(effect)
        wake_at = self.machine.wake_at
        if wake_at is not None:
            self.timeline.at(max(self.timeline.now, self.clock.when(wake_at)), self.wake)

    def carry_out(self, effect: NodeEffect) -> None:  # noqa: C901 - one table
        match effect:
            case Reply(_, message):
                self._to_app.send(message)
            case SpawnWorker(worker, is_async):
                inbox = Channel(self.timeline, self.random, DELAY_S, self.handle)
                self.workers[worker] = SimulatedWorker(worker, self, inbox, is_async=is_async)
                self.timeline.after(DELAY_S, self.workers[worker].come_up)
            case RunJobs(worker):
                self.timeline.after(DELAY_S, lambda: self.workers[worker].give(effect))
            case RecallWorker(worker):
                self.timeline.after(DELAY_S, self.workers[worker].give_back)
            case CancelCoroutine(worker, run, index):
                self.timeline.after(DELAY_S, lambda: self.workers[worker].cancel((run, index)))
            case KillWorker(worker):
                self.timeline.after(DELAY_S, self.workers[worker].die)
            case FetchInput(_, run, index):
                is_there = self.random.random() < 0.8
                event = InputFetched(run, index, 10) if is_there else InputMissing(run, index, "gone")
                self.timeline.after(self.random.random(), lambda: self.handle(event))
            case KeepValue(_, index, attempt):
                self.results.remove((index, attempt))
                self.stored.add((index, attempt))
            case DiscardValue(_, index, attempt):
                self.results.discard((index, attempt))
            case _:
                pass

    # --- What its workers need

    def conduct_of(self, key: Key, attempt: int) -> tuple[Conduct, int]:
        return self.conducts[key[1]], attempt

    def takes_s(self, usual_s: float) -> float:
        return usual_s

    def begin(self, task: Task) -> bytes:
        return b"value"

    def store_result(self, task: Task) -> int:
        self.results.add((task.job.index, task.job.attempt))
        return LARGE_NBYTES

    def store_part(self, task: Task, index: int, value: bytes) -> None:
        raise AssertionError("no function here returns a graph")

    # --- The app

    def say(self, message: ToNode) -> None:
        self._to_node.send(message)

    def new_function(self) -> Index:
        index = Index(len(self.attempts))
        duration_s = self.random.choice((0.00001, 0.00001, 0.00001, 0.00001, 0.01, LONG_S, ENDLESS_S))
        conduct = Conduct(duration_s, self.random.random() < 0.2, is_stubborn=self.random.random() < 0.3)
        conduct.mishaps = (
            {1: self.random.choice(("exception", "crash"))} if self.random.random() < 0.1 else {}
        )
        self.conducts[index], self.attempts[index] = conduct, 0
        self.templates[index] = self.random.choice((0, 0, 0, 0, 1, 2, 3))
        self.open.add(index)
        return index

    def job(self, index: Index, *behind: Index) -> Job:
        self.attempts[index] += 1
        args = [Ref(Index(1000 + index % 5), 10, ["elsewhere"])] if self.random.random() < 0.2 else []
        then = []
        for earlier, member in zip((index, *behind), behind, strict=False):
            self.attempts[member] += 1
            then.append(Job(member, Attempt(self.attempts[member]), 0, [Earlier(earlier)], None))
        attempt = Attempt(self.attempts[index])
        return Job(index, attempt, self.templates[index], [*args], None, tuple(then))

    def send_some(self) -> None:
        jobs: list[Job] = []
        while len(self.attempts) < FUNCTIONS and self.random.random() < 0.9:
            head = self.new_function()
            behind = [self.new_function() for _ in range(self.random.choice((0, 0, 1, 3)))]
            if behind:
                self.templates |= dict.fromkeys((head, *behind), 0)
            jobs.append(self.job(head, *behind))
        self.say(Assign(RUN, [], jobs))

    def cancel_some(self) -> None:
        """Cancel some functions, and all that never end: others may wait behind them on their worker."""
        tickets = [
            self.cancelled(index)
            for index in sorted(self.open)
            if self.random.random() < 0.2 or self.conducts[index].duration_s == ENDLESS_S
        ]
        strange = [Ticket(Index(5), Attempt(99)), Ticket(Index(12345), Attempt(1))]
        self.say(CancelJobs(RUN, [*tickets, *strange, *tickets[:1]]))

    def cancelled(self, index: Index) -> Ticket:
        attempt = Attempt(self.attempts[index])
        self.asked_at.setdefault((index, attempt), self.timeline.now)
        return Ticket(index, attempt)

    def hear(self, message: FromNode) -> None:
        match message:
            case Completed(_, entries):
                for entry in entries:
                    self.reported(entry.index, entry.attempt, "completed")
            case Failed(_, index, attempt, kind):
                assert kind != "cancelled" or (index, attempt) in self.asked_at, "nobody has cancelled it"
                self.reported(index, attempt, kind)
            case Recalled(_, tickets):
                for ticket in tickets:
                    asked_at = self.asked_at.get((ticket.index, ticket.attempt), self.timeline.now)
                    assert self.timeline.now <= asked_at + 2 * DELAY_S, (
                        "the node has known that it is cancelled"
                    )
                    self.reported(ticket.index, ticket.attempt, "recalled")
            case Closed():
                self.is_closed = True
            case _:
                pass

    def reported(self, index: Index, attempt: Attempt, what: str) -> None:
        self.kinds[what] += 1
        self.reports[index, attempt] += 1
        assert self.reports[index, attempt] == 1, f"{index} was reported twice"
        asked_at = self.asked_at.get((index, attempt), self.timeline.now)
        late_s = self.timeline.now - asked_at
        assert late_s < CANCELLED_WITHIN_S, f"{index} was cancelled {late_s} s ago"
        if what in {"recalled", "worker", "input"} and (index, attempt) not in self.asked_at:
            self.say(Assign(RUN, [], [self.job(index)]))
        else:
            self.open.discard(index)

    # --- The course of things

    def run(self) -> None:
        self.say(Assign(RUN, TEMPLATES, []))
        while len(self.attempts) < FUNCTIONS:
            self.random.choice((self.send_some, self.cancel_some, lambda: None))()
            self.go_on(self.random.choice((0.0, 0.001, 0.01, 0.5)))
        ends_at = self.timeline.now + ENDS_WITHIN_S
        while self.open:
            assert self.timeline.now < ends_at, f"{self.open} are still open"
            self.cancel_some()
            self.go_on(2.0)
        self.say(Close(RunId(RUN)))
        self.go_on(10.0)

    def go_on(self, seconds: float) -> None:
        until = self.timeline.now + seconds
        self.timeline.at(until, lambda: None)
        while self.timeline.now < until:
            self.timeline.step()


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_each_attempt_has_one_outcome_and_cancelled_ones_end_in_time(first: int) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(first, first + 50):
        world = World(seed)

        world.run()

        assert world.is_closed
        assert world.machine.is_idle
        assert not world.results, "results that do not count are still there"
        kinds += world.kinds
    assert {"completed", "cancelled", "recalled", "exception", "worker", "timeout"} <= kinds.keys()
