"""The state of a worker, of a job that it holds, and of one that is lost with it."""

from collections.abc import Iterator
from math import inf
from typing import Literal

from msgspec import Struct, field

from handoff_actors.core.node.scheduling.fair_queue import JobLane
from handoff_actors.core.node.scheduling.warm_copy import WarmCopy
from handoff_actors.core.resources import Claim
from handoff_actors.ids import Index, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Job, Progressed, Ticket
from handoff_actors.wire.messages.nested import Identified

Key = tuple[RunId, Index]
#: Why a job is being cancelled: it has run for too long, its run is over here, or its run wants it no more.
CancelReason = Literal["timeout", "closed", "cancelled"]
#: Why a worker is being killed: for a job as above, because it is not needed, because of the memory that it uses, or because
#: of what a job has left behind in it.
KillReason = Literal["timeout", "closed", "cancelled", "idle", "memory", "retired"]
#: Why a job is lost with its worker: "worker" where that died under it.
LossKind = Literal["timeout", "memory", "worker", "cancelled"]

#: A worker that holds several jobs and has been silent for this many seconds is slower than was estimated.
SILENCE_S = 0.01


class HeldJob(Struct, eq=False):
    """A job that a worker holds."""

    job: Job
    lane: JobLane
    #: The job's own claim, on an async worker.
    claim: Claim | None = None
    #: The first job of its fused group, where that has more members.
    head: Job | None = None
    #: Why it is being cancelled, and when its worker is killed unless it has ended.
    verdict: CancelReason | None = None
    killed_at: float = inf
    #: The function's id, once its run has told it, and whether that has been asked.
    identity: Identified | None = None
    is_id_asked: bool = False
    #: How far it is, as it has last reported.
    progress: Progressed | None = None
    #: The number of nested runs that it waits for, and of those of them that may hold up its worker's event loop.
    nested_runs: int = 0
    loop_holders: int = 0

    @property
    def ticket(self) -> Ticket:
        """Return its attempt."""
        return Ticket(self.job.index, self.job.attempt)


class WorkerState(Struct, eq=False):
    """One worker. Sync ones are lent to one lane at a time, under one claim."""

    worker: WorkerId
    is_async: bool
    #: None until it is ready.
    pid: int | None = None
    held: dict[Key, HeldJob] = field(default_factory=dict)
    #: The lane that it is lent to, since when, and under which claim.
    lane: JobLane | None = None
    lent_at: float = 0.0
    claim: Claim | None = None
    #: The GPUs that it has been bound to for life: CUDA reads its environment only once.
    devices: tuple[int, ...] | None = None
    last_message_at: float = 0.0
    #: True once it has been asked to give back the jobs that it has not started.
    recalled: bool = False
    #: True while it runs a long job and has given back the rest: it gets no more until that job has ended.
    is_held_up: bool = False
    #: Why it is being killed, and that in more words.
    verdict: KillReason | None = None
    reason: str = ""
    #: Memory at the latest sample, and at the latest sample before it got its job.
    used_nbytes: int = 0
    used_before_nbytes: int = 0
    #: The attempt that ended on it last.
    latest: tuple[RunId, Ticket] | None = None
    #: A sample since it became idle: when, and the CPU time that it had used; and when it was last judged by such samples.
    idle_sample: tuple[float, float] = (-inf, 0.0)
    quiet_at: float = -inf
    #: True if it gets no more jobs, and ends with those that it has.
    is_retiring: bool = False
    #: It runs a stage: it is none of the usual workers meanwhile.
    runs_stage: bool = False
    #: The number of its jobs that wait for nested runs.
    waiting: int = 0
    #: The number of nested runs of its jobs that may hold up its event loop: it gets no more coroutines meanwhile.
    loop_holders: int = 0
    #: The objects that it keeps, or is making, by key.
    warm: dict[bytes, WarmCopy] = field(default_factory=dict)

    def fused_group(self, head: Job) -> Iterator[HeldJob]:
        """The members of a fused group that it still holds."""
        for held in self.held.values():
            if held.head is head:
                yield held

    def held_groups(self) -> int:
        """The number of jobs that it holds, where a fused group counts as one."""
        heads = {id(held.head) for held in self.held.values() if held.head is not None}
        return len(heads) + sum(held.head is None for held in self.held.values())

    def is_using(self, key: bytes) -> bool:
        """True if a job that it holds needs this object."""
        return any(need.key == key for held in self.held.values() for need in held.lane.warm)

    @property
    def lends_slot(self) -> bool:
        """True if another worker may run in place of this one, whose job waits."""
        return self.waiting > 0 and not (self.is_async or self.runs_stage)

    @property
    def claimed_memory_mb(self) -> float | None:
        """The memory in MB that its jobs, and the objects that it keeps, claim together; None where some of them claim none."""
        claims = [held.claim for held in self.held.values()] if self.is_async else [self.claim]
        claims += [copy.claim for copy in self.warm.values()]
        amounts = [claim.amounts.get("memory", 0.0) if claim is not None else 0.0 for claim in claims]
        return sum(amounts) if amounts and all(amounts) else None

    @property
    def may_be_stuck(self) -> bool:
        """True if silence would mean that a long job holds up others."""
        return not self.is_async and len(self.held) > 1 and not self.recalled and self.verdict is None

    def recalls_at(self, *, is_wanted: bool) -> float:
        """The time at which its silence has lasted too long; later while no other worker could start what it holds up."""
        seconds = 0.0 if is_wanted or self.lane is None else self.lane.seconds or 0.0
        return self.last_message_at + max(SILENCE_S, 2 * seconds)


class LostJob(Struct, frozen=True):
    """A job that was lost with its worker, and why."""

    job: Job
    run: RunId
    kind: LossKind
    #: For people; "" where the kind says it all.
    reason: str = ""
