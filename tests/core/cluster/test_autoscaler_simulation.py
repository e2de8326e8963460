"""An autoscaler, a batch system and apps with work, in simulated time: whatever goes wrong, jobs stay within bounds."""

from random import Random

from hypothesis import given, settings, strategies as st
from msgspec import Struct, field

from handoff_actors.core.cluster.autoscaler import (
    LONGEST_PAUSE_S,
    Autoscaler,
    AutoscalerEffect,
    CancelBatchJobs,
    ClusterSeen,
    JobId,
    JobListed,
    JobsListed,
    JobSubmitted,
    LogJob,
    Scale,
    SubmissionRefused,
    SubmitJob,
)
from handoff_actors.core.cluster.node_demand import nodes_needed
from handoff_actors.ids import Resources
from handoff_actors.wire.messages.members import Backlog

OFFER: Resources = {"cpu": 2.0}
CLAIM: Resources = {"cpu": 1.0}
IDLE_S = 60.0
POLL_S = 10
BEAT_S = 2
BATCH_S = 50


class BatchJob(Struct):
    is_kept: bool
    starts_at: float
    joins_at: float
    #: The time at which it fails, or its time is over.
    ends_at: float
    has_failed: bool = False
    is_over: bool = False
    idle_since: float = 0.0
    #: When the functions on it end.
    busy_until: list[float] = field(default_factory=list)


class World(Struct):
    """A batch system whose jobs start late or never, fail, and are cancelled; and an app with functions of some length."""

    random: Random
    autoscaler: Autoscaler
    scale: Scale
    function_s: float
    queue_s: float = 30.0
    #: The share of jobs that fail before they join, and of submissions that are refused.
    failing: float = 0.0
    refusing: float = 0.0
    now: float = 0.0
    waiting: int = 0
    jobs: dict[JobId, BatchJob] = field(default_factory=dict)
    submissions: int = 0
    attempts: int = 0
    told: int = 0

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self._live()
            if self.now % POLL_S == 0:
                self._carry_out(self.autoscaler.handle(JobsListed(self._listing()), self.now))
            if self.now % BEAT_S == 0:
                self.told = self.waiting
            self._carry_out(self.autoscaler.handle(self._seen(), self.now))
            self.autoscaler.check()
            assert len(self._alive()) <= self.scale.most

    def finish(self) -> None:
        """Run until all work is done, and no node is there without need."""
        for _ in range(200):
            self.run(BATCH_S)
            if not self.waiting and len(self._alive()) == self.scale.least:
                return
        raise AssertionError(self)

    def _live(self) -> None:
        for job in self._alive():
            if self.now >= job.ends_at:
                job.is_over = True
                continue
            if self.now < job.joins_at:
                continue
            job.busy_until = [end for end in job.busy_until if end > self.now]
            while self.waiting and len(job.busy_until) < OFFER["cpu"]:
                self.waiting -= 1
                job.busy_until.append(self.now + self.function_s)
            if job.busy_until:
                job.idle_since = self.now
            elif not job.is_kept and self.now >= max(job.idle_since, job.joins_at) + IDLE_S:
                job.is_over = True

    def _alive(self) -> list[BatchJob]:
        return [job for job in self.jobs.values() if not job.is_over]

    def _listing(self) -> dict[JobId, JobListed]:
        return {name: self._entry(job) for name, job in self.jobs.items()}

    def _entry(self, job: BatchJob) -> JobListed:
        if job.is_over:
            return JobListed(
                "ended", state="FAILED" if job.has_failed else "COMPLETED", is_well=not job.has_failed
            )
        return JobListed("running" if self.now >= job.starts_at else "pending", job.is_kept)

    def _seen(self) -> ClusterSeen:
        nodes = {
            name: OFFER for name, job in self.jobs.items() if not job.is_over and self.now >= job.joins_at
        }
        return ClusterSeen([Backlog(self.told, CLAIM)] if self.told else [], nodes)

    def _carry_out(self, effects: list[AutoscalerEffect]) -> None:
        for effect in effects:
            match effect:
                case SubmitJob(is_kept):
                    self._submit(is_kept=is_kept)
                case CancelBatchJobs(names):
                    for name in names:
                        assert not self.jobs[name].is_kept
                        self.jobs[name].is_over = True
                case LogJob():
                    pass

    def _submit(self, *, is_kept: bool) -> None:
        self.attempts += 1
        to_come = sum(self.now < job.joins_at for job in self._alive())
        needed = nodes_needed([Backlog(self.told, CLAIM)], OFFER, self.scale.most)
        assert is_kept or to_come < needed, "jobs that are to come would have done"
        if self.random.random() < self.refusing:
            self._carry_out(self.autoscaler.handle(SubmissionRefused("no"), self.now))
            return
        self.submissions += 1
        starts_at = self.now + self.random.uniform(0, self.queue_s)
        joins_at = starts_at + self.random.uniform(1, 5)
        job = BatchJob(is_kept, starts_at, joins_at, joins_at + 3600)
        if self.random.random() < self.failing:
            job.joins_at, job.ends_at, job.has_failed = float("inf"), starts_at + 2, True
        name = JobId(str(self.submissions))
        self.jobs[name] = job
        self._carry_out(self.autoscaler.handle(JobSubmitted(name), self.now))


