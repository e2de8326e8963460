"""Small worlds of nested runs: the real machines of nodes and runs, and functions that begin runs and wait for them.

Messages take the same time always, and nothing is left to chance once a world has begun: two worlds of the same shape differ
only in what their allocation timeouts do. There is one node: it sends no adverts, and so runs could not know where room is.
"""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from msgspec import Struct, field

from handoff_actors.core.node.events import (
    CancelCoroutine,
    KillWorker,
    MessageFromPeer,
    NodeEffect,
    NodeEvent,
    PeerConnected,
    PeerLost,
    RecallWorker,
    Reply,
    RunJobs,
    SpawnWorker,
    WorkerDone,
    WorkerExited,
    WorkerFailed,
    WorkerRecalled,
    WorkerUp,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.events import MessageFromNode, Release, RunEffect, RunEnded, SendToNode
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import AllocationError, FunctionFailed
from handoff_actors.graph import Function
from handoff_actors.ids import Index, PeerId, Resources, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Done, Job, Ticket
from handoff_actors.wire.messages.nested import Ancestor
from handoff_actors.wire.messages.runs import FailureKind
from tests.core.builders import async_code, code, options, program_of

DELAY_S = 0.001
LEASE_S = 1e9
#: No world has anything to do for so long but to wait.
QUIET_S = 100.0


class Call(Struct):
    """One function: how long it takes, what it claims, and the functions of the run that it begins."""

    seconds: float
    cost: Resources
    is_async: bool
    node: str | None = None
    inner: list["Call"] = field(default_factory=list)


def random_calls(random: Random, depth: int) -> list[Call]:
    """Make the functions of one run, nested up to `depth` levels."""
    return [
        Call(
            random.choice((0.01, 0.1, 30.0)),
            random.choice(({}, {"cpu": 1.0}, {"cpu": 1.0}, {"cpu": 2.0})),
            random.random() < 0.4,
            random.choice((None, None, None, "n0")),
            random_calls(random, depth - 1) if depth and random.random() < 0.6 else [],
        )
        for _ in range(random.randint(1, 3))
    ]


class _Worker(Struct):
    is_async: bool
    queue: list[tuple[RunId, Job]] = field(default_factory=list)
    running: set[tuple[RunId, Index]] = field(default_factory=set)


class _Node:
    def __init__(self, world: "World", name: str, cpus: int) -> None:
        self.name = name
        self.world = world
        self.machine = NodeMachine({"cpu": float(cpus)}, cpus, cpus + 2, LEASE_S)
        self.workers: dict[WorkerId, _Worker] = {}

    def feed(self, event: NodeEvent) -> None:
        self._perform(self.machine.handle(event, self.world.now))

    def start(self) -> None:
        self._perform(self.machine.start(self.world.now))

    def wake(self) -> None:
        self._perform(self.machine.wake(self.world.now))

    def _perform(self, effects: Iterable[NodeEffect]) -> None:  # noqa: C901 - one table
        self.machine.check()
        for effect in effects:
            match effect:
                case SpawnWorker(worker, is_async):
                    self.workers[worker] = _Worker(is_async)
                    self.world.after(DELAY_S, lambda worker=worker: self.feed(WorkerUp(worker, worker)))  # type: ignore[misc]
                case KillWorker(worker):
                    for key in self.workers.pop(worker).running:
                        self.world.stop(key)
                    self.world.after(DELAY_S, lambda worker=worker: self.feed(WorkerExited(worker, 9, None)))  # type: ignore[misc]
                case RunJobs(worker, run, _, jobs):
                    self.workers[worker].queue += [
                        (run, member) for job in jobs for member in (job, *job.then)
                    ]
                    self._next(worker)
                case RecallWorker(worker):
                    queue = self.workers[worker].queue
                    back = [(run, Ticket(job.index, job.attempt)) for run, job in queue]
                    queue.clear()
                    self.world.after(DELAY_S, lambda w=worker, b=back: self.feed(WorkerRecalled(w, b)))  # type: ignore[misc]
                case CancelCoroutine(worker, run, index, attempt):
                    self.world.stop((run, index))
                    ticket = Ticket(index, attempt)
                    self.world.after(
                        DELAY_S,
                        lambda w=worker, r=run, t=ticket: self._ended(w, r, t, "cancelled"),  # type: ignore[misc]
                    )
                case Reply(peer, message):
                    self.world.after(DELAY_S, lambda p=peer, m=message: self.world.heard(p, self.name, m))  # type: ignore[misc]
                case _:
                    # Adverts would only say what replies do; there are no stored values.
                    pass

    def _next(self, worker: WorkerId) -> None:
        state = self.workers[worker]
        while state.queue and (state.is_async or not state.running):
            run, job = state.queue.pop(0)
            state.running.add((run, job.index))
            ticket = Ticket(job.index, job.attempt)
            self.world.begin(run, ticket, lambda kind, r=run, t=ticket: self._ended(worker, r, t, kind))  # type: ignore[misc]

    def _ended(self, worker: WorkerId, run: RunId, ticket: Ticket, kind: FailureKind | None) -> None:
        state = self.workers.get(worker)
        if state is None or (run, ticket.index) not in state.running:
            return
        state.running.discard((run, ticket.index))
        if kind is None:
            self.feed(WorkerDone(worker, run, [Done(ticket.index, ticket.attempt, b"v", worker, 0.1)]))
        else:
            self.feed(WorkerFailed(worker, run, ticket.index, ticket.attempt, kind, b"", "reason", 0.1))
        if worker in self.workers:
            self._next(worker)


class _Session:
    """The session of one run: of the app, or of a function."""

    def __init__(
        self,
        world: "World",
        calls: list[Call],
        parent: Ancestor | None,
        done: Callable[[FailureKind | None], None],
    ) -> None:
        self.world = world
        self.calls = calls
        self.run = RunId(next(world.numbers))
        self.peer = PeerId(b"%d" % self.run)
        self.done = done
        functions = [
            Function(
                number, [], async_code if call.is_async else code, cost=call.cost or None, node=call.node
            )
            for number, call in enumerate(calls)
        ]
        chosen = options(parent=parent, allocation_timeout_s=world.allocation_timeout_s)
        self.machine = RunMachine(self.run, program_of(*functions), chosen)

    def start(self) -> None:
        ups = [
            NodeUp(name, name, node.machine.capabilities, node.machine.ledger.spare(), 1, python="")
            for name, node in self.world.nodes.items()
        ]
        for node in self.world.nodes.values():
            node.feed(PeerConnected(self.peer))
        self.perform(self.machine.start(self.world.now, ups))

    def perform(self, effects: Iterable[RunEffect]) -> None:
        self.machine.check()
        for effect in effects:
            match effect:
                case SendToNode(name, message):
                    node, event = self.world.nodes[name], MessageFromPeer(self.peer, message)
                    self.world.after(DELAY_S, lambda n=node, e=event: n.feed(e))  # type: ignore[misc]
                case RunEnded(error):
                    is_deadlock = isinstance(error, AllocationError) or (
                        isinstance(error, FunctionFailed) and error.kind == "deadlock"
                    )
                    assert error is None or is_deadlock, error
                    self.world.deadlocks += isinstance(error, AllocationError)
                    self.world.after(0.0, self.close)
                    kind: FailureKind | None = "deadlock" if is_deadlock else None
                    self.world.after(DELAY_S, lambda k=kind: self.done(k))  # type: ignore[misc]
                case _:
                    pass

    def close(self) -> None:
        if self.world.sessions.pop(self.peer, None) is not None:
            self.machine.handle(Release(), self.world.now)
            for node in self.world.nodes.values():
                node.feed(PeerLost(self.peer))


class World:
    """A node, and an app's run of functions some of which begin runs of their own."""

    def __init__(self, seed: int, allocation_timeout_s: float) -> None:
        random = Random(seed)
        self.allocation_timeout_s = allocation_timeout_s
        self.now = 0.0
        self.numbers = count(1)
        self.sessions: dict[PeerId, _Session] = {}
        self.nodes = {"n0": _Node(self, "n0", random.randint(2, 3))}
        #: Nested runs that have ended since they would have waited for ever.
        self.deadlocks = 0
        self.is_over = False
        self._by_run: dict[RunId, _Session] = {}
        self._inner: dict[tuple[RunId, Index], _Session] = {}
        self._agenda: list[tuple[float, int, Callable[[], Any]]] = []
        self._order = count()
        self._moved_at = 0.0
        self._calls = random_calls(random, 3)

    def play(self) -> None:
        """Let time pass until the app's run is over, or nothing has begun or ended for long."""
        for node in self.nodes.values():
            node.start()
        self.after(0.01, lambda: self._open(self._calls, None, lambda _: self._end()))
        while not self.is_over and self.now < self._moved_at + QUIET_S:
            times = [time for time in map(_wake_at, self._machines()) if time is not None]
            if self._agenda and self._agenda[0][0] <= min(times, default=float("inf")):
                self.now, _, action = heappop(self._agenda)
                action()
                continue
            self.now = max(self.now, min(times))
            for node in self.nodes.values():
                if (_wake_at(node) or self.now) <= self.now:
                    node.wake()
            for session in list(self.sessions.values()):
                wake_at = session.machine.wake_at
                if wake_at is not None and wake_at <= self.now:
                    session.perform(session.machine.wake(self.now))

    def after(self, seconds: float, action: Callable[[], Any]) -> None:
        heappush(self._agenda, (self.now + seconds, next(self._order), action))

    def heard(self, peer: PeerId, name: str, message: Any) -> None:
        session = self.sessions.get(peer)
        if session is not None:
            session.perform(session.machine.handle(MessageFromNode(name, message), self.now))

    def begin(self, run: RunId, ticket: Ticket, done: Callable[[FailureKind | None], None]) -> None:
        """Begin a function: it takes its time, and then waits for its run."""
        self._moved_at = self.now
        session = self._by_run[run]
        call, key = session.calls[ticket.index], (run, ticket.index)

        def go_on() -> None:
            if session.peer not in self.sessions:
                return
            self._moved_at = self.now
            if call.inner:
                parent = Ancestor(run, ticket.index, ticket.attempt)
                self._inner[key] = self._open(call.inner, parent, done)
            else:
                done(None)

        self.after(call.seconds, go_on)

    def stop(self, key: tuple[RunId, Index]) -> None:
        """End a function, and the runs within it."""
        session = self._inner.pop(key, None)
        if session is not None:
            for index in range(len(session.calls)):
                self.stop((session.run, index))
            session.close()

    def _open(
        self, calls: list[Call], parent: Ancestor | None, done: Callable[[FailureKind | None], None]
    ) -> _Session:
        session = _Session(self, calls, parent, done)
        self.sessions[session.peer] = self._by_run[session.run] = session
        session.start()
        return session

    def _end(self) -> None:
        self.is_over = True

    def _machines(self) -> list[_Node | _Session]:
        return [*self.nodes.values(), *self.sessions.values()]


def _wake_at(actor: _Node | _Session) -> float | None:
    return actor.machine.wake_at
