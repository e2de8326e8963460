"""Functions, attempts and their outcomes, as parts of messages about runs."""

from collections.abc import Collection
from typing import Annotated, Literal

from msgspec import Meta, field

from handoff_actors.graph.spec import ArgSpec, Hook
from handoff_actors.ids import Attempt, Index, Resources, RunId
from handoff_actors.wire.messages.base import Count, Digest, Message, Name


class ValueOf(Message, frozen=True):
    """The name of a stored value: the run that has made it, and its index there."""

    run: RunId
    index: Index
    #: As in `Ref`.
    version: Count = 0


class Ref(Message, frozen=True, tag=1):
    """An argument that is a stored value: the worker maps it, and its node fetches it first where it is missing."""

    index: Index
    nbytes: Count
    #: Addresses of nodes that hold it, best first; "" is the session that sent the function.
    holders: list[str]
    #: The attempt that made it, where no other attempt's value will do; 0: any attempt's will.
    version: Count = 0
    #: The name by which the holders have it, where another run has made it; None: it is of the same run.
    source: ValueOf | None = None


class Assembled(Message, frozen=True, tag=8):
    """Constants with large parts that other functions of the run take, too: each part is stored once."""

    #: Encoded (extra_args, kwargs), where a position in `parts` stands for each part.
    rest: bytes | Ref
    parts: list[Ref]


#: Encoded (extra_args, kwargs): inline, or stored where they are large; None where there are neither.
Constants = bytes | Ref | Assembled | None


class Call(Message, frozen=True, tag=2):
    """An argument that is computed in the consumer's worker: an inline function, or a deserialize hook."""

    template: Count
    args: "list[Arg]"
    constants: Constants


class Text(Message, frozen=True, tag=3):
    """An argument that is this string: hooks get the names of nodes."""

    value: str


class Earlier(Message, frozen=True, tag=4):
    """An argument that is the result of an earlier member of the same fused group, on the same worker."""

    index: Index


class FailedInput(Message, frozen=True, tag=9):
    """An argument that is the error of a function that has failed: its consumer runs in any case."""

    #: As in `Failed`.
    error: bytes


class StoredPart(Message, frozen=True):
    """A stored value beside a result: an item of it, or an argument of functions that it stands for."""

    #: Its index among the values of the run, which nothing else ever has.
    index: Index
    nbytes: Count


class Listed(Message, frozen=True, tag=12):
    """An argument that is a list of which the function gets only references to the parts."""

    #: The encoded list, where a position in `parts` stands for each part.
    items: bytes
    parts: list[StoredPart]


#: bytes: an encoded inline value.
Arg = bytes | Text | Ref | Call | Earlier | FailedInput | Assembled | Listed


class TemplateEnvironment(Message, frozen=True):
    """The environment of functions, beyond their node's own."""

    #: Bytes, as the operating system has them: they need not be UTF-8.
    variables: dict[bytes, bytes]
    #: Absolute path of the directory to work in, and to import from; b"": the node's own.
    directory: bytes = b""
    #: The directory's content, for nodes without a directory of that path: an archive that the app holds.
    package: Ref | None = None


class OwnModules(Message, frozen=True):
    """The modules of the app's own that code and values of a run may refer to by name."""

    #: Identifies app, names and sources: nodes keep definitions under it.
    key: Digest
    #: The digest of each module's source, as the app has loaded it; b"": a package without one.
    sources: dict[Name, Digest]
    #: Their definitions, for nodes whose workers would import other sources, or none: a value that the app makes on request.
    definitions: Ref


class WarmObject(Message, frozen=True):
    """The code of a template makes an object that stays in its worker, for all calls with the same key."""

    #: Identifies session, code, arguments, environment and claim.
    key: Digest
    #: For people.
    name: Annotated[str, Meta(max_length=64)]
    #: Seconds for which it stays unused.
    idle_s: float


