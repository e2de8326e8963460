"""Which stored values a node has, and which jobs wait for some that it has not."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages import Call, Job, Ref, Ticket


@dataclass(slots=True, eq=False)
class _Waiting:
    job: Job
    missing: set[Index]


@dataclass(slots=True)
class _RunInputs:
    #: Sizes in bytes of what is here, its own results and copies of others'.
    here: dict[Index, int] = field(default_factory=dict)
    waiting: dict[Index, _Waiting] = field(default_factory=dict)
    #: Values on their way, and the jobs that wait for each.
    fetching: dict[Index, list[Index]] = field(default_factory=dict)
    #: Values on their way that were asked for by themselves, to be held here.
    copies: set[Index] = field(default_factory=set)


class Inputs:
    """The stored values of all runs on one node."""

    def __init__(self) -> None:
        self._runs: dict[RunId, _RunInputs] = {}
        self.nbytes = 0

    def waiting_jobs(self) -> int:
        """How many jobs wait for values."""
        return sum(len(run.waiting) for run in self._runs.values())

    def await_inputs(self, run: RunId, job: Job) -> list[Ref] | None:
        """Note what a job needs. None: all is here; else the values that somebody must start to fetch now."""
        refs = {ref.index: ref for ref in stored_inputs(job)}
        if not refs:
            return None
        inputs = self._runs.setdefault(run, _RunInputs())
        missing = refs.keys() - inputs.here.keys()
        if not missing:
            return None
        inputs.waiting[job.index] = _Waiting(job, missing)
        new = [refs[index] for index in sorted(missing) if index not in inputs.fetching]
        for index in sorted(missing):
            inputs.fetching.setdefault(index, []).append(job.index)
        return new

    def await_copies(self, run: RunId, values: list[Ref]) -> tuple[list[Index], list[Ref]]:
        """Note which values are to be held here: those that are here already, and those to be fetched now."""
        inputs = self._runs.setdefault(run, _RunInputs())
        here = [ref.index for ref in values if ref.index in inputs.here]
        missing = [ref for ref in values if ref.index not in inputs.here]
        new = [ref for ref in missing if ref.index not in inputs.fetching]
        for ref in missing:
            inputs.copies.add(ref.index)
            inputs.fetching.setdefault(ref.index, [])
        return here, new

    def take_copy(self, run: RunId, index: Index) -> bool:
        """Whether a value that has come, or won't, was asked for by itself."""
        inputs = self._runs.get(run)
        if inputs is None or index not in inputs.copies:
            return False
        inputs.copies.discard(index)
        return True

    def arrived(self, run: RunId, index: Index, nbytes: int) -> list[Job]:
        """A value is here; the answer is the jobs that wait for nothing more."""
        inputs = self._runs.get(run)
        if inputs is None:
            return []
        self._note(inputs, index, nbytes)
        ready: list[Job] = []
        for job_index in inputs.fetching.pop(index, []):
            waiting = inputs.waiting.get(job_index)
            if waiting is None:
                continue
            waiting.missing.discard(index)
            if not waiting.missing:
                ready.append(inputs.waiting.pop(job_index).job)
        return ready

    def lost(self, run: RunId, index: Index) -> list[Job]:
        """A value can't be had; the answer is the jobs that won't run for that."""
        inputs = self._runs.get(run)
        if inputs is None:
            return []
        waiting = (inputs.waiting.pop(job_index, None) for job_index in inputs.fetching.pop(index, []))
        return [entry.job for entry in waiting if entry is not None]

    def made(self, run: RunId, index: Index, nbytes: int) -> None:
        """A result has been stored here."""
        self._note(self._runs.setdefault(run, _RunInputs()), index, nbytes)

    def waiting(self, run: RunId) -> list[Ticket]:
        """Jobs that wait for values."""
        inputs = self._runs.get(run)
        if inputs is None:
            return []
        return [Ticket(entry.job.index, entry.job.attempt) for entry in inputs.waiting.values()]

    def take_back(self, run: RunId, wanted: set[tuple[Index, int]]) -> list[Job]:
        """Jobs that need not wait any more; what is being fetched for them still arrives."""
        inputs = self._runs.get(run)
        if inputs is None:
            return []
        taken = [
            entry.job for entry in inputs.waiting.values() if (entry.job.index, entry.job.attempt) in wanted
        ]
        for job in taken:
            del inputs.waiting[job.index]
        return taken

    def size(self, run: RunId, index: Index) -> int | None:
        """Bytes of a stored value; None where it is not here."""
        inputs = self._runs.get(run)
        return None if inputs is None else inputs.here.get(index)

    def forget(self, run: RunId) -> None:
        """Drop everything of a run."""
        inputs = self._runs.pop(run, None)
        if inputs is not None:
            self.nbytes -= sum(inputs.here.values())

    def check(self) -> None:
        """Assert that whoever waits, waits for something that is on its way."""
        assert self.nbytes == sum(sum(run.here.values()) for run in self._runs.values())
        for run in self._runs.values():
            assert run.copies <= run.fetching.keys(), "what is to be copied here is fetched by nobody"
            for waiting in run.waiting.values():
                assert waiting.missing, f"{waiting.job} waits for nothing"
                assert waiting.missing <= run.fetching.keys(), f"{waiting.job} waits for what nobody fetches"

    def _note(self, inputs: _RunInputs, index: Index, nbytes: int) -> None:
        self.nbytes += nbytes - inputs.here.get(index, 0)
        inputs.here[index] = nbytes


def stored_inputs(job: Job) -> Iterator[Ref]:
    """The stored values that a job needs, those within calls included."""
    pending: list[object] = [*job.args, job.constants]
    while pending:
        part = pending.pop()
        if isinstance(part, Ref):
            yield part
        elif isinstance(part, Call):
            pending += [*part.args, part.constants]
