"""What is said of functions, as parts of messages about runs."""

from typing import Annotated

from msgspec import Meta

from handoff_actors.ids import Attempt, Index, Resources
from handoff_actors.wire.messages.base import Count, Digest, Message


class Ref(Message, frozen=True, tag=1):
    """An argument that is a stored value: whoever runs the function maps it, or has its node fetch it first."""

    index: Index
    nbytes: Count
    #: Addresses of nodes that hold it, best first; "" is the session that sent the function.
    holders: list[str]
    #: The attempt that made it, where another attempt's value will not do instead; 0: any will.
    version: Count = 0


class Call(Message, frozen=True, tag=2):
    """An argument that is computed in the consumer's worker: an inline function, or a deserialize hook."""

    template: Count
    args: "list[Arg]"
    #: As in `Job`: encoded (extra_args, kwargs): inline, or stored where they are large; None where there are neither.
    constants: bytes | Ref | None


class Text(Message, frozen=True, tag=3):
    """An argument that is this very string: hooks are told the names of nodes."""

    value: str


class Earlier(Message, frozen=True, tag=4):
    """An argument that an earlier member of the same unit has made, on the same worker."""

    index: Index


#: bytes: an encoded inline value.
Arg = bytes | Text | Ref | Call | Earlier


class TemplateEnvironment(Message, frozen=True):
    """What functions find around them, beyond what their node has."""

    variables: dict[str, str]
    #: Absolute path of the directory to work in, and to import from; "": the node's own.
    directory: str = ""
    #: What is in it, for nodes without a directory of that path: an archive that the app holds.
    package: Ref | None = None


class Template(Message, frozen=True):
    """What many functions of a run have in common; sent to a node once, before the first that uses it."""

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
    #: What functions print and log comes home, log records from this level on; None: it stays at the node.
    log_level: Count | None = None
    #: None: the node's own.
    environment: TemplateEnvironment | None = None


#: (negative priority, how often the run had changed its mind about levels, negative level): lower ones go first. A level
#: is the way that is left to a sink; those of before a change can't be compared with those of after it, and go first.
Rank = tuple[int, int, float]
FIRST: Rank = (0, 0, 0.0)


class Job(Message, frozen=True):
    """One attempt at one function, and at those that run right behind it on the same worker: together they are a unit."""

    index: Index
    attempt: Attempt
    template: Count
    args: list[Arg]
    #: Encoded (extra_args, kwargs): inline, or stored where they are large; None where there are neither.
    constants: bytes | Ref | None
    #: They claim what this one does. If a member does not end well, those behind it do not run.
    then: "tuple[Job, ...]" = ()
    #: How urgent it is, among others of its run.
    rank: Rank = FIRST


class Ticket(Message, frozen=True):
    """Names one attempt."""

    index: Index
    attempt: Attempt


class Printed(Message, frozen=True, tag=5):
    """A piece of what a function has printed: often a line, with its end."""

    index: Index
    attempt: Attempt
    #: It went to stderr, not to stdout.
    is_error: bool
    text: str


class Logged(Message, frozen=True, tag=6):
    """A record that a function has logged, with the names that `logging` has for these."""

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
    """Lines, or records, of a function that there was no room for."""

    index: Index
    attempt: Attempt
    lines: Count


#: What functions say on their way.
Said = Printed | Logged | Dropped


class Done(Message, frozen=True):
    """The good end of one attempt."""

    index: Index
    attempt: Attempt
    #: The encoded value, or how many bytes of it the node has stored.
    value: bytes | Count
    #: Process id of the worker.
    worker: int
    #: Seconds that the user's code took.
    ran_s: float


class Traces(Message, frozen=True):
    """What is known of an attempt that did not end well, beside why."""

    #: The most memory that its worker has ever had, in bytes; 0 where that is not known.
    peak_nbytes: Count = 0
    #: Its machine was short of memory when it ended.
    memory_was_short: bool = False
    #: The last lines that the function printed, on either stream.
    printed: Annotated[str, Meta(max_length=4096)] = ""


NO_TRACES = Traces()
