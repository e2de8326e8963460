"""A cluster of any size in one thread: the real machines of a run and of every node, on a simulated clock.

No faults: `tests/simulation` has those. Here the costs are simulated. Each process of the cluster, the app and every
node, is a server that takes its events, is busy for as long as these cost, and then sends the effects. The cost of the
machines is measured while they run, or, where figures have to be the same each time, a constant; the cost of the shell
around them is a constant that `benchmarks.scaling_costs` measures. A message takes the latency of the network, and its
bytes leave the app one after the other.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from time import process_time
from typing import Any

from benchmarks.core_speed import no_op
from handoff_actors.core.node.events import (
    Advertise,
    MembersCounted,
    MessageFromPeer,
    PeerConnected,
    RecallWorker,
    Reply,
    RunJobs,
    SpawnWorker,
    WorkerDone,
    WorkerRecalled,
    WorkerUp,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.events import MessageFromNode, RunEnded, SendToNode
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.graph import DAG, Function, Plan
from handoff_actors.ids import PeerId, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Done, Job, Template, Ticket
from handoff_actors.wire.messages.runs import Closed, Completed, Recalled

APP = PeerId(b"app")
RUN = RunId(1)
#: A worker reports functions that take less than this many at once.
REPORT_S = 0.001
#: Bytes of one function in an `Assign`, with a small input.
JOB_NBYTES = 30


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU time of each kind of work, in seconds; None: the time that it takes here and now."""

    #: The run machine, for an event.
    run_s: float | None = None
    #: The node machine, for a function. It does not depend on how many nodes there are.
    node_s: float = 4e-6
    #: Sockets, event loop and codec, for a message and for a function in it, in either direction.
    message_s: float = 60e-6
    function_s: float = 2e-6
    #: The app, for receiving an advert, without the run machine.
    advert_s: float = 30e-6


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a cluster and of its run."""

    nodes: int
    cores: int
    functions: int
    duration_s: float
    latency_s: float = 0.0001
    bandwidth_nbytes_per_s: float = 1.25e9


@dataclass(slots=True)
class Outcome:
    """The outcome of a simulated run."""

    makespan_s: float
    app_busy_s: float
    adverts: int = 0

    def efficiency(self, shape: Shape) -> float:
        """The share of all cores that were kept busy from the start of the run to its end."""
        return shape.functions * shape.duration_s / (self.makespan_s * shape.nodes * shape.cores)


class Timeline:
    """Pending actions, soonest first."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Schedule an action."""
        self._count += 1
        heappush(self._due, (time, self._count, action))

    def step(self) -> None:
        """Run the next action."""
        self.now, _, action = heappop(self._due)
        action()


@dataclass(slots=True)
class Server:
    """A process that handles one batch at a time. `work` takes all waiting items, and returns its cost and effects."""

    timeline: Timeline
    work: Callable[[list[Any]], tuple[float, list[Callable[[], None]]]]
    busy_s: float = 0.0
    _inbox: list[Any] = field(default_factory=list)
    _is_busy: bool = False

    def take(self, item: object) -> None:
        """Queue an item."""
        self._inbox.append(item)
        if not self._is_busy:
            self._turn()

    def _turn(self) -> None:
        items, self._inbox = self._inbox, []
        cost_s, consequences = self.work(items)
        self.busy_s += cost_s
        self._is_busy = True
        self.timeline.at(self.timeline.now + cost_s, partial(self._after, consequences))

    def _after(self, consequences: list[Callable[[], None]]) -> None:
        for consequence in consequences:
            consequence()
        self._is_busy = False
        if self._inbox:
            self._turn()


