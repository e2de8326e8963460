"""The duration of a run of the real machines under simulated time, without faults.

Workers take the durations of the graph. A message between run and node takes the latency; a value that a node lacks
takes the latency and its size over the bandwidth, independent of other transfers. Nothing else takes time.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count

from benchmarks.schedules_graphs import Graph
from handoff_actors.core.node.events import (
    Advertise,
    FetchInput,
    InputFetched,
    KillWorker,
    MessageFromPeer,
    NodeEffect,
    NodeEvent,
    PeerConnected,
    RecallWorker,
    Reply,
    RunJobs,
    SpawnWorker,
    WorkerDone,
    WorkerExited,
    WorkerRecalled,
    WorkerUp,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.events import MessageFromNode, RunEffect, RunEnded, SendToNode
from handoff_actors.core.run.grow import RunMachineEvent
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.placement import POLICIES, PlacementPolicy
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.graph import DAG, Function, Plan
from handoff_actors.ids import PeerId, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Done, Job, Template, Ticket
from handoff_actors.wire.messages.runs import Completed, Failed, Recalled

APP = PeerId(b"app")
RUN = RunId(1)
#: Smaller values travel with messages.
INLINE_NBYTES = 65_536
NOTHING = b"\xc0"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes by their cores, and the network between them."""

    cores: Sequence[int]
    latency_s: float
    #: Bytes per second.
    bandwidth: float

    def moving_s(self, nbytes: int) -> float:
        """The time to move a value to another node, in seconds."""
        return self.latency_s + (nbytes / self.bandwidth if nbytes > INLINE_NBYTES else 0.0)


def run(
    graph: Graph,
    cluster: Cluster,
    policy: PlacementPolicy = POLICIES["most_spare"],
    durations: Durations | None = None,
) -> float:
    """Simulate a run, and return its duration in seconds.

    `durations` are those known from earlier runs, and get those of this run.
    """
    return Simulation(graph, cluster, policy, durations or Durations()).finish()


def plan_of(graph: Graph) -> Plan:
    """The graph as a DAG of functions that claim a core each."""
    codes = {task.kind: partial(_stand_for, task.kind) for task in graph}
    return Plan.compile(
        DAG().add_functions(
            Function(index, task.producers, codes[task.kind], cost={"cpu": 1}, argument_inclusion="as_list")
            for index, task in enumerate(graph)
        )
    )