class Template(Message, frozen=True):
    """The properties that many functions of a run share; sent to a node once, before the first function that uses them."""

    number: Count
    #: Identifies `code` across runs, so that a worker loads it once.
    digest: Digest
    #: True: `code` is "module:qualified.name" in UTF-8; False: a pickle by value.
    by_reference: bool
    code: bytes
    #: A coroutine function: it runs on the node's async worker.
    is_async: bool
    #: Results of args arrive as one list (`argument_inclusion="as_list"`).
    as_list: bool
    #: Claimed while the function runs.
    cost: Resources
    #: Seconds per attempt.
    timeout: float | None
    #: Output of functions is sent to the app, log records from this level on; None: it stays at the node.
    log_level: Count | None = None
    #: None: the node's own.
    environment: TemplateEnvironment | None = None
    #: The session: code by value of one session shares its globals in each worker.
    session: str = ""
    #: None: code and values refer to installed modules only.
    modules: OwnModules | None = None
    #: Code by value that is given an exception and returns why it is not retried, "" if it is; b"": the default rule.
    retry_on: bytes = b""
    #: Args from this position on are parts of the constants: they come last among the parts, and last first. None: there are
    #: none.
    placed_from: Count | None = None
    #: "success": functions are skipped where an input was. Others are called with SKIP in its place, and with the errors of
    #: inputs that have failed.
    run_if: Literal["success", "always", "failure"] = "success"
    #: So many of the last args are conditions: unless all are true, the function is skipped, and its result is SKIP.
    conditions: Count = 0
    #: Values that its functions emit are sent to the app.
    sends_values: bool = False
    #: Their progress is sent to the app; the node has it in any case.
    sends_progress: bool = False
    #: Claims `cost` as long as the object is in a worker, where it isn't None.
    warm: WarmObject | None = None
    #: Graphs that its functions return come with digests: the run has a journal.
    sends_digests: bool = False
    #: Its functions are stages of a stream, which go on for as long as that does: each has a worker that is none of the
    #: usual ones of its node.
    is_stage: bool = False


#: (negative priority, number of changes of the run's levels so far, negative level): lower ones go first. A level is the
#: length of the path that is left to a sink; levels from before a change can't be compared with later ones, and go first.
Rank = tuple[int, int, float]
FIRST: Rank = (0, 0, 0.0)


class Job(Message, frozen=True):
    """One attempt at one function, and at those that run right behind it on the same worker: together a fused group."""

    index: Index
    attempt: Attempt
    template: Count
    args: list[Arg]
    constants: Constants
    #: The functions behind this one, with the same claim. If a member fails, the members behind it do not run.
    then: "tuple[Job, ...]" = ()
    #: The urgency among other jobs of the run.
    rank: Rank = FIRST
    #: The number of the last attempt at another function that had this index before.
    earlier: Count = 0


class Ticket(Message, frozen=True):
    """The identity of one attempt."""

    index: Index
    attempt: Attempt


class ValueKey(Message, frozen=True):
    """The identity of one value: a later life of its slot may have another value."""

    index: Index
    #: The attempt that made it; 0: any attempt's.
    version: Count = 0


class Printed(Message, frozen=True, tag=5):
    """A piece of a function's printed output: often a line, with its end."""

    index: Index
    attempt: Attempt
    #: True: printed to stderr; False: to stdout.
    is_error: bool
    text: str


class Logged(Message, frozen=True, tag=6):
    """A record that a function has logged; the fields are named as in `logging`."""

    index: Index
    attempt: Attempt
    name: str
    level: Count
    message: str
    path: str
    line: Count
    function: str
    #: Seconds since the epoch, by the clock of the node.
    created: float
    #: The traceback of an exception, or "".
    error: str


class Dropped(Message, frozen=True, tag=7):
    """Lines, or records, of a function that were dropped for want of room."""

    index: Index
    attempt: Attempt
    lines: Count


class Progressed(Message, frozen=True, tag=9):
    """The progress of a function, in a unit of its own."""

    index: Index
    attempt: Attempt
    done: int | float
    #: None: the function does not know.
    total: int | float | None


class Emitted(Message, frozen=True, tag=10):
    """A value that a function has emitted, encoded."""

    index: Index
    attempt: Attempt
    value: bytes


