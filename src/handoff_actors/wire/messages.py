"""Every message that crosses a socket between members, and what its fields mean.

Messages are requests in the imperative (`Assign`) or facts in the past tense (`Completed`). They are msgspec
structs encoded as MessagePack arrays `[tag, field, ...]`; the decoder checks every type and bound, so what a
machine receives is well-formed whoever sent it. On the hot path one message carries many functions.
"""

from typing import Annotated

from msgspec import Meta, Struct

from handoff_actors.ids import Attempt, Index, Resources, RunId

#: Raised by one with each change that an older member could not understand.
PROTOCOL = 2

Count = Annotated[int, Meta(ge=0)]
Digest = Annotated[bytes, Meta(max_length=32)]
Name = Annotated[str, Meta(max_length=255)]


class Message(Struct, frozen=True, array_like=True, gc=False):
    """What every message derives from."""


# --- Parts of messages ------------------------------------------------------------------------------------------


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


class Fetched(Message, frozen=True):
    """A stored value that a node has brought into its store. Times are durations: nobody compares clocks."""

    index: Index
    nbytes: Count
    #: Seconds from the wish to have it until it was there,
    took_s: float
    #: and from then until this was said.
    ended_s_ago: float


class Advert(Message, frozen=True):
    """What a node says of itself: a full picture each time, so that a lost or late one does no harm."""

    name: Name
    incarnation: Name
    #: Counts the adverts of this incarnation; an older one than the last seen is ignored.
    seq: Count
    #: Where its service listens, for example tcp://10.0.0.1:7070; "" for a node embedded in the reader's own process.
    address: str
    #: Where its adverts are published.
    bus: str
    capabilities: Resources
    #: Capabilities minus claims.
    spare: Resources
    #: Processes that run sync functions.
    workers: Count
    #: Functions that run, and functions that wait for a worker or for room.
    running: Count
    queued: Count
    #: Bytes of values in its store.
    stored: Count
    #: It finishes what it has and takes no more.
    leaving: bool
    #: A number made of the members it knows; differing numbers mean that somebody missed someone.
    view: int
    version: Name
    #: "3.11": bytecode and pickles by value do not cross minor versions.
    python: Name


class Traces(Message, frozen=True):
    """What is known of an attempt that did not end well, beside why."""

    #: The most memory that its worker has ever had, in bytes; 0 where that is not known.
    peak_nbytes: Count = 0
    #: Its machine was short of memory when it ended.
    memory_was_short: bool = False
    #: The last lines that the function printed, on either stream.
    printed: Annotated[str, Meta(max_length=4096)] = ""


NO_TRACES = Traces()


class ServedRun(Message, frozen=True):
    """A run as a node sees it that serves it."""

    run: RunId
    #: Who asked for it: the name in its `Hello`.
    owner: Name
    #: Functions of it that run here, and those that wait here for a worker, for room or for values.
    running: Count
    queued: Count
    #: Bytes of its values in the store.
    stored: Count
    #: It is over, and what it left is being cleared away.
    closing: bool


class Ticket(Message, frozen=True):
    """Names one attempt."""

    index: Index
    attempt: Attempt


# --- Said to a node ---------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag=10):
    """Opens a connection. Answered by `Welcome` or `Refused`."""

    protocol: int
    version: Name
    python: Name
    #: Who asks, for logs and errors.
    name: Name
    #: The advert of a node that joins; None from a session.
    advert: Advert | None


class Beat(Message, frozen=True, tag=11):
    """Renews the sender's lease."""


class Assign(Message, frozen=True, tag=12):
    """Functions to run, in this order as far as there is room."""

    run: RunId
    #: Those that `jobs` use and this connection has not carried yet.
    templates: list[Template]
    jobs: list[Job]


class Recall(Message, frozen=True, tag=13):
    """Give back what has not started. Answered by `Recalled`, which names those given back."""

    run: RunId
    jobs: list[Ticket]


class Copy(Message, frozen=True, tag=14):
    """Bring these values into your store, since who holds them leaves. Answered by one `Copied` or more."""

    run: RunId
    values: list[Ref]


class Close(Message, frozen=True, tag=15):
    """The run is over, at least here: stop its functions, drop its values, forget it. Answered by `Closed` once that is so."""

    run: RunId


