"""The stored values of a node, and the jobs that wait for values still to be fetched."""

from collections.abc import Callable, Collection, Iterable

from msgspec import Struct, field

from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import Assembled, Call, Job, Ref, Ticket, ValueKey, ValueOf


class _Waiting(Struct, eq=False):
    job: Job
    #: The values that it waits for, each with its version as in `Ref`.
    missing: dict[Index, int]


class _Coming(Struct):
    #: As in `Ref`.
    version: int
    #: The jobs that wait for it, and some that have been taken back.
    jobs: list[_Waiting] = field(default_factory=list)


class _RunInputs(Struct):
    #: Sizes in bytes of what is here, its own results and copies of others'.
    here: dict[Index, int] = field(default_factory=dict)
    #: The attempts that made the values that are here; 0 where any attempt's value will do.
    versions: dict[Index, int] = field(default_factory=dict)
    waiting: dict[Index, _Waiting] = field(default_factory=dict)
    #: Values that are being fetched.
    fetching: dict[Index, _Coming] = field(default_factory=dict)
    #: Values among them that were requested by `Copy`, to be held here.
    copies: set[Index] = field(default_factory=set)

    def has(self, ref: Ref) -> bool:
        """True if the value is here, in a version that will do."""
        return ref.index in self.here and ref.version in {0, self.versions[ref.index]}

    def begin(self, ref: Ref, *jobs: _Waiting) -> bool:
        """Note that a value is to be fetched. True if a fetch must be started, replacing one of another version."""
        coming = self.fetching.setdefault(ref.index, _Coming(-1))
        coming.jobs += jobs
        if coming.version >= 0 and ref.version in {0, coming.version}:
            return False
        coming.version = ref.version
        return True

    def still_waiting(self, coming: _Coming) -> list[_Waiting]:
        """The jobs that wait for a value: another job of such an index may wait for others."""
        return [entry for entry in coming.jobs if self.waiting.get(entry.job.index) is entry]


