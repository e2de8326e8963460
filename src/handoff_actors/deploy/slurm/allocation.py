"""A member that has nodes started by Slurm for functions that wait, as its autoscaler decides."""

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final, assert_never

from msgspec import Struct

from handoff_actors.actors.driver import clock
from handoff_actors.actors.handshake import NameInUse
from handoff_actors.actors.member import Member
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.adverts import StartableNodes
from handoff_actors.actors.node.hosting import host_node
from handoff_actors.core.cluster.autoscaler import (
    Autoscaler,
    AutoscalerEffect,
    AutoscalerEvent,
    CancelBatchJobs,
    ClusterSeen,
    JobId,
    JobsListed,
    JobSubmitted,
    LogJob,
    Scale,
    SubmissionRefused,
    SubmitJob,
)
from handoff_actors.deploy.slurm.commands import Slurm, SlurmError
from handoff_actors.deploy.slurm.jobs import NodeJob, job_of
from handoff_actors.deploy.slurm.offers import expected_offer, first_node
from handoff_actors.errors import HandoffError
from handoff_actors.ids import Resources
from handoff_actors.text import shortened
from handoff_actors.transport.credentials import Credentials

log = logging.getLogger(__name__)

#: The cluster is looked at this often.
_LOOKS_EVERY_S: Final = 1.0
#: On the end, wait this long for jobs to be cancelled, and for the member to leave.
_ENDS_WITHIN_S: Final = 20.0
_LEAVES_WITHIN_S: Final = 2.0
#: Of the last line of a job's log, and of the reason that members hear.
_MOST_TEXT: Final = 200
_LOG_END_NBYTES: Final = 4096


class AllocationOptions(Struct, frozen=True):
    """The choices of a user."""

    job: NodeJob
    scale: Scale
    #: The capabilities that the user has named.
    offer: Resources
    polls_every_s: float
    #: On the end, drain nodes that run, too.
    cancel_running: bool = False
    listen: str | None = None


async def allocate(
    options: AllocationOptions,
    credentials: Credentials,
    ready: Callable[[NodeActor, Resources], AbstractContextManager[object]],
) -> None:
    """Be a member until SIGTERM or SIGINT. `ready` is called once it serves, with what a node is expected to offer.

    Raises SlurmError if Slurm would refuse its jobs, and as `host_node` does.
    """
    slurm = Slurm(options.job)
    with _signals() as signals:
        expected = await _expected_offer(slurm, options)
        options.job.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        member = Member(options.job.name, credentials=credentials)
        try:
            node = await host_node(
                member,
                {},
                name=options.job.name,
                workers=0,
                listen=options.listen,
                join_file=options.job.directory,
            )
            allocation = _Allocation(options, slurm, Autoscaler(options.scale, expected), member, node)
            with ready(node, expected):
                await allocation.run(signals)
            await node.leave(_LEAVES_WITHIN_S)
        finally:
            await member.close()


async def _expected_offer(slurm: Slurm, options: AllocationOptions) -> Resources:
    answer = await slurm.dry_run()
    described = ""
    name = first_node(answer)
    if name is not None:
        with suppress(SlurmError):
            described = await slurm.show_node(name)
    return expected_offer(answer, options.job.sbatch, described) | options.offer


