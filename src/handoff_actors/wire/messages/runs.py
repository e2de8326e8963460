"""Messages about runs, between clients and the nodes that serve them."""

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import field

from handoff_actors.ids import Attempt, Index, Resources, RunId
from handoff_actors.wire.messages.base import Count, DagName, Message
from handoff_actors.wire.messages.jobs import (
    NO_TRACES,
    Done,
    Job,
    Ref,
    Said,
    Template,
    Ticket,
    Traces,
    ValueKey,
)
from handoff_actors.wire.messages.nested import Ancestor

#: Why an attempt failed: see `Failed`.
FailureKind = Literal[
    "exception",
    "timeout",
    "serialization",
    "environment",
    "worker",
    "input",
    "unreachable",
    "store",
    "memory",
    "cancelled",
    "deadlock",
]
FAILURE_KINDS: Mapping[str, FailureKind] = {kind: kind for kind in get_args(FailureKind)}


class Fetched(Message, frozen=True):
    """A stored value that a node has fetched into its store. Times are durations: clocks of machines are never compared."""

    index: Index
    nbytes: Count
    #: Seconds from the request until the value was here.
    took_s: float
    #: Seconds from then until this message was sent.
    ended_s_ago: float


class Assign(Message, frozen=True, tag=12):
    """Asks for functions to be run, in this order as far as there is room."""

    run: RunId
    #: The templates that `jobs` use and this connection has not carried yet.
    templates: list[Template]
    jobs: list[Job]
    #: True: the client wants to know when each function gets to a worker, see `Started`.
    is_watched: bool = False
    #: The function that has begun the run and waits for it; None for a run that an app has begun.
    parent: Ancestor | None = None
    #: For monitors. Sent along with templates; "" in other messages.
    dag_name: DagName = ""


class Recall(Message, frozen=True, tag=13):
    """Asks for functions back that have not started. Answered by `Recalled`, which names those given back.

    Of all clients that see the same room elsewhere, only as many get functions back as fit there: from `room`, the node
    subtracts what it has just given to other clients.
    """

    run: RunId
    jobs: list[Ticket]
    #: The number of functions that other nodes could start at once.
    room: Count


class Copy(Message, frozen=True, tag=14):
    """Asks a node to copy these values into its store, since their holder drains. Answered by one `Copied` or more."""

    run: RunId
    values: list[Ref]


class Close(Message, frozen=True, tag=15):
    """Ends a run, at least on this node, which stops its functions, drops its values and forgets it.

    Answered by `Closed` once that is done.
    """

    run: RunId


class Stop(Message, frozen=True, tag=23):
    """Ends all functions of a run that has failed. The node keeps the run's values until `Close`.

    Answered by `Stopped` once no function of it is left.
    """

    run: RunId


class CancelJobs(Message, frozen=True, tag=26):
    """Ends these attempts: those that wait are dropped, running ones are stopped as at their time limit.

    Each is answered by `Failed` of kind "cancelled", or by what it had come to before; attempts that have ended, or were
    never here, are ignored. Members of a fused group behind a cancelled one are given back by `Recalled`.
    """

    run: RunId
    jobs: list[Ticket]


class Drop(Message, frozen=True, tag=25):
    """Has a node forget values of a run that nobody will ask for any more, and templates of no further function. Not answered.

    A value that was made by a later attempt stays: its slot has been used again. A value that is being fetched is given up, and
    an attempt that waits for it fails. A template that is sent again has a new number.
    """

    run: RunId
    values: list[ValueKey]
    #: Numbers of templates that no job of the run has any more.
    templates: list[Count] = field(default_factory=list)


class Completed(Message, frozen=True, tag=32):
    """Reports functions that succeeded."""

    run: RunId
    done: list[Done]
    #: The sum of all other runs' claims on this node now.
    others: Resources
    #: Values that the node has fetched for the run since the last such message.
    fetched: list[Fetched] = field(default_factory=list)


class Failed(Message, frozen=True, tag=33):
    """Reports one attempt that failed."""

    run: RunId
    index: Index
    attempt: Attempt
    #: "exception", "timeout", "serialization", "environment" (the node can't provide it), "worker" (it died), "input" (no
    #: holder had it), "unreachable" (a holder of an input can't be reached from the node), "store" (there is no room for the
    #: result), "memory" (killed because of the memory that it used), "cancelled" (by the app, see `CancelJobs`, or a coroutine
    #: from within), "deadlock" (a nested run waited for what its ancestors hold).
    kind: FailureKind
    #: The encoded exception, or b"" where there is none.
    error: bytes
    #: For people.
    reason: str
    #: With "input" and "unreachable": the value.
    lost: Index | None
    #: The number of the signal that killed the worker, if one did.
    signal: int | None
    exit_code: int | None
    ran_s: float
    traces: Traces = NO_TRACES


class Recalled(Message, frozen=True, tag=34):
    """Names the functions given back; the others have started or have ended."""

    run: RunId
    jobs: list[Ticket]
    #: True: sent without a `Recall`, for members of a fused group that the node has split or given up.
    is_separated: bool = False


class Copied(Message, frozen=True, tag=42):
    """Reports on values that were to be copied to this node."""

    run: RunId
    #: The values that are in the store now.
    copied: list[Index]
    #: The values that could not be copied.
    missing: list[Index]


class Closed(Message, frozen=True, tag=35):
    """Confirms that nothing of the run is left on the node."""

    run: RunId


class Stopped(Message, frozen=True, tag=51):
    """Confirms that no function of the run is left on the node."""

    run: RunId


class Rejected(Message, frozen=True, tag=46):
    """A message about this run is not in the protocol. The node has not acted on it, so the run can't go on."""

    run: RunId
    #: For people.
    reason: str


class Crashed(Message, frozen=True, tag=47):
    """The last words of a node that ends because of a bug of its own."""

    #: The run whose message, function or value it was handling; None where it can't be told.
    run: RunId | None
    #: For people.
    reason: str


class Started(Message, frozen=True, tag=44):
    """Reports, for a run that is watched, functions that have got to a worker."""

    run: RunId
    jobs: list[Ticket]


class WorkerRetired(Message, frozen=True, tag=50):
    """Reports that a worker gets no more functions, because of what one of this run has left behind in it."""

    run: RunId
    #: The attempt that has left it, or the latest one where that can't be told.
    index: Index
    attempt: Attempt
    #: For people.
    reason: str


class Output(Message, frozen=True, tag=45):
    """Carries lines that functions have printed and records that they have logged, in order for each function."""

    run: RunId
    said: list[Said]
