"""Values that a node has asked others for: what follows when one comes, and when it can't be had."""

from handoff_actors.core.node.circuit_breaker import CircuitBreaker
from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import InputFetched, InputMissing, NodeEffect, Reply
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.kept_values import KeptValues
from handoff_actors.core.node.missing_values import missing_reports
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.wire.messages.jobs import Job
from handoff_actors.wire.messages.runs import Copied


class Arrivals:
    """The ends of fetches on one node."""

    def __init__(
        self,
        clients: Clients,
        inputs: Inputs,
        spill_policy: SpillPolicy,
        circuit_breaker: CircuitBreaker,
        kept: KeptValues,
    ) -> None:
        self._kept = kept
        self._clients = clients
        self._inputs = inputs
        self._spill_policy = spill_policy
        self._circuit_breaker = circuit_breaker

    def fetched(self, event: InputFetched, now: float) -> tuple[list[Job], list[NodeEffect]]:
        """Take a value that has come. Returns the jobs that wait for nothing more, and what their run is told."""
        if self._kept.has(event.run):
            return [], self._kept.came(event, now)
        if event.index not in self._inputs.fetching(event.run):
            return [], []
        is_copy = self._inputs.take_copy(event.run, event.index)
        # A value without bytes is a package that was here already.
        if event.nbytes and self._clients.get(event.run) is not None:
            self._spill_policy.put((event.run, event.index), event.nbytes, event.shared_with)
        ready, outdated = self._inputs.arrived(event.run, event.index, event.nbytes)
        run = self._clients.live(event.run)
        if run is None:
            return [], []
        run.arrived(event.index, 0 if event.shared_with else event.nbytes, now)
        if event.is_importable:
            self._clients.can_import(run.modules[event.index].key, now)
        reason = "its node was asked for another version of it"
        reports = missing_reports(event.run, event.index, outdated, "input", reason, is_copy=False)
        reports += [Copied(event.run, [event.index], [])] if is_copy else []
        return ready, [Reply(run.peer, message) for message in reports]

    def missing(self, event: InputMissing, now: float) -> list[NodeEffect]:
        """Give up a value that can't be had, and the jobs that wait for it."""
        if self._kept.has(event.run):
            return self._kept.came(event, now)
        is_copy = self._inputs.take_copy(event.run, event.index)
        jobs = self._inputs.lost(event.run, event.index)
        run = self._clients.live(event.run)
        if run is None:
            return []
        for job in jobs:
            self._circuit_breaker.failed(event.run, job.index, event.kind, event.reason, now)
        run.fetching_since.pop(event.index, None)
        reports = missing_reports(event.run, event.index, jobs, event.kind, event.reason, is_copy=is_copy)
        return [Reply(run.peer, message) for message in reports]
