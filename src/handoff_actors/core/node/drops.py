"""Values and templates that a run has its nodes forget while it goes on, as it will not refer to them any more.

The index of such a value may be used again, for the value of another function: a later attempt makes that one. So each value
is dropped by the attempt that made it, and whatever is newer stays.
"""

from collections.abc import Iterable, Iterator

from handoff_actors.core.node.clients import ClientRun, Clients
from handoff_actors.core.node.events import ForgetTemplates, ForgetValues, NodeEffect, Reply
from handoff_actors.core.node.inputs import Inputs
from handoff_actors.core.node.missing_values import missing_reports
from handoff_actors.core.node.scheduling.worker_scheduler import WorkerScheduler
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.ids import Index, PeerId, RunId
from handoff_actors.wire.messages.jobs import Call, Job, ValueKey
from handoff_actors.wire.messages.runs import Drop


class Drops:
    """Forgets values and templates of runs on one node."""

    def __init__(
        self, clients: Clients, scheduler: WorkerScheduler, inputs: Inputs, spill_policy: SpillPolicy
    ) -> None:
        self._clients = clients
        self._scheduler = scheduler
        self._inputs = inputs
        self._spill_policy = spill_policy

    def drop(self, peer: PeerId, message: Drop) -> list[NodeEffect]:
        """Forget values and templates of a peer's run. Attempts that still wait for a value fail: the run has given them up."""
        run = self._clients.get(message.run)
        if run is None or run.peer != peer:
            return []
        effects = self._drop_values(message.run, run, message.values) if message.values else []
        return effects + self._drop_templates(message.run, run, message.templates)

    def replace(self, run: RunId, state: ClientRun, job: Job) -> list[NodeEffect]:
        """Give up fetches of former values of what a job will make: one that ended later would take the new one's place."""
        fetching = self._inputs.fetching(run)
        indices = [member.index for member in (job, *job.then) if member.index in fetching]
        if not indices:
            return []
        reports = [
            report for index in indices for report in self._give_up(run, state, index, "it is made anew")
        ]
        return [ForgetValues(run, [], indices), *reports]

    def _drop_values(self, run: RunId, state: ClientRun, keys: Iterable[ValueKey]) -> list[NodeEffect]:
        stored: list[Index] = []
        coming: list[Index] = []
        reports: list[NodeEffect] = []
        for key in keys:
            index = key.index
            if self._inputs.holds_up_to(run, key):
                stored.append(index)
                self._inputs.lose(run, index)
                self._spill_policy.lose((run, index))
                state.lose_package(index)
            if self._inputs.fetches_up_to(run, key):
                coming.append(index)
                reports += self._give_up(run, state, index, "its run has dropped it")
        return [ForgetValues(run, stored, coming), *reports] if stored or coming else []

    def _give_up(self, run: RunId, state: ClientRun, index: Index, reason: str) -> list[NodeEffect]:
        """Wait no more for a value that is being fetched."""
        state.fetching_since.pop(index, None)
        is_copy = self._inputs.take_copy(run, index)
        jobs = self._inputs.lost(run, index)
        reports = missing_reports(run, index, jobs, "input", reason, is_copy=is_copy)
        return [Reply(state.peer, report) for report in reports]

    def _drop_templates(self, run: RunId, state: ClientRun, numbers: Iterable[int]) -> list[NodeEffect]:
        """Forget templates. One that a job still uses stays until the run drops others: the job is one that it has given up."""
        state.dropped_templates.update(number for number in numbers if number in state.templates)
        if not state.dropped_templates:
            return []
        used = {number for job in self._jobs(run) for number in templates_of(job)}
        gone = sorted(state.dropped_templates - used)
        if not gone:
            return []
        return [ForgetTemplates(run, gone, state.forget_templates(gone))]

    def _jobs(self, run: RunId) -> Iterator[Job]:
        """Every job of a run that is here."""
        yield from self._inputs.jobs(run)
        for lane in self._scheduler.queue.lanes(run):
            yield from lane.jobs
        for state in self._scheduler.roster.workers.values():
            yield from (held.job for (of, _), held in state.held.items() if of == run)


def templates_of(job: Job) -> set[int]:
    """The templates that a job and the rest of its fused group use, including those of calls within."""
    used: set[int] = set()
    for member in (job, *job.then):
        used.add(member.template)
        pending = [arg for arg in member.args if type(arg) is Call]
        while pending:
            call = pending.pop()
            used.add(call.template)
            pending += [arg for arg in call.args if type(arg) is Call]
    return used
