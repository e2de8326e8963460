"""Small worlds of nested runs: the real machines of nodes and runs, and functions that begin runs and wait for them.

Messages take the same time always, and without faults nothing is left to chance once a world has begun: two worlds of the same
shape differ only in what their allocation timeouts do. Such a world has one node, which sends no adverts.

A world with faults has two nodes that advertise. Workers die, one node may leave, the app may cancel its run, and a node learns
that a function waits, or goes on, earlier or later than it learns of other things. A session in a worker that dies is silent:
only the worker's own node knows at once, others when the session's lease ends.
"""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from msgspec import Struct, field

from handoff_actors.core.node.events import (
    Advertise,
    CancelCoroutine,
    KillWorker,
    Leave,
    LeaveCompleted,
    MessageFromPeer,
    NestedWaitBegan,
    NestedWaitEnded,
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
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.run.events import (
    Cancel,
    MessageFromNode,
    Release,
    RoomFreed,
    RunEffect,
    RunEnded,
    SendToNode,
)
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.errors import AllocationError, FunctionFailed
from handoff_actors.graph import Function
from handoff_actors.ids import Index, PeerId, Resources, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Done, Job, Ticket
from handoff_actors.wire.messages.nested import Ancestor
from handoff_actors.wire.messages.runs import FailureKind
from tests.core.builders import async_code, code, options, program_of

#: Runs are nested so deep.
LEVELS = 3
DELAY_S = 0.001
#: Long messages about functions that wait may take, in a world with faults.
LATE_S = 0.01
#: A function that goes on computes so long.
REST_S = 0.01
#: Sessions are silent so long before nodes notice.
LEASE_S = 15.0
#: A node that leaves ends with all that it has after so long.
DRAIN_S = 30.0
NEVER_S = 1e9
#: No world has anything to do for so long but to wait.
QUIET_S = 100.0


class Call(Struct):
    """One function: how long it takes, what it claims, and the functions of the run that it begins."""

    seconds: float
    cost: Resources
    is_async: bool
    node: str | None = None
    inner: list["Call"] = field(default_factory=list)


COSTS: tuple[Resources, ...] = (
    {},
    {"cpu": 1.0},
    {"cpu": 1.0},
    {"cpu": 2.0},
    {"cpu": 1.0, "memory": 300.0},
    {"memory": 600.0},
)


def random_calls(random: Random, depth: int) -> list[Call]:
    """Make the functions of one run, nested up to `depth` levels."""
    return [
        Call(
            random.choice((0.01, 0.1, 30.0)),
            random.choice(COSTS),
            random.random() < 0.4,
            random.choice((None, None, None, "n0")),
            random_calls(random, depth - 1) if depth and random.random() < 0.6 else [],
        )
        for _ in range(random.randint(1, 3))
    ]


class _Worker(Struct):
    is_async: bool
    queue: list[tuple[RunId, Job]] = field(default_factory=list)
    running: dict[tuple[RunId, Index], Ticket] = field(default_factory=dict)
    #: Coroutines among them that are being cancelled.
    cancelled: set[tuple[RunId, Index]] = field(default_factory=set)


class _Node:
    def __init__(self, world: "World", name: str, cpus: int, memory: float) -> None:
        self.name = name
        self.world = world
        self.machine = NodeMachine({"cpu": float(cpus), "memory": memory}, cpus, cpus + 2, NEVER_S)
        self.workers: dict[WorkerId, _Worker] = {}
        self.is_gone = False
        self.advert: NodeUp = self._up()
        #: The time at which the latest message about a function that waits arrives: they keep their order.
        self._last_wait_at = 0.0

    def feed(self, event: NodeEvent) -> None:
        if not self.is_gone:
            self._perform(self.machine.handle(event, self.world.now))

    def start(self) -> None:
        self._perform(self.machine.start(self.world.now))

    def wake(self) -> None:
        self._perform(self.machine.wake(self.world.now))

    def lose(self, worker: WorkerId) -> None:
        """Let a worker die, or be killed."""
        for key in self.workers.pop(worker).running:
            self.world.stop(key, is_silent=True)
        self.world.after(DELAY_S, lambda: self.feed(WorkerExited(worker, 9, None)))

    def end(self) -> None:
        """End, with all that runs here."""
        if not self.is_gone:
            self.is_gone = True
            for worker in self.workers.values():
                for key in worker.running:
                    self.world.stop(key, is_silent=True)
            self.workers.clear()
            self.world.tell(NodeDown(self.name, "it has left"))

    def tell_of_wait(self, event: NestedWaitBegan | NestedWaitEnded) -> None:
        late_s = self.world.random.uniform(0, LATE_S) if self.world.has_faults else 0.0
        self._last_wait_at = max(self._last_wait_at, self.world.now + DELAY_S + late_s)
        self.world.after(self._last_wait_at - self.world.now, lambda: self.feed(event))

    def is_running(self, worker: WorkerId, run: RunId, ticket: Ticket) -> bool:
        state = self.workers.get(worker)
        return state is not None and state.running.get((run, ticket.index)) == ticket

    def goes_on(self, worker: WorkerId, run: RunId, ticket: Ticket) -> bool:
        is_running = self.is_running(worker, run, ticket)
        return is_running and (run, ticket.index) not in self.workers[worker].cancelled

    def _up(self) -> NodeUp:
        advert = self.machine.advertisement()
        return NodeUp(
            self.name,
            self.name,
            advert.capabilities,
            advert.spare,
            advert.workers,
            advert.leaving,
            busy=advert.busy,
            waiting_claims=advert.waiting_claims,
            most_workers=advert.most_workers,
        )

    def _perform(self, effects: Iterable[NodeEffect]) -> None:  # noqa: C901, PLR0912 - one table
        self.machine.check()
        for effect in effects:
            match effect:
                case SpawnWorker(worker, is_async):
                    self.workers[worker] = _Worker(is_async)
                    self.world.after(DELAY_S, lambda worker=worker: self._is_up(worker))  # type: ignore[misc]
                case KillWorker(worker):
                    if worker in self.workers:
                        self.lose(worker)
                case RunJobs(worker, run, _, jobs):
                    if worker in self.workers:
                        self.workers[worker].queue += [
                            (run, member) for job in jobs for member in (job, *job.then)
                        ]
                        self._next(worker)
                case RecallWorker(worker):
                    self._recall(worker)
                case CancelCoroutine(worker, run, index, attempt):
                    if worker in self.workers:
                        self.workers[worker].cancelled.add((run, index))
                    self.world.stop((run, index))
                    ticket = Ticket(index, attempt)
                    self.world.after(
                        DELAY_S,
                        lambda w=worker, r=run, t=ticket: self._ended(w, r, t, "cancelled"),  # type: ignore[misc]
                    )
                case Reply(peer, message):
                    self.world.after(DELAY_S, lambda p=peer, m=message: self.world.heard(p, self, m))  # type: ignore[misc]
                case Advertise() if self.world.has_faults:
                    self.advert = self._up()
                    self.world.after(DELAY_S, lambda up=self.advert: self.world.tell(up))  # type: ignore[misc]
                case LeaveCompleted():
                    self.world.after(DELAY_S, self.end)
                case _:
                    # There are no stored values.
                    pass

    def _is_up(self, worker: WorkerId) -> None:
        if worker in self.workers:
            self.feed(WorkerUp(worker, worker))

    def _recall(self, worker: WorkerId) -> None:
        if worker in self.workers:
            queue = self.workers[worker].queue
            back = [(run, Ticket(job.index, job.attempt)) for run, job in queue]
            queue.clear()
            self.world.after(DELAY_S, lambda: self.feed(WorkerRecalled(worker, back)))

    def _next(self, worker: WorkerId) -> None:
        state = self.workers[worker]
        while state.queue and (state.is_async or not state.running):
            run, job = state.queue.pop(0)
            ticket = state.running[run, job.index] = Ticket(job.index, job.attempt)
            self.world.begin(self, worker, run, ticket)

    def _ended(self, worker: WorkerId, run: RunId, ticket: Ticket, kind: FailureKind | None) -> None:
        """Report the end of a function, well or not."""
        if not self.is_running(worker, run, ticket):
            return
        del self.workers[worker].running[run, ticket.index]
        self.workers[worker].cancelled.discard((run, ticket.index))
        if kind is None:
            self.feed(WorkerDone(worker, run, [Done(ticket.index, ticket.attempt, b"v", worker, 0.1)]))
        else:
            self.feed(WorkerFailed(worker, run, ticket.index, ticket.attempt, kind, b"", "reason", 0.1))
        if worker in self.workers:
            self._next(worker)

    def ends_later(
        self, worker: WorkerId, run: RunId, ticket: Ticket, kind: FailureKind | None, seconds: float
    ) -> None:
        self.world.after(seconds, lambda: self._ended(worker, run, ticket, kind))


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
        self.load = SessionLoad()
        functions = [
            Function(
                number, [], async_code if call.is_async else code, cost=call.cost or None, node=call.node
            )
            for number, call in enumerate(calls)
        ]
        chosen = options(
            parent=parent,
            policy=POLICIES["most_spare"],
            allocation_timeout_s=world.allocation_timeout_s,
            load=self.load,
            max_retries=1,
        )
        self.machine = RunMachine(self.run, program_of(*functions), chosen)

    def start(self) -> None:
        ups = [node.advert for node in self.world.live_nodes()]
        for up in ups:
            self.load.take(up)
        for node in self.world.live_nodes():
            node.feed(PeerConnected(self.peer))
        self.perform(self.machine.start(self.world.now, ups))

    def hear(self, event: NodeUp | NodeDown) -> None:
        """Take news of a node, as `RunRegistry` passes them on."""
        if self.load.take(event):
            self.perform(self.machine.handle(event, self.world.now))
        if self.load.runs_to_tell():
            self.perform(self.machine.handle(RoomFreed(), self.world.now))

    def cancel(self) -> None:
        self.perform(self.machine.handle(Cancel(), self.world.now))

    def perform(self, effects: Iterable[RunEffect]) -> None:
        self.machine.check()
        for effect in effects:
            match effect:
                case SendToNode(name, message):
                    node, event = self.world.nodes[name], MessageFromPeer(self.peer, message)
                    self.world.after(DELAY_S, lambda n=node, e=event: n.feed(e))  # type: ignore[misc]
                case RunEnded(error):
                    self._ended(error)
                case _:
                    pass

    def _ended(self, error: BaseException | None) -> None:
        is_deadlock = isinstance(error, AllocationError) or (
            isinstance(error, FunctionFailed) and error.kind == "deadlock"
        )
        assert error is None or is_deadlock or self.world.has_faults, error
        self.world.deadlocks += isinstance(error, AllocationError)
        kind: FailureKind | None = None if error is None else "deadlock" if is_deadlock else "exception"
        self.world.after(0.0, self.close)
        self.world.after(DELAY_S, lambda: self.done(kind))

    def close(self) -> None:
        if self.world.sessions.pop(self.peer, None) is not None:
            self.machine.handle(Release(), self.world.now)
            for node in self.world.nodes.values():
                node.feed(PeerLost(self.peer))

    def fall_silent(self) -> None:
        """End with the process: nodes notice when the lease ends."""
        if self.world.sessions.pop(self.peer, None) is not None:
            for node in self.world.nodes.values():
                self.world.after(LEASE_S, lambda n=node: n.feed(PeerLost(self.peer)))  # type: ignore[misc]


class World:
    """Nodes, and an app's run of functions some of which begin runs of their own."""

    def __init__(self, seed: int, allocation_timeout_s: float, *, has_faults: bool = False) -> None:
        self.random = random = Random(seed)
        self.has_faults = has_faults
        self.allocation_timeout_s = allocation_timeout_s
        self.now = 0.0
        self.numbers = count(1)
        self.sessions: dict[PeerId, _Session] = {}
        #: With 40 MB, one slot may be lent.
        memory = random.choice((1000.0, 1000.0, 40.0))
        names = ("n0", "n1") if has_faults else ("n0",)
        self.nodes = {name: _Node(self, name, random.randint(1, 3), memory) for name in names}
        #: Nested runs that have ended since they would have waited for ever.
        self.deadlocks = 0
        #: The most slots that were lent at once.
        self.most_lent = 0
        self.is_over = False
        self._by_run: dict[RunId, _Session] = {}
        self._inner: dict[tuple[RunId, Index], _Session] = {}
        self._agenda: list[tuple[float, int, Callable[[], Any]]] = []
        self._order = count()
        self._moved_at = 0.0
        self._calls = random_calls(random, LEVELS)

    # --- Time ---------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Let time pass until the app's run is over, or nothing has begun or ended for long."""
        for node in self.nodes.values():
            node.start()
        self.after(0.01, lambda: self._open(self._calls, None, lambda _: self._end()))
        if self.has_faults:
            for _ in range(self.random.randint(1, 6)):
                self.after(self.random.choice((0.1, 1.0, 40.0)) * self.random.random(), self._fault)
        while not self.is_over and self.now < self._moved_at + QUIET_S:
            self._step()

    def pass_time(self, seconds: float) -> None:
        """Let some more time pass."""
        until = self.now + seconds
        self.after(seconds, lambda: None)
        while self.now < until:
            self._step()

    def _step(self) -> None:
        times = [time for time in map(_wake_at, self._machines()) if time is not None]
        if self._agenda and self._agenda[0][0] <= min(times, default=float("inf")):
            self.now, _, action = heappop(self._agenda)
            action()
        else:
            self.now = max(self.now, min(times))
            for node in self.live_nodes():
                if (_wake_at(node) or self.now) <= self.now:
                    node.wake()
            for session in list(self.sessions.values()):
                wake_at = session.machine.wake_at
                if wake_at is not None and wake_at <= self.now:
                    session.perform(session.machine.wake(self.now))
        lent = sum(node.machine._scheduler.roster.lent for node in self.nodes.values())
        self.most_lent = max(self.most_lent, lent)

    def after(self, seconds: float, action: Callable[[], Any]) -> None:
        heappush(self._agenda, (self.now + seconds, next(self._order), action))

    # --- Messages -----------------------------------------------------------------------------------------------

    def live_nodes(self) -> list[_Node]:
        return [node for node in self.nodes.values() if not node.is_gone]

    def heard(self, peer: PeerId, node: _Node, message: Any) -> None:
        session = self.sessions.get(peer)
        if session is not None and not node.is_gone:
            session.perform(session.machine.handle(MessageFromNode(node.name, message), self.now))

    def tell(self, event: NodeUp | NodeDown) -> None:
        """Tell all sessions of a node."""
        for session in list(self.sessions.values()):
            if isinstance(event, NodeDown) or not self.nodes[event.name].is_gone:
                session.hear(event)

    # --- Functions ----------------------------------------------------------------------------------------------

    def begin(self, node: _Node, worker: WorkerId, run: RunId, ticket: Ticket) -> None:
        """Begin a function: it takes its time, and then waits for its run."""
        self._moved_at = self.now
        calls, parent = self._by_run[run].calls, Ancestor(run, ticket.index, ticket.attempt)
        call = calls[ticket.index]

        def go_on() -> None:
            if not node.goes_on(worker, run, ticket):
                return
            self._moved_at = self.now
            if not call.inner:
                node.ends_later(worker, run, ticket, None, 0.0)
                return
            node.tell_of_wait(NestedWaitBegan(run, ticket.index, ticket.attempt))
            self._inner[run, ticket.index] = self._open(call.inner, parent, inner_is_over)

        def inner_is_over(kind: FailureKind | None) -> None:
            if node.goes_on(worker, run, ticket):
                node.tell_of_wait(NestedWaitEnded(run, ticket.index, ticket.attempt))
                node.ends_later(worker, run, ticket, kind, REST_S)

        self.after(call.seconds, go_on)

    def stop(self, key: tuple[RunId, Index], *, is_silent: bool = False) -> None:
        """End a function, and the session within it."""
        session = self._inner.pop(key, None)
        if session is not None and is_silent:
            session.fall_silent()
        elif session is not None:
            session.close()

    def cancel(self) -> None:
        """Cancel the app's run."""
        if not self.is_over and self._by_run:
            next(iter(self._by_run.values())).cancel()

    def _fault(self) -> None:
        node = self.random.choice(self.live_nodes())
        fault = self.random.random()
        if fault < 0.7 and node.workers:
            node.lose(self.random.choice(sorted(node.workers)))
        elif fault < 0.9 and "n1" in self.nodes:
            self.nodes["n1"].feed(Leave())
            self.after(DRAIN_S, self.nodes["n1"].end)
        else:
            self.cancel()

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
        return [*self.live_nodes(), *self.sessions.values()]


def _wake_at(actor: _Node | _Session) -> float | None:
    return actor.machine.wake_at