class Fetch(Message, frozen=True, tag=16):
    """A piece of a stored value, please. Answered by `Chunk` or `Gone`."""

    #: The asker's own number for the whole transfer.
    request: Count
    run: RunId
    index: Index
    offset: Count
    length: Count


class ListMembers(Message, frozen=True, tag=17):
    """Answered by `Members`."""


class Redeclare(Message, frozen=True, tag=18):
    """Offer these capabilities from now on. Answered by `Redeclared`."""

    capabilities: Resources


class Goodbye(Message, frozen=True, tag=19):
    """The sender leaves: end its lease at once."""


class ListRuns(Message, frozen=True, tag=20):
    """Answered by `Runs`."""


# --- Said by a node ---------------------------------------------------------------------------------------------


class Welcome(Message, frozen=True, tag=30):
    """The connection stands. Carries every member that the node knows, itself first."""

    protocol: int
    members: list[Advert]
    #: Seconds without any message after which the node forgets the sender.
    lease_s: float
    #: Names of those members that the node has not heard of for a while.
    suspects: list[Name] = []


class Refused(Message, frozen=True, tag=31):
    """The connection does not stand."""

    reason: str


class Completed(Message, frozen=True, tag=32):
    """Functions that ended well."""

    run: RunId
    done: list[Done]
    #: What the claims of all others on this node come to now.
    others: Resources
    #: What has been brought here for the run since the last such message.
    fetched: list[Fetched] = []


class Failed(Message, frozen=True, tag=33):
    """One attempt that did not end well."""

    run: RunId
    index: Index
    attempt: Attempt
    #: "exception", "timeout", "serialization", "worker" (it died), "input" (no holder had it), "store" (there is no
    #: room for it), "memory" (it was ended because of the memory that it used).
    kind: Name
    #: An encoded exception, or b"" where there is none.
    error: bytes
    #: For people.
    reason: str
    #: With "input": the value that no holder had.
    lost: Index | None
    #: What killed the worker, if anything did.
    signal: int | None
    exit_code: int | None
    ran_s: float
    traces: Traces = NO_TRACES


class Recalled(Message, frozen=True, tag=34):
    """What was given back; the rest has started or has ended."""

    run: RunId
    jobs: list[Ticket]
    #: Nobody has asked: these were members of units that do not run as such any more.
    is_parted: bool = False


class Closed(Message, frozen=True, tag=35):
    """Nothing of the run is left on the node."""

    run: RunId


class Chunk(Message, frozen=True, tag=36):
    """A piece of a stored value."""

    request: Count
    offset: Count
    #: Bytes of the whole value.
    total: Count
    #: Decoded in place: it keeps the whole message alive.
    data: memoryview


class Gone(Message, frozen=True, tag=37):
    """The value asked for is not here."""

    request: Count


class Members(Message, frozen=True, tag=38):
    """Every member that the node knows, itself first."""

    members: list[Advert]
    #: As in `Welcome`.
    suspects: list[Name] = []


class Redeclared(Message, frozen=True, tag=39):
    """The new capabilities are in force."""


class Joined(Message, frozen=True, tag=40):
    """On the bus: a member that the publisher has just learned of."""

    advert: Advert


class Published(Message, frozen=True, tag=41):
    """On the bus: the publisher's own advert."""

    advert: Advert


class Copied(Message, frozen=True, tag=42):
    """What has become of values that were to be copied to this node."""

    run: RunId
    #: Here now.
    copied: list[Index]
    #: Not to be had.
    missing: list[Index]


class Runs(Message, frozen=True, tag=43):
    """Every run that the node serves."""

    runs: list[ServedRun]


#: What those ask who only look.
Question = ListMembers | ListRuns
#: What a node understands.
ToNode = Hello | Beat | Assign | Recall | Copy | Close | Fetch | Question | Redeclare | Goodbye | Chunk | Gone
#: What a node says of a run.
AboutRun = Completed | Failed | Recalled | Copied | Closed
#: What a node says to whoever is connected to it.
FromNode = AboutRun | Welcome | Refused | Fetch | Chunk | Gone | Members | Redeclared | Runs
#: What is said on the discovery bus.
OnBus = Joined | Published
AnyMessage = ToNode | FromNode | OnBus
