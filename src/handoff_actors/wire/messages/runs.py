"""What is said of runs: by those who asked for them, and by the nodes that serve them."""

from msgspec import field

from handoff_actors.ids import Attempt, Index, Resources, RunId
from handoff_actors.wire.messages.base import Count, Message, Name
from handoff_actors.wire.messages.jobs import NO_TRACES, Done, Job, Ref, Said, Template, Ticket, Traces


class Fetched(Message, frozen=True):
    """A stored value that a node has brought into its store. Times are durations: nobody compares clocks."""

    index: Index
    nbytes: Count
    #: Seconds from the wish to have it until it was there,
    took_s: float
    #: and from then until this was said.
    ended_s_ago: float


class Assign(Message, frozen=True, tag=12):
    """Functions to run, in this order as far as there is room."""

    run: RunId
    #: Those that `jobs` use and this connection has not carried yet.
    templates: list[Template]
    jobs: list[Job]
    #: Somebody wants to know when each function gets to a worker: see `Started`.
    is_watched: bool = False


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


class Completed(Message, frozen=True, tag=32):
    """Functions that ended well."""

    run: RunId
    done: list[Done]
    #: What the claims of all others on this node come to now.
    others: Resources
    #: What has been brought here for the run since the last such message.
    fetched: list[Fetched] = field(default_factory=list)


class Failed(Message, frozen=True, tag=33):
    """One attempt that did not end well."""

    run: RunId
    index: Index
    attempt: Attempt
    #: "exception", "timeout", "serialization", "environment" (not to be had there), "worker" (it died), "input" (no
    #: holder had it), "store" (there is no room for it), "memory" (it was ended because of the memory that it used).
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


class Copied(Message, frozen=True, tag=42):
    """What has become of values that were to be copied to this node."""

    run: RunId
    #: Here now.
    copied: list[Index]
    #: Not to be had.
    missing: list[Index]


class Closed(Message, frozen=True, tag=35):
    """Nothing of the run is left on the node."""

    run: RunId


class Started(Message, frozen=True, tag=44):
    """Of a run that is watched: workers have these in hand now."""

    run: RunId
    jobs: list[Ticket]


class Output(Message, frozen=True, tag=45):
    """What functions have printed and logged, in order as far as each of them goes."""

    run: RunId
    said: list[Said]
