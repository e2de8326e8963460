"""A worker process as its node sees it: takes functions, runs them, stops, dies."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from handoff_actors.core.node.events import (
    NodeEvent,
    ObjectMade,
    RunJobs,
    WorkerDone,
    WorkerExited,
    WorkerFailed,
    WorkerRecalled,
    WorkerUp,
)
from handoff_actors.core.node.scheduling.warm_copy import WarmNeed, warm_needs
from handoff_actors.core.node.scheduling.worker_scheduler import CANCEL_GRACE_S
from handoff_actors.ids import Index, Resources, RunId, WorkerId
from handoff_actors.skip import ENCODED_SKIP
from handoff_actors.wire.messages.jobs import Done, Job, Ticket
from handoff_actors.wire.messages.runs import FailureKind
from tests.simulation.dags import Conduct
from tests.simulation.graphs import additions_of, part_for
from tests.simulation.network import Clock, Timeline
from tests.simulation.symbols import GRAPH_OF

Key = tuple[RunId, Index]
#: Seconds that a function takes that is far too slow.
SLOW_S = 2.0
#: Time limits are kept to this much.
LEEWAY_S = 0.01
#: Seconds until a node reads what has arrived from a worker.
READ_S = 0.0005


@dataclass(eq=False)
class Task:
    """A function in a worker's hands."""

    give: RunJobs
    job: Job
    #: True if it runs behind the one before it, as a member of the same fused group.
    is_behind: bool = False
    #: Values of earlier members.
    earlier: dict[int, bytes] = field(default_factory=dict)
    value: bytes = b""
    began_at: float = 0.0

    def __post_init__(self) -> None:
        #: The objects that it takes, by key.
        self.objects = {
            need.key: need for need in warm_needs(replace(self.job, then=()), self.give.templates)
        }

    @property
    def key(self) -> Key:
        return self.give.run, self.job.index

    @property
    def cost(self) -> Resources:
        return self.give.templates[self.job.template].cost


class Host(Protocol):
    """The interface of a node that a worker needs."""

    timeline: Timeline
    clock: Clock
    #: The longest delay of its timers lately.
    longest_lag_s: float

    def conduct_of(self, key: Key, attempt: int) -> tuple[Conduct, int]: ...

    def takes_s(self, usual_s: float) -> float: ...

    def begin(self, task: Task) -> bytes:
        """Note that it runs, and give its value to come."""
        ...

    def store_result(self, task: Task) -> int:
        """Keep a large result until the node has decided about it."""
        ...

    def store_part(self, task: Task, index: Index, value: bytes) -> None:
        """Do the same for a part of one."""
        ...


class MessageSink(Protocol):
    """The channel from a worker to its node."""

    def send(self, message: NodeEvent) -> None: ...


class Inbox:
    """A node's end of the channel from a worker: reports about one run are one if they are read together."""

    def __init__(self, timeline: Timeline, handle: Callable[[NodeEvent], None]) -> None:
        self._timeline = timeline
        self._handle = handle
        self._arrived: WorkerDone | None = None

    def take(self, message: NodeEvent) -> None:
        arrived = self._arrived
        if arrived is not None and isinstance(message, WorkerDone) and message.run == arrived.run:
            self._arrived = replace(arrived, done=[*arrived.done, *message.done])
            return
        self._pass_on()
        if isinstance(message, WorkerDone):
            self._arrived = message
            self._timeline.after(READ_S, self._pass_on)
        else:
            self._handle(message)

    def _pass_on(self) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None:
            self._handle(arrived)