def world(
    seed: int,
    least: int,
    most: int,
    function_s: float = 20.0,
    *,
    queue_s: float = 30.0,
    failing: float = 0.0,
    refusing: float = 0.0,
) -> World:
    scale = Scale(least, most, IDLE_S)
    return World(Random(seed), Autoscaler(scale, OFFER), scale, function_s, queue_s, failing, refusing)


seeds = st.integers(0, 2**32)


@settings(deadline=None, max_examples=40)
@given(seed=seeds, least=st.integers(0, 2), more=st.integers(0, 6), failing=st.sampled_from([0.0, 0.2, 0.6]))
def test_whatever_happens_jobs_stay_within_bounds_and_all_work_is_done(
    seed: int, least: int, more: int, failing: float
) -> None:
    made = world(seed, least, max(1, least + more), failing=failing, refusing=failing / 2)
    for _ in range(4):
        made.waiting += made.random.randrange(15)
        made.run(made.random.randrange(100))

    made.finish()


@settings(deadline=None, max_examples=10)
@given(seed=seeds, count=st.integers(1, 20), most=st.integers(1, 8))
def test_work_that_comes_at_once_gets_as_many_jobs_as_it_fills_and_no_more(
    seed: int, count: int, most: int
) -> None:
    made = world(seed, 0, most, function_s=100.0)
    made.waiting = count

    made.run(100)

    assert made.submissions == min(most, -(-count // 2))
    made.finish()


@settings(deadline=None, max_examples=3)
@given(seed=seeds, most=st.integers(1, 8))
def test_jobs_that_all_fail_are_few(seed: int, most: int) -> None:
    made = world(seed, 0, most, failing=1.0)
    made.waiting = 100

    made.run(7200)

    # Each pause is twice as long as the last, and while one is pending others may have failed.
    assert made.submissions <= 7200 / LONGEST_PAUSE_S + 10 + most


@settings(deadline=None, max_examples=3)
@given(seed=seeds)
def test_batch_system_that_refuses_all_is_asked_seldom(seed: int) -> None:
    made = world(seed, 1, 4, refusing=1.0)
    made.waiting = 100

    made.run(7200)

    assert made.attempts <= 7200 / LONGEST_PAUSE_S + 10


@settings(deadline=None, max_examples=10)
@given(seed=seeds, gap_s=st.integers(5, 50))
def test_work_that_comes_in_bursts_keeps_its_nodes(seed: int, gap_s: int) -> None:
    made = world(seed, 0, 2, function_s=5.0, queue_s=1.0)
    for _ in range(20):
        made.waiting += 4
        made.run(gap_s)

    assert made.submissions <= 2
