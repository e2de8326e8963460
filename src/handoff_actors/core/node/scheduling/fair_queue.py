"""The queue of jobs that wait for a worker, fair between runs.

Jobs that claim the same and run in the same way share a lane, so that one look at the head of a lane tells about all
of them. Runs take turns; within a run, lanes do; within a lane, the more urgent jobs go first, and those that are
as urgent in the order in which they came, which is the order that their run wants.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from msgspec import Struct, field

from handoff_actors.core.node.scheduling.warm_copy import WarmNeed, warm_needs
from handoff_actors.core.resources import summed
from handoff_actors.ids import Resources, RunId
from handoff_actors.moving_average import smoothed
from handoff_actors.wire.messages.jobs import Call, Job, Template, Ticket

#: A worker is given more than one job only where that is about this much work.
BATCH_S = 0.002
#: Seconds that a job costs a worker beside the user's code.
OVERHEAD_S = 0.00001
MAX_BATCH = 256
#: To wait for the next job costs a worker 0.6 ms, which shows where jobs take no longer than this.
BRIEF_S = 0.1
#: Lanes of one run beyond which empty ones are dropped: each new time limit or claim makes one.
LANES_KEPT = 64
#: Weight of the latest durations in a lane's estimate.
SMOOTHING = 0.3

_rank = attrgetter("rank")


class JobLane(Struct, eq=False):
    """Jobs of one run that claim the same and run in the same way."""

    run: RunId
    key: "LaneKey"
    cost: Resources
    is_async: bool
    #: Seconds per attempt.
    timeout: float | None
    #: A worker died with one of these among others: each now runs alone, to find out which one kills workers.
    suspect: bool
    #: The objects that their worker must have.
    warm: tuple[WarmNeed, ...] = ()
    #: Each goes on for as long as its app likes, and has its worker for itself.
    is_stage: bool = False
    jobs: deque[Job] = field(default_factory=deque)
    #: Average seconds per job, once known.
    seconds: float | None = None
    #: Since when the head has waited for room.
    blocked_since: float | None = None

    @property
    def needs(self) -> Resources:
        """The claims of a job and of all objects that it needs."""
        return summed(self.cost, *(need.cost for need in self.warm)) if self.warm else self.cost

    @property
    def depth(self) -> int:
        """The number of jobs that a worker may hold at once."""
        if self.suspect or self.is_stage or self.timeout is not None:
            return 1
        if self.seconds is None or self.seconds > BATCH_S / 2:
            return 1
        return min(MAX_BATCH, int(BATCH_S / (self.seconds + OVERHEAD_S)))

    @property
    def is_brief(self) -> bool:
        """True if a worker may hold the next job while it runs one, where no other could start that."""
        is_free = not (self.suspect or self.is_stage) and self.timeout is None
        return is_free and self.seconds is not None and self.seconds <= BRIEF_S

    def learn(self, seconds: float) -> None:
        """Update the estimate with the average duration of the latest jobs."""
        self.seconds = smoothed(self.seconds, seconds, SMOOTHING)


LaneKey = tuple[tuple[tuple[str, float], ...], bool, float | None, bool, tuple[bytes, ...], bool]


class FairQueue:
    """The lanes of all runs, and whose turn it is."""

    def __init__(self) -> None:
        self._lanes: dict[RunId, dict[LaneKey, JobLane]] = {}
        #: Runs with jobs that wait, the one whose turn it is first.
        self._turns: dict[RunId, None] = {}
        #: Runs with lanes of stages.
        self._have_stages: set[RunId] = set()

    def __len__(self) -> int:
        return sum(len(lane.jobs) for lanes in self._lanes.values() for lane in lanes.values())

    @property
    def waiting_runs(self) -> int:
        """The number of runs with jobs that wait."""
        return len(self._turns)

    @property
    def is_of_one_lane(self) -> bool:
        """True if all jobs that wait claim the same and are of one run."""
        return len(self._turns) == 1 and len(self.lanes(next(iter(self._turns)))) == 1

    def lane(
        self, run: RunId, template: Template, *, suspect: bool = False, warm: tuple[WarmNeed, ...] = ()
    ) -> JobLane:
        """The lane for jobs of `template` that need these objects.

        A suspect coroutine function runs alone too, hence on a sync worker; so does one with an environment of its own,
        as a process has one only.
        """
        is_async = template.is_async and not suspect and template.environment is None
        keys = tuple([need.key for need in warm])
        cost = tuple(sorted(template.cost.items()))
        key = (cost, is_async, template.timeout, suspect, keys, template.is_stage)
        lanes = self._lanes.setdefault(run, {})
        lane = lanes.get(key)
        if lane is None:
            if len(lanes) >= LANES_KEPT:
                _drop_an_empty_one(lanes)
            lane = lanes[key] = JobLane(
                run, key, dict(template.cost), is_async, template.timeout, suspect, warm, template.is_stage
            )
            if lane.is_stage:
                self._have_stages.add(run)
        return lane

    def add(self, lane: JobLane, added: Iterable[Job]) -> None:
        """Queue jobs, each behind those of its lane that are as urgent."""
        jobs = lane.jobs
        last = jobs[-1].rank if jobs else None
        for job in added:
            rank = job.rank
            if last is not None and rank < last:
                jobs.insert(bisect_right(jobs, rank, key=_rank), job)
            else:
                jobs.append(job)
                last = rank
        self._turns[lane.run] = None

    def add_all(self, run: RunId, templates: Mapping[int, Template], jobs: Iterable[Job]) -> list[JobLane]:
        """Queue jobs, each in its lane. Returns these lanes."""
        lanes: list[JobLane] = []
        number, lane = -1, None
        alike: list[Job] = []
        for job in jobs:
            # Most have no calls among their arguments, and so need no objects.
            warm = warm_needs(job, templates) if job.then or Call in map(type, job.args) else ()
            if job.template != number or lane is None or warm != lane.warm:
                if lane is not None:
                    self.add(lane, alike)
                number, lane = job.template, self.lane(run, templates[job.template], warm=warm)
                lanes.append(lane)
                alike = []
            alike.append(job)
        if lane is not None:
            self.add(lane, alike)
        return lanes

    def put_back(self, lane: JobLane, jobs: Iterable[Job]) -> None:
        """Queue jobs, in their order, before those of their lane that are no more urgent."""
        # It may have been dropped while a worker held all of its jobs.
        lane = self._lanes.setdefault(lane.run, {}).setdefault(lane.key, lane)
        for job in reversed(list(jobs)):
            lane.jobs.insert(bisect_left(lane.jobs, job.rank, key=_rank), job)
        self._turns[lane.run] = None

    def turns(self) -> list[RunId]:
        """The runs with jobs that wait, in the order of their turns."""
        return list(self._turns)

    def lanes(self, run: RunId) -> list[JobLane]:
        """The lanes of a run that are not empty."""
        return [lane for lane in self._lanes.get(run, {}).values() if lane.jobs]

    def waiting(self, run: RunId) -> int:
        """The number of jobs of a run that wait."""
        return sum(len(lane.jobs) for lane in self._lanes.get(run, {}).values())

    def had_its_turn(self, lane: JobLane) -> None:
        """Move the lane behind the others of its run, and the run behind the other runs if it has jobs left."""
        lanes = self._lanes[lane.run]
        lanes[lane.key] = lanes.pop(lane.key)
        self._turns.pop(lane.run, None)
        if self.lanes(lane.run):
            self._turns[lane.run] = None

    def claims(self) -> Resources:
        """The sum of the claims of all jobs that wait."""
        claims: Resources = {}
        for run in self._turns:
            for lane in self.lanes(run):
                # Coroutines share the objects of their worker.
                for resource, amount in (lane.cost if lane.is_async else lane.needs).items():
                    claims[resource] = claims.get(resource, 0.0) + amount * len(lane.jobs)
        return claims

    def waiting_sync(self) -> int:
        """The number of jobs that wait for a sync worker, without stages: these take none of the usual ones."""
        lanes = (lane for run in self._turns for lane in self.lanes(run))
        return sum(len(lane.jobs) for lane in lanes if not (lane.is_async or lane.is_stage))

    def has_coroutines(self) -> bool:
        """True if any coroutine waits."""
        return any(lane.is_async for run in self._turns for lane in self.lanes(run))

    def waiting_stages(self) -> list[JobLane]:
        """The lanes of stages that wait for a worker, in the order of the turns of their runs."""
        if not self._have_stages:
            return []
        runs = [run for run in self._turns if run in self._have_stages]
        return [lane for run in runs for lane in self.lanes(run) if lane.is_stage]

    def take_back(
        self, run: RunId, is_wanted: Callable[[Job], bool], at_most: int | None = None
    ) -> list[Job]:
        """Remove and return the wanted jobs of a run that still wait, up to `at_most`; None: all of them."""
        taken: list[Job] = []
        for lane in self._lanes.get(run, {}).values():
            stay: deque[Job] = deque()
            for job in lane.jobs:
                if (at_most is None or len(taken) < at_most) and is_wanted(job):
                    taken.append(job)
                else:
                    stay.append(job)
            lane.jobs = stay
            if not stay:
                lane.blocked_since = None
        if not self.lanes(run):
            self._turns.pop(run, None)
        return taken

    def forget(self, run: RunId) -> None:
        """Remove all jobs of a run."""
        self._have_stages.discard(run)
        for lane in self._lanes.pop(run, {}).values():
            lane.jobs.clear()
        self._turns.pop(run, None)

    def check(self) -> None:
        """Assert that turns and lanes agree."""
        waiting = {run for run, lanes in self._lanes.items() if any(lane.jobs for lane in lanes.values())}
        assert waiting == set(self._turns), f"{waiting} have jobs, {set(self._turns)} have turns"


def _drop_an_empty_one(lanes: dict[LaneKey, JobLane]) -> None:
    """Drop the empty lane that has not had its turn for longest."""
    empty = next((key for key, lane in lanes.items() if not lane.jobs), None)
    if empty is not None:
        del lanes[empty]


def tickets_of(job: Job) -> list[Ticket]:
    """The attempts of a job and of the rest of its fused group."""
    return [Ticket(member.index, member.attempt) for member in (job, *job.then)]
