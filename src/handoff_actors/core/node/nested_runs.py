"""Nested runs that wait, as their sessions have said, and what their ancestors hold on this node meanwhile.

The node decides nothing: each nested run finds out by itself whether it would wait for ever, see `core.run.nested_run`.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from handoff_actors.core.node.clients import Clients
from handoff_actors.core.node.events import NodeEffect, Reply
from handoff_actors.core.node.function_ids import FunctionIds
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.scheduling.worker_scheduler import WorkerScheduler
from handoff_actors.core.node.scheduling.worker_state import HeldJob, WorkerState
from handoff_actors.core.resources import summed
from handoff_actors.ids import PeerId, RunId
from handoff_actors.wire.messages.jobs import Job
from handoff_actors.wire.messages.nested import (
    Ancestor,
    Holding,
    Probe,
    Probed,
    WaitingRun,
)

#: Waiting runs in one report. Where more wait, the reader sees less held than is: it waits on, and raises nothing.
MAX_REPORTED = 256


class _Known(Struct, frozen=True):
    peer: PeerId
    probe: Probe


class NestedRuns:
    """The latest `Probe` of each nested run whose ancestors hold something here."""

    def __init__(
        self, clients: Clients, scheduler: WorkerScheduler, inputs: Inputs, ids: FunctionIds
    ) -> None:
        self._clients = clients
        self._scheduler = scheduler
        self._inputs = inputs
        self._ids = ids
        self._waiting: dict[RunId, _Known] = {}

    def probe(self, peer: PeerId, probe: Probe) -> list[NodeEffect]:
        """Remember a probe, and answer it."""
        run = probe.run
        self._waiting.pop(run, None)
        held = list(self._held(probe.ancestors))
        effects = [effect for _, job in held for effect in self._ids.ask(job)]
        reported: list[WaitingRun] = []
        if probe.wants:
            # In the order of their latest probes, the present one last.
            reported = [*self._reports()][1 - MAX_REPORTED :]
            own = [holding for state, job in held if (holding := self._holding(state, job)) is not None]
            if own:
                self._waiting[run] = _Known(peer, probe)
                reported.append(WaitingRun(run, probe.wants, own))
        self._scheduler.lending.limit()
        roster = self._scheduler.roster
        answer = Probed(
            run,
            probe.round,
            roster.has(run) or bool(self._inputs.waiting(run)),
            dict(self._scheduler.ledger.totals),
            max(roster.size, roster.usual) + roster.most_lent,
            roster.most + roster.most_lent,
            self._ancestors_of(held),
            reported,
        )
        return [*effects, Reply(peer, answer)]

    def forget_run(self, run: RunId) -> None:
        """Drop a run that is over here."""
        self._waiting.pop(run, None)

    def forget_peer(self, peer: PeerId) -> None:
        """Drop the runs of a peer that is gone."""
        self._waiting = {run: known for run, known in self._waiting.items() if known.peer != peer}

    def _held(self, ancestors: Iterable[Ancestor]) -> Iterator[tuple[WorkerState, HeldJob]]:
        workers = self._scheduler.roster.workers.values()
        for ancestor in ancestors:
            for state in workers:
                held = state.held.get((ancestor.run, ancestor.index))
                if held is not None and held.job.attempt == ancestor.attempt:
                    yield state, held

    def _reports(self) -> Iterator[WaitingRun]:
        for run, known in list(self._waiting.items()):
            held = self._held(known.probe.ancestors)
            holdings = [holding for state, job in held if (holding := self._holding(state, job)) is not None]
            if holdings:
                yield WaitingRun(run, known.probe.wants, holdings)

    def _holding(self, state: WorkerState, held: HeldJob) -> Holding | None:
        """The resources that a job keeps from others; None if there are none."""
        own = held.claim if state.is_async else state.claim
        warm = [state.warm[need.key].claim for need in held.lane.warm]
        claims = [
            claim for claim in (own, *warm) if claim is not None and (claim.amounts or not state.is_async)
        ]
        if state.is_async and not claims:
            return None
        run, job = held.lane.run, held.job
        return Holding(
            _ancestor(run, job),
            "" if held.identity is None else held.identity.label,
            summed(*(claim.amounts for claim in claims)),
            [*dict.fromkeys(device for claim in claims for device in claim.devices)],
            not state.is_async,
        )

    def _ancestors_of(self, held: Iterable[tuple[WorkerState, HeldJob]]) -> list[Ancestor]:
        """The functions that wait for the runs of these jobs."""
        states = (self._clients.get(job.lane.run) for _, job in held)
        parents = (state.parent for state in states if state is not None)
        return list(dict.fromkeys(parent for parent in parents if parent is not None))


def _ancestor(run: RunId, job: Job) -> Ancestor:
    return Ancestor(run, job.index, job.attempt)
