"""The messages between a node and its workers: their fields, and their form on the channels.

A message goes as a row, a MessagePack list of its fields, the last of which is a tag that says which message it is among those
of its direction; no other module knows a tag or a position. On a worker's data channel messages follow one another without a
frame. Both ends belong to one installation, so a row that is no message is a bug of ours.

Structs of `wire.messages` that are part of a message reach a worker as rows, as a worker starts without msgspec; the
aliases and positions under "Jobs at the worker" describe them. In the other direction a worker makes the rows of `Done`
and `Said` here, and the node's end makes structs of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.workers.rows import NOT_A_MESSAGE, Row, by_tag, no_message

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
    #: The app wants digests with graphs.
    sends_digests: bool = False
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


class StageRows(NamedTuple):
    """Rows for a stage that this worker runs, see `workers.stage_protocol`. Sync workers only."""

    key: JobKey
    content: bytes
    tag: int = 8


ToWorker = (
    DefineTemplate
    | QueueJobs
    | DropTemplates
    | ExposeDevices
    | GiveBackJobs
    | CancelJob
    | DefineModules
    | StageRows
)


# --- Worker to node ---------------------------------------------------------------------------------------------------


class WorkerReady(NamedTuple):
    """The worker has started; comes before all else."""

    pid: int
    tag: int = 1


#: A `Done` of `wire.messages`: index, attempt, encoded value or bytes stored, pid, seconds, and an encoded `Additions`, or b"".
DoneRow: TypeAlias = tuple[Index, Attempt, bytes | int, int, float, bytes]


def done_row(
    index: Index, attempt: Attempt, value: bytes | int, pid: int, ran_s: float, growth: bytes = b""
) -> DoneRow:
    """Give the row of one attempt: `value` is encoded, or the number of bytes that are now in the store."""
    return index, attempt, value, pid, ran_s, growth


class JobsDone(NamedTuple):
    """Attempts that ended well. The worker does not start the rest of a fused group behind one with a growth."""

    run: RunId
    rows: Sequence[DoneRow]
    tag: int = 2


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


class StageAnswers(NamedTuple):
    """Rows from a stage that this worker runs."""

    key: JobKey
    content: bytes
    #: Index and size in bytes of each value that the stage has stored for them, under its attempt.
    stored: Sequence[tuple[Index, int]]
    tag: int = 9


FromWorker = (
    WorkerReady
    | JobsDone
    | JobFailed
    | JobsGivenBack
    | JobsPrinted
    | WorkerSpoiled
    | ObjectKept
    | StageAnswers
)


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

#: `Job`: index, attempt, template, args, constants, then, rank, earlier.
JobRow: TypeAlias = "tuple[Index, Attempt, int, Sequence[ArgRow], ConstantsRow, Sequence[JobRow], Row, int]"

JOB_INDEX: Final = 0
JOB_ATTEMPT: Final = 1
JOB_TEMPLATE: Final = 2
JOB_ARGS: Final = 3
JOB_CONSTANTS: Final = 4
JOB_THEN: Final = 5
JOB_EARLIER: Final = 7


# --- Rows and bytes ---------------------------------------------------------------------------------------------------


def _checked_failure(row: Row) -> JobFailed:
    failed: JobFailed = tuple.__new__(JobFailed, row)
    if failed.kind not in _FAILURE_KINDS:
        raise AssertionError(f"a worker failed a job for an unknown kind of reason: {failed.kind!r}")
    return failed


_TO_WORKER: Final[Mapping[int, Callable[[Row], ToWorker]]] = by_tag(
    DefineTemplate,
    QueueJobs,
    DropTemplates,
    ExposeDevices,
    GiveBackJobs,
    CancelJob,
    DefineModules,
    StageRows,
)
_FROM_WORKER: Final[Mapping[int, Callable[[Row], FromWorker]]] = {
    **by_tag(
        WorkerReady,
        JobsDone,
        JobFailed,
        JobsGivenBack,
        JobsPrinted,
        WorkerSpoiled,
        ObjectKept,
        StageAnswers,
    ),
    JobFailed._field_defaults["tag"]: _checked_failure,
}


def to_worker(row: Row) -> ToWorker:
    """Give the message to a worker that a row is. Raises AssertionError if it is none."""
    try:
        return _TO_WORKER[row[-1]](row)
    except NOT_A_MESSAGE as error:
        raise no_message(row) from error


def from_worker(row: Row) -> FromWorker:
    """Give the message from a worker that a row is. Raises AssertionError if it is none."""
    try:
        return _FROM_WORKER[row[-1]](row)
    except NOT_A_MESSAGE as error:
        raise no_message(row) from error