@contextmanager
def _signals() -> "Iterator[asyncio.Queue[None]]":
    """Queue SIGTERM and SIGINT."""
    loop, seen = asyncio.get_running_loop(), asyncio.Queue[None]()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, seen.put_nowait, None)
    try:
        yield seen
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _Allocation:
    """Carries out what the autoscaler decides, one thing after the other."""

    def __init__(
        self,
        options: AllocationOptions,
        slurm: Slurm,
        autoscaler: Autoscaler,
        member: Member,
        node: NodeActor,
    ) -> None:
        self._options = options
        self._slurm = slurm
        self._autoscaler = autoscaler
        self._member = member
        self._node = node
        self._list_at = float("-inf")
        self._is_listing_broken = False
        #: The last line in the log of the latest job that went wrong.
        self._latest_said = ""

    async def run(self, signals: "asyncio.Queue[None]") -> None:
        """Have nodes started until there is a signal. A second one ends this at once. Raises HandoffError if the node ends."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(), name="watch")
            told = tasks.create_task(signals.get(), name="first signal")
            await asyncio.wait((watching, told, self._node.crashed), return_when=asyncio.FIRST_COMPLETED)
            watching.cancel()
            told.cancel()
        if self._node.crashed.done():
            reason = self._node.crashed.result()
            raise reason if isinstance(reason, NameInUse) else HandoffError(f"the member has ended: {reason}")
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(self._end(), name="end")
            told = tasks.create_task(signals.get(), name="second signal")
            await asyncio.wait((ending, told), timeout=_ENDS_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            told.cancel()

    async def _watch(self) -> None:
        # Runs may wait while Slurm takes its time to list jobs.
        self._advertise()
        while True:
            if clock() >= self._list_at:
                await self._list()
            await self._handle(self._cluster())
            self._advertise()
            await asyncio.sleep(_LOOKS_EVERY_S)

    def _advertise(self) -> None:
        reason = self._autoscaler.out_of_order
        if reason and not self._autoscaler.can_start and self._latest_said:
            reason = f"{reason}: {self._latest_said}"
        startable = StartableNodes(
            self._autoscaler.can_start, self._options.scale.for_s, shortened(reason, _MOST_TEXT)
        )
        self._node.start_others(startable)

    async def _list(self) -> None:
        self._list_at = clock() + self._options.polls_every_s
        try:
            jobs = await self._slurm.jobs()
        except SlurmError as error:
            if not self._is_listing_broken:
                log.warning("jobs can't be listed", extra={"reason": str(error)})
            self._is_listing_broken = True
        else:
            self._is_listing_broken = False
            await self._handle(JobsListed(jobs))

    def _cluster(self) -> ClusterSeen:
        nodes: dict[JobId, Resources] = {}
        leaving: set[JobId] = set()
        has_others = False
        for advert in self._member.members():
            job = job_of(advert.name)
            if job is not None and job in self._autoscaler.jobs:
                nodes[job] = advert.capabilities
                leaving |= {job} if advert.leaving else set()
            else:
                has_others |= advert.workers > 0
        return ClusterSeen(self._node.backlogs, nodes, frozenset(leaving), has_others)

    async def _handle(self, event: AutoscalerEvent) -> None:
        events = deque([event])
        while events:
            for effect in self._autoscaler.handle(events.popleft(), clock()):
                answer = await self._perform(effect)
                if answer is not None:
                    events.append(answer)

    async def _perform(self, effect: AutoscalerEffect) -> AutoscalerEvent | None:
        match effect:
            case SubmitJob(is_kept):
                return await self._submit(is_kept=is_kept)
            case CancelBatchJobs(jobs, reason):
                log.info("jobs cancelled", extra={"jobs": ", ".join(jobs), "reason": reason})
                await self._cancel(effect)
            case LogJob():
                self._log(effect)
            case _:
                assert_never(effect)
        return None

    async def _submit(self, *, is_kept: bool) -> AutoscalerEvent:
        try:
            job = await self._slurm.submit(is_kept=is_kept)
        except SlurmError as error:
            log.warning("no job submitted", extra={"reason": str(error)})
            return SubmissionRefused(str(error))
        log.info("job submitted", extra={"job": job, "is_kept": is_kept})
        return JobSubmitted(job)

    async def _cancel(self, effect: CancelBatchJobs) -> None:
        running = [job for job in effect.jobs if self._autoscaler.jobs[job]]
        pending = [job for job in effect.jobs if not self._autoscaler.jobs[job]]
        try:
            if pending:
                await self._slurm.cancel(pending)
            if running:
                await self._slurm.drain(running)
        except SlurmError as error:
            log.warning(
                "jobs can't be cancelled", extra={"jobs": ", ".join(effect.jobs), "reason": str(error)}
            )

    def _log(self, event: LogJob) -> None:
        told = {"job": event.job} | ({"state": event.state} if event.state else {})
        if event.is_fault:
            path = self._options.job.logs / f"{event.job}.log"
            said = self._latest_said = _last_line(path)
            log.warning("job %s", event.what, extra={**told, "log": str(path), "said": said})
        else:
            log.info("job %s", event.what, extra=told)

    async def _end(self) -> None:
        # A job may have been submitted while this was told to end. No others are wanted.
        with suppress(SlurmError):
            self._autoscaler.handle(JobsListed(await self._slurm.jobs()), clock())
        for effect in self._autoscaler.stop(cancel_running=self._options.cancel_running):
            await self._perform(effect)


def _last_line(path: Path) -> str:
    """The last line of a job's log, which mostly says why it has ended; "" if there is none."""
    try:
        with path.open("rb") as opened:
            opened.seek(0, os.SEEK_END)
            opened.seek(max(0, opened.tell() - _LOG_END_NBYTES))
            lines = opened.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return shortened(next((line.strip() for line in reversed(lines) if line.strip()), ""), _MOST_TEXT)