#: What functions print and log.
OutputPart = Printed | Logged | Dropped
#: What functions say while they run: their output, and what they report.
Said = OutputPart | Progressed | Emitted


#: Indices of parts are random numbers from here on: worker processes choose them without knowing of one another.
PARTS = 1 << 62


class GrownTemplate(Message, frozen=True):
    """A template of an expansion."""

    #: Identifies the template, with all that it says.
    key: Digest
    #: The qualified name of its code, for people.
    name: str
    #: None: the worker has sent it before in this run.
    template: Template | None = None
    #: Results of its functions are cached for so many seconds; None: they are not.
    cache_s: float | None = None


class GraphDigests(Message, frozen=True):
    """Digests of what a graph is made of, which are the same in every process, each list by the number that it has there."""

    templates: list[Digest]
    constants: list[Digest]
    #: b"" for a part of a result that the function was given in parts.
    values: list[Digest]


class Expansion(Message, frozen=True):
    """A compiled DAG, of which the fields that are named as those of `graph.plan.Plan` mean the same. Indices are its own."""

    #: The function whose result is the parent's.
    result: Index
    args: list[tuple[ArgSpec, ...]]
    producers: list[tuple[Index, ...]]
    dependents: list[Collection[Index]]
    bottom_level: list[int]
    template_of: list[Count]
    templates: list[GrownTemplate]
    constants_of: list[int]
    #: Encoded (extra_args, kwargs), or a part: of this attempt, or of a result that the parent was given in parts.
    constants: list[bytes | Ref] = field(default_factory=list)
    #: Encoded values, or parts.
    values: list[bytes | Ref] = field(default_factory=list)
    #: Only those that are not 0.
    priority: dict[Index, int] = field(default_factory=dict)
    #: Only those that are pinned.
    node_of: dict[Index, str] = field(default_factory=dict)
    groups: list[tuple[Index, ...]] = field(default_factory=list)
    max_retries: dict[Index, int] = field(default_factory=dict)
    retry_backoff: dict[Index, tuple[float, float, float]] = field(default_factory=dict)
    hooks: list[Hook] = field(default_factory=list)
    #: The minor version of Python that wrote code by value, and the numbers of the templates, constants and values with some.
    python: str = ""
    native_templates: list[Count] = field(default_factory=list)
    native_constants: list[Count] = field(default_factory=list)
    native_values: list[Count] = field(default_factory=list)
    #: None: neither the run has a journal, nor any of the functions the option `cache`.
    digests: GraphDigests | None = None
    #: The id of the result in its own graph, as `repr` shows it, for people; "" where people have not chosen the graph.
    result_name: str = ""
    #: Of the graph of a map: the number of items, and of the functions of each, which come first and item by item; else 0.
    items: Count = 0
    stages: Count = 0


class Additions(Message, frozen=True):
    """The outcome of an attempt besides a plain value."""

    #: The graph that stands for the result; `Done.value` is b"" then.
    expansion: Expansion | None = None
    #: Stored values that belong to the attempt. Without an expansion they are left out of `Done.value`, in this order.
    parts: list[StoredPart] = field(default_factory=list)


class Done(Message, frozen=True):
    """The success of one attempt."""

    index: Index
    attempt: Attempt
    #: The encoded value, or the number of its bytes if the node has stored it.
    value: bytes | Count
    #: Process id of the worker.
    worker: int
    #: Seconds that the user's code ran.
    ran_s: float
    #: None for a plain value.
    additions: Additions | None = None


class Traces(Message, frozen=True):
    """Facts about a failed attempt, besides the reason."""

    #: The peak memory of its worker, over the worker's life, in bytes; 0 where that is not known.
    peak_nbytes: Count = 0
    #: Its machine was short of memory when it ended.
    memory_was_short: bool = False
    #: The last lines that the function printed, on either stream.
    printed: Annotated[str, Meta(max_length=4096)] = ""
    #: Why `retry_on` allows no further try, for people; "": it allows one.
    not_retried: Annotated[str, Meta(max_length=4096)] = ""


NO_TRACES = Traces()
