"""Decides how many jobs a member has in a batch system, so that functions that wait get nodes.

    submitted --> pending --> running --> joined --> ended
                     |           |                     ^
                     +-----------+--- in vain ---------+

Each job is one node. There are never more than `most`, and of those that are kept, which don't end when they are idle, as many
as `least`. A job is submitted for functions that wait, as far as jobs whose nodes have yet to get work would not do for them: one
at a time, so that a batch system that refuses one is not asked for ten. While other nodes work, functions have to wait for a
while first, as short ones are done by then. Jobs that nobody needs any more are cancelled while they are pending, once that has
lasted as long as a node may be idle; nodes that run end by themselves.

A job was in vain if it ended before its node joined, or, not in good order, soon after. Each such job, and each refusal, doubles
the pause before the next one; jobs that were submitted before that was known count as one. After a job in vain there is one at a
time, and after some in a row members are told that no nodes can be started, until a node has proved that they can. Nobody has to intervene: batch systems come back, and preempt jobs as a rule.

Sources: HyperQueue's automatic allocation, dask-jobqueue's adaptive scaling, and what their users have met: jobs without end
for functions that no job could run, queues that stay paused, jobs cancelled before they did any work.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NewType, assert_never

from msgspec import Struct, field

from handoff_actors.core.cluster.node_demand import nodes_needed
from handoff_actors.ids import Resources
from handoff_actors.wire.messages.members import Backlog

JobId = NewType("JobId", str)
JobPhase = Literal["pending", "running", "ended"]

#: Functions wait this long, while other nodes work, before a node is started for them.
PATIENCE_S: Final = 5.0
#: A node that joined less than this ago has yet to get work, and apps to tell what waits beside that.
SETTLING_S: Final = 6.0
#: A node that has been there for so long has proved that jobs start nodes.
PROVEN_S: Final = 30.0
#: A node that has not joined so long after its job began has a problem.
JOINS_WITHIN_S: Final = 120.0
#: The pause after the first job in vain or refusal, and the longest: each in a row doubles it.
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 600.0
#: Jobs in vain, in a row, after which members are told that no nodes can be started.
MOST_IN_VAIN: Final = 3

# --- Events -----------------------------------------------------------------------------------------------------


class JobListed(Struct, frozen=True):
    """A job as the batch system describes it."""

    phase: JobPhase
    is_kept: bool = False
    #: The state in the batch system's words, with its reason.
    state: str = ""
    #: True if it has ended by itself, without an error.
    is_well: bool = False


class JobsListed(Struct, frozen=True):
    """All jobs of this member that the batch system knows; the others have ended."""

    jobs: Mapping[JobId, JobListed]


class ClusterSeen(Struct, frozen=True):
    """The cluster as it is now. To be told every few seconds."""

    backlogs: Sequence[Backlog] = ()
    #: The capabilities of the nodes of jobs, as far as they are members.
    nodes: Mapping[JobId, Resources] = field(default_factory=dict)
    #: Those of them that leave.
    leaving: frozenset[JobId] = frozenset()
    #: True if there are nodes with workers that are of no job.
    has_others: bool = False


class JobSubmitted(Struct, frozen=True):
    """The batch system has taken the job that was to be submitted."""

    job: JobId


class SubmissionRefused(Struct, frozen=True):
    """The batch system has not taken the job."""

    reason: str


AutoscalerEvent = JobsListed | ClusterSeen | JobSubmitted | SubmissionRefused

# --- Effects ----------------------------------------------------------------------------------------------------


class SubmitJob(Struct, frozen=True):
    """Submit a job. Answered by `JobSubmitted` or `SubmissionRefused`; there is no other one until then."""

    is_kept: bool


class CancelBatchJobs(Struct, frozen=True):
    """Cancel jobs."""

    jobs: Sequence[JobId]
    reason: str


class LogJob(Struct, frozen=True):
    """Say what has become of a job. `is_fault` if someone should look at it."""

    job: JobId
    what: str
    state: str = ""
    is_fault: bool = False


AutoscalerEffect = SubmitJob | CancelBatchJobs | LogJob


class Scale(Struct, frozen=True):
    """The limits that a user has set."""

    least: int
    most: int
    #: Seconds after which idle nodes end, and pending jobs that nobody needs.
    idle_s: float
    #: Seconds that a node is there before it begins to drain; None: no end is known.
    for_s: float | None = None


class _Job(Struct):
    is_kept: bool
    #: The number of failures that had been counted when it was submitted.
    failures_before: int = 0
    is_running: bool = False
    running_since: float = 0.0
    joined_at: float | None = None
    #: It has shown that jobs start nodes; said once, as one that goes on says nothing about those that follow.
    has_proved: bool = False
    is_cancelled: bool = False
    is_said_to_be_silent: bool = False

    def is_waiting(self, now: float) -> bool:
        """True if its node has yet to get work."""
        return self.joined_at is None or now < self.joined_at + SETTLING_S

    def proves(self, now: float) -> bool:
        """True for the first time that its node has been there for long enough."""
        if self.has_proved or self.joined_at is None or now < self.joined_at + PROVEN_S:
            return False
        self.has_proved = True
        return True


class Autoscaler:
    """The jobs of one member. `handle` is called every few seconds at least, so it has no timers."""

    def __init__(self, scale: Scale, offer: Resources) -> None:
        self._scale = scale
        #: The least that a node of a job has offered; until one has, as is to be expected.
        self._offer = dict(offer)
        self._has_seen_offer = False
        self._jobs: dict[JobId, _Job] = {}
        self._seen = ClusterSeen()
        #: Without a list there may be jobs of an earlier life of this member.
        self._has_list = False
        self._submitting: SubmitJob | None = None
        #: When functions began to wait beyond the jobs that are to come, and when more of these came than are needed.
        self._short_since: float | None = None
        self._surplus_since: float | None = None
        self._refusal = ""
        self._refusals = 0
        self._in_vain = 0
        self._failures = 0
        self._latest_in_vain = ""
        self._next_at = float("-inf")

    # --- What the shell may ask ---------------------------------------------------------------------------------

    @property
    def can_start(self) -> Resources:
        """The capabilities of a node that functions may wait for; none if they would wait in vain."""
        staying = self._seen.nodes.keys() - self._seen.leaving
        is_full = sum(job in staying for job in self._jobs) >= self._scale.most
        return {} if is_full or self._is_in_doubt else self._offer

    @property
    def out_of_order(self) -> str:
        """Why no node is started; "" if nothing is wrong."""
        if self._is_in_doubt:
            return f"jobs were in vain {self._in_vain} times in a row; the latest: {self._latest_in_vain}"
        return self._refusal

    @property
    def jobs(self) -> Mapping[JobId, bool]:
        """All jobs that have not ended; True for those that run."""
        return {name: job.is_running for name, job in self._jobs.items()}

    @property
    def _is_in_doubt(self) -> bool:
        return self._in_vain >= MOST_IN_VAIN

    # --- Events -------------------------------------------------------------------------------------------------

    def handle(self, event: AutoscalerEvent, now: float) -> list[AutoscalerEffect]:
        """Take one event."""
        effects: list[AutoscalerEffect] = []
        match event:
            case JobsListed(listed):
                effects = self._listed(listed, now)
            case ClusterSeen():
                effects = self._cluster_seen(event, now)
            case JobSubmitted(job):
                self._submitted(job)
            case SubmissionRefused(reason):
                self._submitting = None
                self._refusal, self._refusals = reason, self._refusals + 1
                self._pause(self._refusals, now)
            case _:
                assert_never(event)
        return [*effects, *self._silent(now), *self._cancel(now), *self._submit(now)]

    def stop(self, *, cancel_running: bool) -> list[CancelBatchJobs]:
        """End: cancel what is pending, and what would run on without anything to do; nothing else is to be handled."""
        ended = [
            name
            for name, job in self._jobs.items()
            if not job.is_cancelled and (cancel_running or job.is_kept or not job.is_running)
        ]
        return [CancelBatchJobs(ended, "this command ends")] if ended else []

    def _listed(self, listed: Mapping[JobId, JobListed], now: float) -> list[AutoscalerEffect]:
        effects: list[AutoscalerEffect] = []
        for name, entry in listed.items():
            if name not in self._jobs and entry.phase != "ended":
                self._jobs[name] = _Job(entry.is_kept, self._failures)
                effects.append(LogJob(name, "found", entry.state))
            job = self._jobs.get(name)
            if job is not None and entry.phase == "running" and not job.is_running:
                job.is_running, job.running_since = True, now
                effects.append(LogJob(name, "runs", entry.state))
        gone = JobListed("ended", state="unknown to the batch system")
        for name in list(self._jobs):
            entry = listed.get(name, gone)
            if entry.phase == "ended":
                effects.append(self._ended(name, entry, now))
        self._has_list = True
        return effects

    def _ended(self, name: JobId, entry: JobListed, now: float) -> LogJob:
        job = self._jobs.pop(name)
        is_well = entry.is_well and job.joined_at is not None
        if job.proves(now) or (is_well and not job.has_proved):
            self._proved()
        if job.is_cancelled or job.has_proved or is_well:
            return LogJob(name, "ended", entry.state)
        if job.failures_before == self._failures:
            # Others that were submitted before this was known fail for the same reason.
            self._failures += 1
            self._in_vain += 1
            self._pause(self._in_vain, now)
        when = "before its node joined" if job.joined_at is None else "soon after its node joined"
        self._latest_in_vain = f"job {name} ended {when}: {entry.state}"
        return LogJob(name, f"ended {when}", entry.state, is_fault=True)

    def _cluster_seen(self, seen: ClusterSeen, now: float) -> list[AutoscalerEffect]:
        self._seen = seen
        effects: list[AutoscalerEffect] = []
        for name, capabilities in seen.nodes.items():
            job = self._jobs.get(name)
            if job is not None and job.joined_at is None:
                job.joined_at = now
                self._learn(capabilities)
                effects.append(LogJob(name, "joined"))
        for job in self._jobs.values():
            if job.proves(now):
                self._proved()
        return effects

    def _learn(self, capabilities: Resources) -> None:
        """Take the least of what nodes offer: a function that some of them can't run might wait for ever."""
        if self._has_seen_offer:
            capabilities = {
                resource: min(amount, capabilities[resource])
                for resource, amount in self._offer.items()
                if resource in capabilities
            }
        self._offer, self._has_seen_offer = dict(capabilities), True

    def _submitted(self, job: JobId) -> None:
        is_kept = self._submitting is not None and self._submitting.is_kept
        self._submitting = None
        self._refusal, self._refusals = "", 0
        self._jobs[job] = _Job(is_kept, self._failures)

    def _proved(self) -> None:
        self._in_vain, self._latest_in_vain = 0, ""

    def _pause(self, failures: int, now: float) -> None:
        self._next_at = now + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (min(failures, 32) - 1))

    # --- After each event ---------------------------------------------------------------------------------------

    def _silent(self, now: float) -> list[AutoscalerEffect]:
        silent: list[AutoscalerEffect] = []
        for name, job in self._jobs.items():
            is_late = job.is_running and job.joined_at is None and now >= job.running_since + JOINS_WITHIN_S
            if is_late and not job.is_said_to_be_silent:
                job.is_said_to_be_silent = True
                what = f"has run for {JOINS_WITHIN_S:g} s, and its node has not joined"
                silent.append(LogJob(name, what, is_fault=True))
        return silent

    def _balance(self, now: float) -> int:
        """The number of nodes that functions lack beside those that are to come; negative if fewer of these would do."""
        waiting = sum(job.is_waiting(now) and not job.is_cancelled for job in self._jobs.values())
        at_most = max(0, self._scale.most - len(self._jobs) + waiting)
        return nodes_needed(self._seen.backlogs, self._offer, at_most, self._scale.for_s) - waiting

    def _cancel(self, now: float) -> list[AutoscalerEffect]:
        surplus = -self._balance(now)
        pending = [
            name
            for name, job in self._jobs.items()
            if not (job.is_running or job.is_kept or job.is_cancelled or job.joined_at)
        ]
        if surplus <= 0 or not pending:
            self._surplus_since = None
            return []
        if self._surplus_since is None:
            self._surplus_since = now
        if now < self._surplus_since + self._scale.idle_s:
            return []
        # The latest ones have the longest way to go.
        cancelled = pending[-surplus:]
        for name in cancelled:
            self._jobs[name].is_cancelled = True
        return [CancelBatchJobs(cancelled, "nothing waits for a node any more")]

    def _submit(self, now: float) -> list[AutoscalerEffect]:
        lacking = self._balance(now)
        if lacking <= 0:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        if not self._has_list or self._submitting is not None or now < self._next_at:
            return []
        if len(self._jobs) >= self._scale.most:
            return []
        if self._in_vain and not all(job.has_proved for job in self._jobs.values()):
            return []
        kept = sum(job.is_kept and name not in self._seen.leaving for name, job in self._jobs.items())
        if kept < self._scale.least or self._is_short(lacking, now):
            self._submitting = SubmitJob(is_kept=kept < self._scale.least)
            return [self._submitting]
        return []

    def _is_short(self, lacking: int, now: float) -> bool:
        if lacking <= 0 or self._short_since is None:
            return False
        has_nodes = self._seen.has_others or bool(self._seen.nodes)
        return not has_nodes or now >= self._short_since + PATIENCE_S

    def check(self) -> None:
        """Assert every invariant."""
        assert len(self._jobs) <= self._scale.most or self._submitting is None, "more jobs than asked for"
        assert 0 <= self._scale.least <= self._scale.most