class Inputs:
    """The stored values of all runs on one node."""

    def __init__(self) -> None:
        self._runs: dict[RunId, _RunInputs] = {}
        self.nbytes = 0

    def waiting_jobs(self) -> int:
        """The number of jobs that wait for values."""
        return sum(len(run.waiting) for run in self._runs.values())

    def await_inputs(self, run: RunId, job: Job, needed: Iterable[Ref]) -> list[Ref] | None:
        """Note what a job needs. Returns None if all is here, else the values that must be fetched from now on."""
        refs = {ref.index: ref for ref in needed}
        inputs = self._runs.setdefault(run, _RunInputs())
        missing = [refs[index] for index in sorted(refs) if not inputs.has(refs[index])]
        if not missing:
            return None
        waiting = inputs.waiting[job.index] = _Waiting(job, {ref.index: ref.version for ref in missing})
        return [ref for ref in missing if inputs.begin(ref, waiting)]

    def await_copies(self, run: RunId, values: list[Ref]) -> tuple[list[Index], list[Ref]]:
        """Note values that are to be held here. Returns those that are here already, and those that must be fetched from now on."""
        inputs = self._runs.setdefault(run, _RunInputs())
        missing = [ref for ref in values if not inputs.has(ref)]
        inputs.copies |= {ref.index for ref in missing}
        here = [ref.index for ref in values if ref.index not in inputs.copies]
        return here, [ref for ref in missing if inputs.begin(ref)]

    def await_values(self, run: RunId, values: list[Ref]) -> list[Ref]:
        """Note values that no job waits for. Returns those that must be fetched from now on."""
        inputs = self._runs.setdefault(run, _RunInputs())
        return [ref for ref in values if not inputs.has(ref) and inputs.begin(ref)]

    def fetching(self, run: RunId) -> Collection[Index]:
        """The values that are being fetched."""
        inputs = self._runs.get(run)
        return () if inputs is None else inputs.fetching.keys()

    def take_copy(self, run: RunId, index: Index) -> bool:
        """True, once, for a value that was asked for by `Copy`."""
        inputs = self._runs.get(run)
        if inputs is None or index not in inputs.copies:
            return False
        inputs.copies.discard(index)
        return True

    def arrived(self, run: RunId, index: Index, nbytes: int) -> tuple[list[Job], list[Job]]:
        """Add a value that was fetched. Returns the jobs that wait for nothing more, and those that want another version of it."""
        inputs = self._runs[run]
        coming = inputs.fetching.pop(index)
        self._note(inputs, index, nbytes, coming.version)
        ready: list[Job] = []
        outdated: list[Job] = []
        for waiting in inputs.still_waiting(coming):
            if waiting.missing.pop(index) not in {0, coming.version}:
                outdated.append(waiting.job)
            elif not waiting.missing:
                ready.append(waiting.job)
            else:
                continue
            del inputs.waiting[waiting.job.index]
        return ready, outdated

    def lost(self, run: RunId, index: Index) -> list[Job]:
        """Give up a value that can't be fetched. Returns the jobs that can't run without it."""
        inputs = self._runs.get(run)
        if inputs is None:
            return []
        jobs = [entry.job for entry in inputs.still_waiting(inputs.fetching.pop(index, _Coming(0)))]
        for job in jobs:
            del inputs.waiting[job.index]
        return jobs

    def made(self, run: RunId, index: Index, attempt: int, nbytes: int) -> bool:
        """Add a result that was made here. False if the value of a later attempt is here, which stays."""
        inputs = self._runs.setdefault(run, _RunInputs())
        if inputs.versions.get(index, 0) > attempt:
            return False
        self._note(inputs, index, nbytes, attempt)
        return True

    def jobs(self, run: RunId) -> list[Job]:
        """The jobs that wait for values."""
        inputs = self._runs.get(run)
        return [] if inputs is None else [entry.job for entry in inputs.waiting.values()]

    def waiting(self, run: RunId) -> list[Ticket]:
        """The attempts that wait for values."""
        return [Ticket(job.index, job.attempt) for job in self.jobs(run)]

    def take_back(
        self, run: RunId, is_wanted: Callable[[Job], bool], at_most: int | None = None
    ) -> list[Job]:
        """Remove wanted jobs that wait for values, up to `at_most`. Returns them; what is being fetched still arrives."""
        inputs = self._runs.get(run)
        if inputs is None:
            return []
        taken = [entry.job for entry in inputs.waiting.values() if is_wanted(entry.job)][:at_most]
        for job in taken:
            del inputs.waiting[job.index]
        return taken

    def drop_jobs(self, run: RunId) -> None:
        """Drop the attempts of a run that wait for values; what is being fetched still arrives."""
        inputs = self._runs.get(run)
        if inputs is not None:
            inputs.waiting.clear()

    def has_version(self, run: RunId, index: Index, version: int) -> bool:
        """True if a stored value is the one that this attempt made; version 0 stands for any attempt."""
        inputs = self._runs.get(run)
        return inputs is not None and inputs.has(Ref(index, 0, [], version))

    def is_here(self, value: ValueOf) -> bool:
        """True if a value is here under the name that its own run has for it."""
        return self.has_version(value.run, value.index, value.version)

    def size(self, run: RunId, index: Index) -> int | None:
        """The size in bytes of a stored value; None where it is not here."""
        inputs = self._runs.get(run)
        return None if inputs is None else inputs.here.get(index)

    def stored(self, run: RunId) -> int:
        """The size in bytes of all values of a run that are here."""
        inputs = self._runs.get(run)
        return 0 if inputs is None else sum(inputs.here.values())

    def holds_up_to(self, run: RunId, key: ValueKey) -> bool:
        """True if a value is here, and its version is no later than the given one; 0 stands for any."""
        inputs = self._runs.get(run)
        return inputs is not None and key.index in inputs.here and _covers(key, inputs.versions[key.index])

    def fetches_up_to(self, run: RunId, key: ValueKey) -> bool:
        """True if a value is being fetched, and its version is no later than the given one; 0 stands for any."""
        inputs = self._runs.get(run)
        coming = None if inputs is None else inputs.fetching.get(key.index)
        return coming is not None and _covers(key, coming.version)

    def lose(self, run: RunId, index: Index) -> None:
        """Drop a value that is not here any more."""
        inputs = self._runs.get(run)
        if inputs is not None and index in inputs.here:
            self.nbytes -= inputs.here.pop(index)
            del inputs.versions[index]

    def values_here(self) -> list[tuple[RunId, Index]]:
        """Every value that is here."""
        return [(run, index) for run, inputs in self._runs.items() for index in inputs.here]

    def forget(self, run: RunId) -> None:
        """Drop everything of a run."""
        inputs = self._runs.pop(run, None)
        if inputs is not None:
            self.nbytes -= sum(inputs.here.values())

    def check(self) -> None:
        """Assert that every job that waits, waits for a value that is being fetched."""
        assert self.nbytes == sum(sum(run.here.values()) for run in self._runs.values())
        for run in self._runs.values():
            assert run.copies <= run.fetching.keys(), "a value is to be copied here and is not being fetched"
            for waiting in run.waiting.values():
                assert waiting.missing, f"{waiting.job} waits for nothing"
                assert waiting.missing.keys() <= run.fetching.keys(), (
                    f"{waiting.job} waits for a value that is not being fetched"
                )

    def _note(self, inputs: _RunInputs, index: Index, nbytes: int, version: int) -> None:
        self.nbytes += nbytes - inputs.here.get(index, 0)
        inputs.here[index], inputs.versions[index] = nbytes, version


def _covers(key: ValueKey, version: int) -> bool:
    return key.version == 0 or version <= key.version


def stored_inputs(job: Job) -> list[Ref]:
    """The stored values that a job and the rest of its fused group need, including those within calls."""
    refs: list[Ref] = []
    for member in (job, *job.then) if job.then else (job,):
        for part in member.args:
            # Most are a small value itself, or made earlier in the same fused group.
            if type(part) is Ref:
                refs.append(part)
            elif type(part) is Call or type(part) is Assembled:
                refs += _stored_inputs_of(part)
        constants = member.constants
        if constants is not None and not isinstance(constants, bytes):
            refs += _stored_inputs_of(constants)
    return refs


def _stored_inputs_of(composed: Call | Assembled | Ref) -> list[Ref]:
    refs: list[Ref] = []
    pending: list[object] = [composed]
    while pending:
        part = pending.pop()
        if isinstance(part, Ref):
            refs.append(part)
        elif isinstance(part, Call):
            pending += [*part.args, part.constants]
        elif isinstance(part, Assembled):
            pending += [part.rest, *part.parts]
    return refs
