"""The messages between a node, its zygote and its workers: their fields, and their form on the channels.

A message goes as a MessagePack list of its fields, the last of which is a tag that says which message it is among those of
its direction; no other module knows a tag or a position. On a worker's data channel messages follow one another without a
frame; the zygote's channel keeps packets apart. Both ends belong to one installation, so a row that is no message is a bug
of ours.

Structs of `wire.messages` that are part of a message reach a worker as rows, as a worker starts without msgspec; the
aliases and positions under "Jobs at the worker" describe them. In the other direction a worker makes the rows of `Done`
and `Said` here, and the node's end makes structs of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgpack

from handoff_actors.ids import Attempt, Index, RunId, WorkerId

if TYPE_CHECKING:
    from handoff_actors.wire.messages.jobs import Job

#: Bytes asked for in one read. A buffer of 256 KiB is beyond malloc's threshold for mapping, and cost 20 µs a read.
READ_NBYTES: Final = 64 * 1024
#: How many functions' code a worker keeps for later runs; the pool keeps the same count, so that it knows which.
CODES_KEPT: Final = 256
#: And so many bytes of code at most: the values that a function captures are part of it.
CODES_KEPT_NBYTES: Final = 64 * 1024 * 1024
#: How many sets of modules a worker keeps; the pool keeps the same count.
MODULES_KEPT: Final = 16
#: Each byte on a sync worker's control channel is a recall. See `GiveBackJobs` for async workers.
RECALL_BYTE: Final = b"\0"

#: A message, or a part of one, as MessagePack has it; its own end has checked the types.
Row: TypeAlias = tuple[Any, ...]

JobKey = tuple[RunId, Index, Attempt]

#: Why a worker gives up on an attempt: the user's code raised; a value or the code can't be encoded or decoded; the
#: environment can't be had; an input is not in the store; the store has no room for the result; a coroutine was cancelled;
#: a run that the function began waited for what its ancestors hold.
WorkerFailureKind = Literal[
    "exception", "serialization", "environment", "input", "store", "cancelled", "deadlock"
]
_FAILURE_KINDS: Final = frozenset(get_args(WorkerFailureKind))


# --- Node to worker ---------------------------------------------------------------------------------------------------


class DefineTemplate(NamedTuple):
    """Add a template of a run, before the first job that uses it."""

    run: RunId
    number: int
    digest: bytes
    by_reference: bool
    #: None: the worker still has the code of that digest.
    code: bytes | None
    as_list: bool
    claims_memory: bool
    #: How many threads numerical libraries may start.
    threads: int
    #: None: the output stays at the node.
    log_level: int | None
    #: None: the worker's own environment, and the next two mean nothing.
    variables: Mapping[bytes, bytes] | None
    #: b"": the worker's own directory.
    directory: bytes
    #: The stored value with what is in the directory, for nodes that lack it.
    package: Index | None
    #: Code by value of one session shares its globals.
    session: str
    #: The name of the set of modules that its code and its values refer to, see `DefineModules`.
    modules: bytes | None
    #: See `wire.messages.jobs.Template`.
    retry_on: bytes
    #: Args from this position on are parts of the constants; None: there are none.
    placed_from: int | None = None
    #: Functions are called with SKIP, and with errors, in place of results.
    runs_anyway: bool = False
    #: So many of the last args are conditions.
    conditions: int = 0
    #: The app wants values that its functions emit.
    sends_values: bool = False
    #: Identifies the object that it makes and that stays in the worker; None: it makes results.
    warm: bytes | None = None
    #: The name of that object, for people.
    warm_name: str = ""
    tag: int = 1


class QueueJobs(NamedTuple):
    """Run these jobs, in this order."""

    run: RunId
    jobs: "Sequence[JobRow]"
    tag: int = 2


def queue_jobs(run: RunId, jobs: "Sequence[Job]") -> QueueJobs:
    """Make the message from structs, which are encoded as the rows that the worker gets."""
    rows: Any = jobs
    return QueueJobs(run, rows)


class DropTemplates(NamedTuple):
    """Templates of a run are not needed any more."""

    run: RunId
    #: None: all, as the run is over.
    numbers: Sequence[int] | None = None
    tag: int = 3


class ExposeDevices(NamedTuple):
    """Show these devices to the jobs that follow."""

    #: As CUDA_VISIBLE_DEVICES is to read; None: as it read when the worker began.
    devices: str | None
    tag: int = 4


class GiveBackJobs(NamedTuple):
    """Recall what has not started. Async workers only; a sync worker gets a `RECALL_BYTE`."""

    tag: int = 5


class CancelJob(NamedTuple):
    """Cancel a coroutine. Async workers only."""

    key: JobKey
    tag: int = 6


class DefineModules(NamedTuple):
    """Add a set of modules of an app's own, before the first template that uses it."""

    #: The name of the set.
    name: bytes
    #: Code and modules of one session share their globals.
    session: str
    #: The digest of each module's source.
    sources: Mapping[str, bytes]
    #: None: they can be imported.
    definitions: bytes | None
    tag: int = 7


