"""Attempts that their run cancels: those that wait are dropped at once, others are ended on their workers.

An attempt that is unknown, or has been reported, is ignored. A fused group that waits is dropped as a whole, and its run
gets back what it hasn't cancelled of it. What becomes of attempts that workers hold is in `scheduling.cancelled_jobs`.
"""

from collections.abc import Callable, Iterable

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import NodeEffect, Reply
from handoff_actors.core.node.failures import CANCELLED, failure
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.scheduling.fair_queue import tickets_of
from handoff_actors.core.node.scheduling.worker_scheduler import WorkerScheduler
from handoff_actors.ids import PeerId, RunId
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.jobs import Job, Ticket
from handoff_actors.wire.messages.runs import CancelJobs, Recalled


class Cancelling:
    """Cancels attempts, wherever they are on the node."""

    def __init__(self, clients: Clients, scheduler: WorkerScheduler, inputs: Inputs) -> None:
        self._clients = clients
        self._scheduler = scheduler
        self._inputs = inputs

    def cancel(self, peer: PeerId, message: CancelJobs, now: float) -> list[NodeEffect]:
        """End attempts of a run of the peer's."""
        run, tickets = message.run, message.jobs
        client_run = self._clients.live(run)
        if client_run is None or client_run.peer != peer:
            return []
        wanted = {(ticket.index, ticket.attempt) for ticket in tickets}

        def is_wanted(member: Job | Ticket) -> bool:
            return (member.index, member.attempt) in wanted

        dropped = self.take_back(run, lambda job: any(map(is_wanted, (job, *job.then))))
        members = [ticket for job in dropped for ticket in tickets_of(job)]
        reports = not_run(run, ((ticket, is_wanted(ticket)) for ticket in members))
        return [
            *(Reply(peer, report) for report in reports),
            *self._scheduler.cancel(run, tickets, now),
        ]

    def take_back(
        self, run: RunId, is_wanted: Callable[[Job], bool], at_most: int | None = None
    ) -> list[Job]:
        """Remove and return the wanted jobs that no worker has, up to `at_most`; None: all of them."""
        queued = self._scheduler.queue.take_back(run, is_wanted, at_most)
        left = None if at_most is None else at_most - len(queued)
        return [*queued, *self._inputs.take_back(run, is_wanted, left)]


def not_run(run: RunId, attempts: Iterable[tuple[Ticket, bool]]) -> list[FromNode]:
    """The messages about attempts that don't run as they were sent, each with whether it is cancelled."""
    reports: list[FromNode] = []
    separated: list[Ticket] = []
    for ticket, is_cancelled in attempts:
        if is_cancelled:
            reports.append(failure(run, ticket, "cancelled", CANCELLED))
        else:
            separated.append(ticket)
    return [*reports, Recalled(run, separated, is_separated=True)] if separated else reports