class Worker:
    """One process that runs one function after the other."""

    def __init__(self, worker: WorkerId, node: "Node", duration_s: float) -> None:
        self._worker = worker
        self._node = node
        self._duration_s = duration_s
        self._jobs: deque[Job] = deque()
        self._is_busy = False
        self._done: list[Done] = []
        self._reported_at = 0.0

    def give(self, jobs: Iterable[Job]) -> None:
        """Queue functions."""
        self._jobs.extend(jobs)
        if not self._is_busy:
            self._next()

    def give_back(self) -> None:
        """Answer a recall."""
        tickets = [(RUN, Ticket(job.index, job.attempt)) for job in self._jobs]
        self._jobs.clear()
        self._node.server.take(WorkerRecalled(self._worker, tickets))

    def _next(self) -> None:
        self._is_busy = bool(self._jobs)
        if self._is_busy:
            timeline = self._node.server.timeline
            timeline.at(timeline.now + self._duration_s, partial(self._end, self._jobs.popleft()))

    def _end(self, job: Job) -> None:
        now = self._node.server.timeline.now
        self._done.append(Done(job.index, job.attempt, b"\xc0", self._worker, self._duration_s))
        if not self._jobs or now - self._reported_at >= REPORT_S:
            done, self._done = self._done, []
            self._reported_at = now
            self._node.server.take(WorkerDone(self._worker, RUN, done))
        self._next()


class Node:
    """One daemon."""

    def __init__(self, name: str, world: "World") -> None:
        self.name = name
        self._world = world
        self._shape = world.shape
        self.server = Server(world.timeline, self._work)
        self._machine = NodeMachine(
            {"cpu": float(self._shape.cores)}, self._shape.cores, self._shape.cores, 10.0
        )
        self._workers: dict[WorkerId, Worker] = {}
        self._rings_at = float("inf")

    def start(self) -> None:
        """Bring the node into the state of one that has been up for a while."""
        for effect in self._machine.start(0.0):
            if isinstance(effect, SpawnWorker):
                self._workers[effect.worker] = Worker(effect.worker, self, self._shape.duration_s)
                self._machine.handle(WorkerUp(effect.worker, effect.worker), 0.0)
        self._machine.handle(PeerConnected(APP, has_lease=False), 0.0)
        self._machine.handle(MembersCounted(self._shape.nodes), 0.0)
        self._set_alarm()

    def _work(self, items: list[Any]) -> tuple[float, list[Callable[[], None]]]:
        costs, now = self._world.costs, self._world.timeline.now
        cost_s = sum(costs.message_s + costs.function_s * _functions_in(item) for item in items)
        consequences: list[Callable[[], None]] = []
        reported = 0
        for effect in [effect for item in items for effect in self._machine.handle(item, now)]:
            match effect:
                case Reply(message=Completed() | Recalled() | Closed() as message):
                    reported += len(getattr(message, "done", ()))
                    consequences.append(partial(self._world.notify_app, MessageFromNode(self.name, message)))
                case RunJobs(worker, _, _, jobs):
                    cost_s += costs.message_s + costs.function_s * len(jobs)
                    consequences.append(partial(self._workers[worker].give, jobs))
                case RecallWorker(worker):
                    consequences.append(self._workers[worker].give_back)
                case Advertise():
                    cost_s += costs.message_s
                    consequences.append(partial(self._world.advertise, self.name, effect))
                case _:
                    pass
        # All messages to the app of one turn leave in one frame.
        cost_s += (costs.node_s + costs.function_s) * reported + costs.message_s * bool(reported)
        self._set_alarm()
        return cost_s, consequences

    def _set_alarm(self) -> None:
        wake_at = self._machine.wake_at
        if wake_at is not None and wake_at < self._rings_at:
            self._rings_at = max(wake_at, self._world.timeline.now)
            self._world.timeline.at(self._rings_at, partial(self._ring, self._rings_at))

    def _ring(self, rings_at: float) -> None:
        if rings_at != self._rings_at:
            return
        self._rings_at = float("inf")
        now = self._world.timeline.now
        wake_at = self._machine.wake_at
        if wake_at is not None and now >= wake_at:
            for effect in self._machine.wake(now):
                if isinstance(effect, Advertise):
                    self._world.advertise(self.name, effect)
        self._set_alarm()