ToWorker = (
    DefineTemplate | QueueJobs | DropTemplates | ExposeDevices | GiveBackJobs | CancelJob | DefineModules
)


# --- Worker to node ---------------------------------------------------------------------------------------------------


class WorkerReady(NamedTuple):
    """The worker has started; comes before all else."""

    pid: int
    tag: int = 1


#: A `Done` of `wire.messages`: index, attempt, encoded value or bytes stored, pid, seconds.
DoneRow: TypeAlias = tuple[Index, Attempt, bytes | int, int, float]


def done_row(index: Index, attempt: Attempt, value: bytes | int, pid: int, ran_s: float) -> DoneRow:
    """Give the row of one attempt: `value` is encoded, or the number of bytes that are now in the store."""
    return index, attempt, value, pid, ran_s


class JobsDone(NamedTuple):
    """Attempts that ended well."""

    run: RunId
    rows: Sequence[DoneRow]
    tag: int = 2


class JobGrew(NamedTuple):
    """An attempt that ended well, with more than a plain value. The worker does not start the rest of its fused group."""

    run: RunId
    row: DoneRow
    #: An encoded `Additions` of `wire.messages`.
    growth: bytes
    tag: int = 7


class JobFailed(NamedTuple):
    """An attempt that did not end well; the worker goes on."""

    key: JobKey
    kind: WorkerFailureKind
    #: An encoded exception, or b"".
    error: bytes
    #: For people.
    reason: str
    ran_s: float
    #: The most memory that the worker has ever had.
    peak_nbytes: int
    #: The last lines that it printed.
    printed: str
    #: Why `retry_on` allows no further try; "": it allows one.
    not_retried: str
    tag: int = 3


class JobsGivenBack(NamedTuple):
    """The answer to a recall: jobs that had not started."""

    jobs: Sequence[JobKey]
    tag: int = 4


class JobsPrinted(NamedTuple):
    """Functions that are about to end have output or reports on the node's pipe, to be read before their ends."""

    #: Each with the number of its lines that were dropped.
    dropped: Sequence[tuple[JobKey, int]]
    tag: int = 5


class WorkerSpoiled(NamedTuple):
    """A job has left this worker in a state that can't be mended. A sync worker has ended then, and starts no other job."""

    key: JobKey
    #: For people.
    reason: str
    tag: int = 6


class ObjectKept(NamedTuple):
    """The worker has made an object that it keeps; comes before the end of the job that needed it."""

    #: As in `DefineTemplate.warm`.
    warm: bytes
    #: Memory that the process has taken up meanwhile; 0 where that is not known.
    nbytes: int
    tag: int = 8


FromWorker = (
    WorkerReady | JobsDone | JobGrew | JobFailed | JobsGivenBack | JobsPrinted | WorkerSpoiled | ObjectKept
)


# --- Node and zygote --------------------------------------------------------------------------------------------------


class ForkWorker(NamedTuple):
    """Fork a worker. Its ends of its channels come along: data and control, or data alone for an async worker."""

    worker: WorkerId
    tag: int = 1


class KillGroup(NamedTuple):
    """Kill a worker and its process group; no matter if it has ended."""

    worker: WorkerId
    tag: int = 2


class ImportForNestedRuns(NamedTuple):
    """Import what functions that begin runs need, so that the workers that are forked from now on share it."""

    tag: int = 3


ToZygote = ForkWorker | KillGroup | ImportForNestedRuns


class ProcessEnded(NamedTuple):
    """A worker has ended and was reaped."""

    worker: WorkerId
    #: The signal that ended it, or its exit code; the other is None.
    signal: int | None
    exit_code: int | None
    #: The most memory that it has ever had.
    peak_nbytes: int
    #: The last lines that it printed.
    printed: str
    tag: int = 1