class Simulation:
    """The run, its nodes, and the pending actions."""

    def __init__(self, graph: Graph, cluster: Cluster, policy: PlacementPolicy, durations: Durations) -> None:
        self.graph = graph
        self.cluster = cluster
        self.now = 0.0
        plan = plan_of(graph)
        templates = [
            Template(number, b"%d" % number, True, b"", spec.is_async, spec.as_list, spec.cost, spec.timeout)
            for number, spec in enumerate(plan.templates)
        ]
        options = RunOptions(policy, wanted=(), durations=durations)
        self._run = RunMachine(RUN, Program(plan, templates, [], []), options)
        width = len(str(len(cluster.cores)))
        self._nodes = {
            f"n{number:0{width}}": SimulatedNode(f"n{number:0{width}}", cores, self)
            for number, cores in enumerate(cluster.cores)
        }
        self._order = count()
        self._timeline: list[tuple[float, int, Callable[[], None]]] = []
        self._alarm: float | None = None
        self._is_over = False

    def finish(self) -> float:
        """Run the simulation to its end; return the time of the end."""
        for node in self._nodes.values():
            node.start()
        # Nodes and their workers were there before the run began.
        self._carry_out(self._run.start(0.0, [node.advert() for node in self._nodes.values()]))
        while not self._is_over:
            self.now, _, action = heappop(self._timeline)
            action()
        return self.now

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Schedule an action."""
        heappush(self._timeline, (self.now + delay_s, next(self._order), action))

    def notify_run(self, event: RunMachineEvent) -> None:
        """Send an event to the run, which gets it after the latency."""
        self.after(self.cluster.latency_s, lambda: self._carry_out(self._run.handle(event, self.now)))

    def _carry_out(self, effects: Sequence[RunEffect]) -> None:
        for effect in effects:
            match effect:
                case SendToNode(name, message):
                    event = MessageFromPeer(APP, message)
                    self.after(self.cluster.latency_s, partial(self._nodes[name].handle, event))
                case RunEnded(error):
                    assert error is None, error
                    self._is_over = True
                case _:
                    pass
        self._set_alarm()

    def _set_alarm(self) -> None:
        wake_at = self._run.wake_at
        if wake_at is None or (self._alarm is not None and self._alarm <= wake_at):
            return
        self._alarm = wake_at
        self.after(max(0.0, wake_at - self.now), partial(self._ring, wake_at))

    def _ring(self, time: float) -> None:
        if self._alarm != time:
            return
        self._alarm = None
        wake_at = self._run.wake_at
        if wake_at is not None and wake_at <= self.now:
            self._carry_out(self._run.wake(self.now))
        else:
            self._set_alarm()


@dataclass(slots=True)
class Worker:
    """The jobs of one worker, in order; the first one is running."""

    jobs: deque[Job] = field(default_factory=deque)


class SimulatedNode:
    """One node and its workers."""

    def __init__(self, name: str, cores: int, simulation: Simulation) -> None:
        self.name = name
        self._cores = cores
        self._simulation = simulation
        self._machine = NodeMachine({"cpu": float(cores)}, cores, cores, lease_s=10.0)
        self._workers: dict[WorkerId, Worker] = {}
        self._alarm: float | None = None

    def start(self) -> None:
        """Start the workers and greet the app."""
        self._carry_out(self._machine.start(0.0))
        self.handle(PeerConnected(APP, has_lease=False))

    def handle(self, event: NodeEvent) -> None:
        """Have the node handle an event now."""
        self._carry_out(self._machine.handle(event, self._simulation.now))

    def advert(self) -> NodeUp:
        """The node's current advert."""
        return NodeUp(
            self.name, self.name, self._machine.capabilities, self._machine.ledger.spare(), self._cores
        )

    def _carry_out(self, effects: Sequence[NodeEffect]) -> None:
        for effect in effects:
            match effect:
                case Reply(_, Completed() | Failed() | Recalled() as message):
                    self._simulation.notify_run(MessageFromNode(self.name, message))
                case FetchInput(_, run_id, index, nbytes, _):
                    moving_s = self._simulation.cluster.moving_s(nbytes)
                    arrived = InputFetched(run_id, index, nbytes)
                    self._simulation.after(moving_s, partial(self.handle, arrived))
                case Advertise():
                    self._simulation.notify_run(self.advert())
                case RunJobs() | SpawnWorker() | RecallWorker() | KillWorker():
                    self._notify_worker(effect)
                case _:
                    pass
        self._set_alarm()

    def _notify_worker(self, effect: RunJobs | SpawnWorker | RecallWorker | KillWorker) -> None:
        worker = effect.worker
        match effect:
            case RunJobs(jobs=jobs):
                self._give(worker, jobs)
            case SpawnWorker():
                self._workers[worker] = Worker()
                self.handle(WorkerUp(worker, int(worker)))
            case RecallWorker():
                self._recall(worker)
            case KillWorker():
                del self._workers[worker]
                self.handle(WorkerExited(worker, 9, None))

    def _give(self, worker: WorkerId, jobs: Sequence[Job]) -> None:
        queue = self._workers[worker].jobs
        is_idle = not queue
        # A fused unit is its head and the jobs that run right behind it.
        queue.extend(part for job in jobs for part in (job, *job.then))
        if is_idle:
            self._begin(worker)

    def _begin(self, worker: WorkerId) -> None:
        seconds = self._simulation.graph[self._workers[worker].jobs[0].index].seconds
        self._simulation.after(seconds, partial(self._end, worker))

    def _end(self, worker: WorkerId) -> None:
        jobs = self._workers[worker].jobs
        job = jobs.popleft()
        task = self._simulation.graph[job.index]
        value = task.nbytes if task.nbytes > INLINE_NBYTES else NOTHING
        done = Done(job.index, job.attempt, value, int(worker), task.seconds)
        if jobs:
            self._begin(worker)
        self.handle(WorkerDone(worker, RUN, [done]))

    def _recall(self, worker: WorkerId) -> None:
        jobs = self._workers[worker].jobs
        back = [(RUN, Ticket(job.index, job.attempt)) for job in list(jobs)[1:]]
        while len(jobs) > 1:
            jobs.pop()
        self.handle(WorkerRecalled(worker, back))

    def _set_alarm(self) -> None:
        wake_at = self._machine.wake_at
        if wake_at is None or (self._alarm is not None and self._alarm <= wake_at):
            return
        self._alarm = wake_at
        self._simulation.after(max(0.0, wake_at - self._simulation.now), partial(self._ring, wake_at))

    def _ring(self, time: float) -> None:
        if self._alarm != time:
            return
        self._alarm = None
        wake_at = self._machine.wake_at
        if wake_at is not None and wake_at <= self._simulation.now:
            self._carry_out(self._machine.wake(self._simulation.now))
        else:
            self._set_alarm()


def _stand_for(kind: str, values: object) -> None:
    """Stand for code of a kind; it is never called."""