class SimulatedWorker:
    """One process. Sync ones run one function at a time, in order."""

    def __init__(self, worker: WorkerId, host: Host, sink: MessageSink, *, is_async: bool) -> None:
        self.worker = worker
        self._host = host
        self._sink = sink
        self._is_async = is_async
        self._is_alive = True
        self._pending: deque[Task] = deque()
        #: Recalls that it has not answered, since the function that it runs lets nothing else happen.
        self._unanswered = 0
        self.running: dict[Key, Task] = {}
        #: The objects that it keeps.
        self.objects: dict[bytes, WarmNeed] = {}
        #: Names of the code that it has sent along with graphs.
        self._known: dict[RunId, set[str]] = {}

    def claims(self) -> list[Resources]:
        """The claims of what it runs, and of the objects that it has or is making."""
        objects = dict(self.objects)
        for task in self.running.values():
            objects |= task.objects
        costs = [task.cost for task in self.running.values()]
        return [*costs, *(need.cost for need in objects.values())]

    def come_up(self) -> None:
        if self._is_alive:
            self._sink.send(WorkerUp(self.worker, pid=1000 + self.worker))

    def give(self, give: RunJobs) -> None:
        for job in give.jobs:
            earlier: dict[int, bytes] = {}
            self._pending.append(Task(give, job, earlier=earlier))
            self._pending.extend(Task(give, member, is_behind=True, earlier=earlier) for member in job.then)
        self._start()

    def give_back(self) -> None:
        self._unanswered += 1
        if not any(self._is_stubborn(task) for task in self.running.values()):
            self._answer()

    def _answer(self) -> None:
        for _ in range(self._unanswered if self._is_alive else 0):
            self._give_back()
        self._unanswered = 0

    def _give_back(self) -> None:
        jobs = [(task.give.run, Ticket(task.job.index, task.job.attempt)) for task in self._pending]
        self._pending.clear()
        self._sink.send(WorkerRecalled(self.worker, jobs))

    def _is_stubborn(self, task: Task) -> bool:
        conduct, _ = self._host.conduct_of(task.key, task.job.attempt)
        return conduct.is_stubborn

    def cancel(self, key: Key) -> None:
        task = self.running.get(key)
        if task is not None and not self._is_stubborn(task):
            self._end_badly(task, "cancelled")

    def die(self, signal: int | None = 9) -> None:
        """End at once; what it has said before still arrives."""
        if not self._is_alive:
            return
        self._is_alive = False
        self._pending.clear()
        self.running.clear()
        self.objects.clear()
        self._sink.send(WorkerExited(self.worker, signal, None if signal else 1))

    def _start(self) -> None:
        while self._is_alive and self._pending and (self._is_async or not self.running):
            task = self._pending.popleft()
            assert task.key not in self.running, f"{task.key} runs twice in worker {self.worker}"
            self.running[task.key] = task
            task.value = self._host.begin(task)
            conduct, number = self._host.conduct_of(task.key, task.job.attempt)
            is_slow = conduct.mishaps.get(number) == "slow"
            duration_s = SLOW_S if is_slow else conduct.duration_s
            task.began_at = self._host.clock.now
            self._host.timeline.after(self._host.takes_s(duration_s), lambda task=task: self._end(task))  # type: ignore[misc]
            # It takes the next function before it looks for recalls.
            self._answer()
        if not self.running:
            self._answer()

    def _end(self, task: Task) -> None:
        if self.running.get(task.key) is not task:
            return
        self._check_time_limit(task)
        conduct, number = self._host.conduct_of(task.key, task.job.attempt)
        mishap = conduct.mishaps.get(number)
        if mishap in {None, "slow"} or task.job.attempt % 2:
            self._keep_objects(task)
        match mishap:
            case None | "slow":
                self._end_well(task, conduct)
            case "crash":
                self.die(signal=11)
            case _:
                self._end_badly(task, mishap)

    def _keep_objects(self, task: Task) -> None:
        for key, need in task.objects.items():
            if key not in self.objects:
                self.objects[key] = need
                self._sink.send(ObjectMade(self.worker, key, 1_000_000))

    def _check_time_limit(self, task: Task) -> None:
        timeout = task.give.templates[task.job.template].timeout
        ran_s = self._host.clock.now - task.began_at
        leeway_s = LEEWAY_S + self._host.longest_lag_s
        assert timeout is None or ran_s < timeout + CANCEL_GRACE_S + leeway_s, f"{task.key} ran for {ran_s} s"

    def _end_well(self, task: Task, conduct: Conduct) -> None:
        del self.running[task.key]
        if task.value.startswith(GRAPH_OF):
            self._end_with_graph(task, conduct)
            return
        task.earlier[task.job.index] = task.value
        is_large = conduct.is_large and task.value != ENCODED_SKIP
        value = self._host.store_result(task) if is_large else task.value
        done = Done(task.job.index, task.job.attempt, value, 1000 + self.worker, conduct.duration_s)
        self._sink.send(WorkerDone(self.worker, task.give.run, [done]))
        self._start()

    def _end_with_graph(self, task: Task, conduct: Conduct) -> None:
        run, job, value = task.give.run, task.job, task.value.removeprefix(GRAPH_OF)
        part = part_for(run, job.index, job.attempt) if value[2] < ord("8") else None
        if part is not None:
            self._host.store_part(task, part.index, value)
        if job.attempt > 1:
            self._known[run] = set()
        additions = additions_of(value, part, self._known.setdefault(run, set()))
        done = Done(job.index, job.attempt, b"", 1000 + self.worker, conduct.duration_s, additions)
        self._sink.send(WorkerDone(self.worker, run, [done]))
        self._skip_group()
        self._start()

    def _skip_group(self) -> None:
        while self._pending and self._pending[0].is_behind and not self._is_async:
            self._pending.popleft()

    def _end_badly(self, task: Task, kind: FailureKind) -> None:
        del self.running[task.key]
        run, index = task.key
        self._sink.send(
            WorkerFailed(self.worker, run, index, task.job.attempt, kind, b"error", "as planned", 0.0)
        )
        self._skip_group()
        self._start()


def shares_of(tasks: Sequence[Task]) -> dict[int, float]:
    """The share of each GPU that running functions were given."""
    shares: dict[int, float] = {}
    for task in tasks:
        if any("gpu" in need.cost for need in task.objects.values()):
            # Which of the devices are those of its objects is not told apart.
            continue
        for device in task.give.devices or ():
            shares[device] = shares.get(device, 0.0) + min(1.0, task.cost.get("gpu", 0.0))
    return shares