class ZygoteSettings(NamedTuple):
    """The arguments that a zygote is started with, in front of the entries of `sys.path`."""

    #: Descriptor of its end of the channel.
    channel: int
    store: Path
    #: For values that the store has no room for.
    disk: Path | None
    #: The name of the node.
    node: str
    inline_limit: int
    #: Descriptor of the pipe that carries output of functions.
    pipe: int
    #: See `process_trees`.
    tree: int
    #: Descriptor of the channel over which workers ask their node, see `pool.questions`.
    questions: int

    def arguments(self) -> list[str]:
        """Give them as they are in `sys.argv`."""
        return [
            str(self.channel),
            str(self.store),
            str(self.disk or ""),
            self.node,
            str(self.inline_limit),
            str(self.pipe),
            str(self.tree),
            str(self.questions),
        ]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "ZygoteSettings":
        """Undo `arguments`."""
        channel, store, disk, node, *numbers = arguments
        inline_limit, pipe, tree, questions = map(int, numbers)
        return cls(
            int(channel), Path(store), Path(disk) if disk else None, node, inline_limit, pipe, tree, questions
        )


class Surroundings(NamedTuple):
    """The way to the cluster of a worker's node, for runs that its functions begin."""

    address: str
    #: The text of its key; None: it is insecure.
    key: str | None
    #: The text of the other key that members of the cluster may have, if there is one.
    also_accepted: str | None = None


# --- Jobs at the worker -----------------------------------------------------------------------------------------------

# Every function passes here. A NamedTuple for each job and argument would cost 5 to 11 % of what a worker does for a function
# that does nothing; typed tuples and names for their positions cost nothing.

#: `Ref`: tag, index, nbytes, holders, version.
RefRow: TypeAlias = tuple[Literal[1], Index, int, Sequence[str], int]
#: `Assembled`: tag, rest, parts.
AssembledRow: TypeAlias = tuple[Literal[8], bytes | RefRow, Sequence[RefRow]]
#: bytes: an encoded value.
ConstantsRow: TypeAlias = bytes | RefRow | AssembledRow | None
#: `Call`: tag, template, args, constants.
CallRow: TypeAlias = "tuple[Literal[2], int, Sequence[ArgRow], ConstantsRow]"
#: `Text`: tag, value.
TextRow: TypeAlias = tuple[Literal[3], str]
#: `Earlier`: tag, index.
EarlierRow: TypeAlias = tuple[Literal[4], Index]
#: `FailedInput`: tag, error.
FailedInputRow: TypeAlias = tuple[Literal[9], bytes]
#: `Listed`: tag, encoded list, parts as (index, nbytes).
ListedRow: TypeAlias = tuple[Literal[12], bytes, Sequence[tuple[Index, int]]]
#: bytes: an encoded value.
ArgRow: TypeAlias = (
    "bytes | RefRow | CallRow | TextRow | EarlierRow | FailedInputRow | AssembledRow | ListedRow"
)

ARG_TAG: Final = 0
REF: Final = 1
REF_INDEX: Final = 1
CALL: Final = 2
CALL_TEMPLATE: Final = 1
CALL_ARGS: Final = 2
CALL_CONSTANTS: Final = 3
TEXT: Final = 3
TEXT_VALUE: Final = 1
EARLIER: Final = 4
EARLIER_INDEX: Final = 1
FAILED_INPUT: Final = 9
FAILED_INPUT_ERROR: Final = 1
LISTED: Final = 12
LISTED_ITEMS: Final = 1
LISTED_PARTS: Final = 2
ASSEMBLED: Final = 8
ASSEMBLED_REST: Final = 1
ASSEMBLED_PARTS: Final = 2

#: `Job`: index, attempt, template, args, constants, then, rank.
JobRow: TypeAlias = "tuple[Index, Attempt, int, Sequence[ArgRow], ConstantsRow, Sequence[JobRow], Row]"

JOB_INDEX: Final = 0
JOB_ATTEMPT: Final = 1
JOB_TEMPLATE: Final = 2
JOB_ARGS: Final = 3
JOB_CONSTANTS: Final = 4
JOB_THEN: Final = 5


# --- Rows and bytes ---------------------------------------------------------------------------------------------------

_pack: "Callable[[Row], bytes]" = msgpack.packb