class World:
    """The app with its run, and every node."""

    def __init__(self, shape: Shape, costs: Costs) -> None:
        self.shape = shape
        self.costs = costs
        self.timeline = Timeline()
        self.adverts = 0
        self.app = Server(self.timeline, self._work)
        self.nodes = {f"node-{number:05d}": Node(f"node-{number:05d}", self) for number in range(shape.nodes)}
        self._machine = RunMachine(
            RUN, _program(shape.functions), RunOptions(POLICIES["most_spare"], wanted=())
        )
        self._line_is_free_at = 0.0
        self._is_over = False

    def run(self) -> Outcome:
        """Run the simulation to its end."""
        for node in self.nodes.values():
            node.start()
        self.app.take(None)
        while not self._is_over:
            self.timeline.step()
        return Outcome(self.timeline.now, self.app.busy_s, self.adverts)

    def notify_app(self, heard: MessageFromNode) -> None:
        """Send a message from a node to the app."""
        self.timeline.at(self.timeline.now + self.shape.latency_s, partial(self.app.take, heard))

    def advertise(self, name: str, state: Advertise) -> None:
        """Send a node's advert to the app."""
        self.adverts += 1
        up = NodeUp(name, name, state.capabilities, state.spare, state.workers)
        self.timeline.at(self.timeline.now + self.shape.latency_s, partial(self.app.take, up))

    def _work(self, items: list[Any]) -> tuple[float, list[Callable[[], None]]]:
        costs, cost_s = self.costs, 0.0
        consequences: list[Callable[[], None]] = []
        for item in items:
            if isinstance(item, NodeUp):
                cost_s += costs.advert_s
            else:
                cost_s += costs.message_s + costs.function_s * _functions_in(item)
            began_at = process_time()
            effects = self._decide(item)
            cost_s += process_time() - began_at if costs.run_s is None else costs.run_s
            for effect in effects:
                match effect:
                    case SendToNode(name, message):
                        received = MessageFromPeer(APP, message)
                        cost_s += costs.message_s + costs.function_s * _functions_in(received)
                        consequences.append(partial(self._send, name, received))
                    case RunEnded():
                        consequences.append(self._finish)
                    case _:
                        pass
        return cost_s, consequences

    def _decide(self, item: MessageFromNode | NodeUp | None) -> list[Any]:
        now = self.timeline.now
        if item is not None:
            return self._machine.handle(item, now)
        offer = {"cpu": float(self.shape.cores)}
        ups = [NodeUp(name, name, offer, offer, self.shape.cores) for name in self.nodes]
        return self._machine.start(now, ups)

    def _send(self, name: str, received: MessageFromPeer) -> None:
        leaves_at = max(self.timeline.now, self._line_is_free_at)
        nbytes = JOB_NBYTES * _functions_in(received)
        self._line_is_free_at = leaves_at + nbytes / self.shape.bandwidth_nbytes_per_s
        arrives_at = self._line_is_free_at + self.shape.latency_s
        self.timeline.at(arrives_at, partial(self.nodes[name].server.take, received))

    def _finish(self) -> None:
        self._is_over = True


def simulate(shape: Shape, costs: Costs | None = None) -> Outcome:
    """Run independent functions of one core each on an otherwise idle cluster."""
    return World(shape, costs or Costs()).run()


def _functions_in(item: object) -> int:
    match item:
        case MessageFromPeer(message=message):
            return len(getattr(message, "jobs", ()))
        case MessageFromNode(message=message) | message:
            return len(getattr(message, "done", ()))


def _program(functions: int) -> Program:
    dag = DAG().add_functions(Function(index, (), no_op, cost={"cpu": 1}) for index in range(functions))
    plan = Plan.compile(dag)
    templates = [
        Template(number, b"", True, b"", spec.is_async, spec.as_list, spec.cost, spec.timeout)
        for number, spec in enumerate(plan.templates)
    ]
    return Program(plan, templates, [], [])