def _by_tag(*messages: type[Any]) -> dict[int, Callable[[Row], Any]]:
    # `_make` takes twice as long, as it counts the fields.
    return {message._field_defaults["tag"]: partial(tuple.__new__, message) for message in messages}


def _checked_failure(row: Row) -> JobFailed:
    failed: JobFailed = tuple.__new__(JobFailed, row)
    if failed.kind not in _FAILURE_KINDS:
        raise AssertionError(f"a worker failed a job for an unknown kind of reason: {failed.kind!r}")
    return failed


_TO_WORKER: Final[Mapping[int, Callable[[Row], ToWorker]]] = _by_tag(
    DefineTemplate, QueueJobs, DropTemplates, ExposeDevices, GiveBackJobs, CancelJob, DefineModules
)
_FROM_WORKER: Final[Mapping[int, Callable[[Row], FromWorker]]] = {
    **_by_tag(
        WorkerReady, JobsDone, JobGrew, JobFailed, JobsGivenBack, JobsPrinted, WorkerSpoiled, ObjectKept
    ),
    JobFailed._field_defaults["tag"]: _checked_failure,
}
_TO_ZYGOTE: Final[Mapping[int, Callable[[Row], ToZygote]]] = _by_tag(
    ForkWorker, KillGroup, ImportForNestedRuns
)
_FROM_ZYGOTE: Final[Mapping[int, Callable[[Row], ProcessEnded]]] = _by_tag(ProcessEnded)


class RowReader:
    """Splits what arrives on a stream into rows; a row may arrive in pieces."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(max_buffer_size=0, use_list=False)

    def rows(self, received: bytes) -> Iterator[Row]:
        """Give the rows that are whole now. They must be taken before more is fed."""
        self._unpacker.feed(received)
        rows: Iterator[Row] = self._unpacker
        return rows


def to_worker(row: Row) -> ToWorker:
    """Give the message to a worker that a row is. Raises AssertionError if it is none."""
    try:
        return _TO_WORKER[row[-1]](row)
    except _NOT_A_MESSAGE as error:
        raise _no_message(row) from error


def from_worker(row: Row) -> FromWorker:
    """Give the message from a worker that a row is. Raises AssertionError if it is none."""
    try:
        return _FROM_WORKER[row[-1]](row)
    except _NOT_A_MESSAGE as error:
        raise _no_message(row) from error


def zygote_packet(message: ToZygote | ProcessEnded) -> bytes:
    """Encode a packet of the zygote's channel."""
    return _pack(message)


def id_question(key: JobKey) -> bytes:
    """Encode a worker's question for the id of a function that it runs."""
    return _pack(key)


def from_id_question(packet: bytes) -> JobKey:
    """Undo `id_question`."""
    run, index, attempt = msgpack.unpackb(packet)
    return run, index, attempt


def id_answer(function_id: str | int) -> bytes:
    """Encode the answer to `id_question`."""
    return _pack((function_id,))


def from_id_answer(packet: bytes) -> str | int:
    """Undo `id_answer`."""
    [function_id] = msgpack.unpackb(packet)
    known: str | int = function_id
    return known


def answer_packet(known: Surroundings | None) -> bytes:
    """Encode the answer to a worker that asks how to reach the cluster."""
    return _pack(known or ())


def from_answer(packet: bytes) -> Surroundings | None:
    """Undo `answer_packet`."""
    fields = msgpack.unpackb(packet)
    return Surroundings(*fields) if fields else None


def to_zygote(packet: bytes) -> ToZygote:
    """Decode a packet to the zygote. Raises AssertionError if it is none."""
    row = msgpack.unpackb(packet, use_list=False)
    try:
        return _TO_ZYGOTE[row[-1]](row)
    except _NOT_A_MESSAGE as error:
        raise _no_message(row) from error


def from_zygote(packet: bytes) -> ProcessEnded:
    """Decode a packet from the zygote. Raises AssertionError if it is none."""
    row = msgpack.unpackb(packet, use_list=False)
    try:
        return _FROM_ZYGOTE[row[-1]](row)
    except _NOT_A_MESSAGE as error:
        raise _no_message(row) from error


#: How reading the tag of something else fails.
_NOT_A_MESSAGE: Final = (IndexError, KeyError, TypeError)


def _no_message(row: object) -> AssertionError:
    return AssertionError(f"no message of the worker protocol: {row!r:.200}")
