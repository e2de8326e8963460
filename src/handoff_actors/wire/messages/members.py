"""Messages about members: connections, leases, adverts, questions about the cluster."""

import sys
from typing import Annotated, Final

from msgspec import Meta, field

from handoff_actors.ids import Resources, RunId
from handoff_actors.wire.messages.base import Count, DagName, Digest, Message, Name
from handoff_actors.wire.messages.nested import Label

#: Names in `Advert.unreachable`: every member receives every advert.
MOST_UNREACHABLE: Final = 16
UnreachableNames = Annotated[list[Name], Meta(max_length=MOST_UNREACHABLE)]
OutOfUse = Annotated[str, Meta(max_length=200)]


#: Entries of `Advert.warm`.
MOST_WARM: Final = 16


class WarmCopies(Message, frozen=True):
    """An object that workers of a node keep, one copy each: see `WarmObject`."""

    key: Digest
    name: Annotated[str, Meta(max_length=64)]
    copies: Count
    #: Memory that their processes have taken up while they were made, in bytes, as far as it is known.
    nbytes: Count


class Advert(Message, frozen=True):
    """A node's description of itself: a full picture each time, so that a lost or late one does no harm."""

    name: Name
    incarnation: Name
    #: The number of this advert within the incarnation; one older than the last seen is ignored.
    seq: Count
    #: The address of its service, for example tcp://10.0.0.1:7070; "" for a node embedded in the reader's own process.
    address: str
    #: The address at which its adverts are published.
    bus: str
    capabilities: Resources
    #: Capabilities minus claims.
    spare: Resources
    #: Processes that run sync functions.
    workers: Count
    #: Functions that run, and functions that wait for a worker or for resources.
    running: Count
    queued: Count
    #: Bytes of values in its store.
    stored: Count
    #: True: the node drains; it finishes the functions that it has and takes no more.
    leaving: bool
    #: A digest of the members that it knows; differing digests mean that one of two nodes does not know some member.
    view: int
    version: Name
    #: "3.11": bytecode and pickles by value do not cross minor versions.
    python: Name
    #: Sync functions that run or wait, of all clients; stages of streams take no usual worker, and are not counted.
    busy: Count = 0
    #: The sum of the claims of the functions that wait.
    waiting_claims: Resources = field(default_factory=dict)
    #: The upper limit of processes that run sync functions; beyond `workers` they are started for functions that claim something.
    most_workers: Count = sys.maxsize
    #: Of two nodes of one name the one with the greater rank has the name; of two of one rank the one with the greater incarnation.
    rank: Count = 0
    #: Members whose bus is silent here, and whose service this node can't connect to: each of them should `Follow` this node.
    unreachable: UnreachableNames = field(default_factory=list)
    #: Why runs should not use the node now; "" where they may.
    out_of_use: OutOfUse = ""
    #: Seconds until it begins to drain, as its machine is lent to it for a time only; None: no end is known.
    ends_in_s: float | None = None
    #: Capabilities of a node that it could have started for functions that wait; none: it can start no node now.
    can_start: Resources = field(default_factory=dict)
    #: Seconds after which such a node would begin to drain; None: no end is known.
    can_start_for_s: float | None = None
    #: Objects that workers keep, the one used last first. Claims of those that no function uses are spare.
    warm: Annotated[list[WarmCopies], Meta(max_length=MOST_WARM)] = field(default_factory=list)


#: The most stages of a run, and nodes of a stage, in one message.
MOST_STAGES: Final = 32
MOST_STAGE_NODES: Final = 16


class StageProgress(Message, frozen=True):
    """The progress of a stage of a stream, as its client sees it."""

    #: The id of its function, as `repr` shows it.
    label: Label
    #: The nodes of its workers, at least some.
    nodes: Annotated[list[Name], Meta(max_length=MOST_STAGE_NODES)]
    #: Workers that take items.
    workers: Count
    #: Items that have ended there, well or not, and those that have failed; of a generator, its results.
    items: Count
    failed: Count
    #: Items that wait for a worker, and those that workers have been given.
    queued: Count
    with_workers: Count


class RunProgress(Message, frozen=True):
    """The progress of a run, as its client sees it."""

    run: RunId
    dag_name: DagName
    #: The number of functions, and of those that have ended with a value.
    functions: Count
    done: Count
    #: Attempts that were followed by another.
    retried: Count
    #: Functions that have failed for good.
    failed: Count
    #: Functions that depend on these, and so never run.
    skipped: Count = 0
    #: Of the run of a stream, whose functions are the workers of stages: its stages, at least some.
    stages: Annotated[list[StageProgress], Meta(max_length=MOST_STAGES)] = field(default_factory=list)


class Backlog(Message, frozen=True):
    """Functions that are ready and wait for a node with room, all with the same claim, and equally long."""

    count: Count
    cost: Resources
    #: Seconds that such a function usually takes; None: unknown.
    usual_s: float | None = None
    #: Seconds that a node must have left to be sent one; 0.0: unknown.
    least_s: float = 0.0


#: The most of them in one message: the sender adds the rest to the last.
MOST_BACKLOGS: Final = 32
Backlogs = Annotated[list[Backlog], Meta(max_length=MOST_BACKLOGS)]


class RunningFunction(Message, frozen=True):
    """A function that runs and has reported its progress."""

    #: Its id, as `repr` shows it; "" where the client has not told it yet.
    label: Label
    #: In a unit of its own.
    done: int | float
    #: None: unknown.
    total: int | float | None


#: The most of them in one `ServedRun`.
MOST_RUNNING: Final = 32


class ServedRun(Message, frozen=True):
    """A run, as seen by one node that serves it."""

    run: RunId
    #: The client that asked for it: the name in its `Hello`.
    owner: Name
    #: Functions of the run that run here, and those that wait here for a worker, for resources or for values.
    running: Count
    queued: Count
    #: Bytes of its values in the store.
    stored: Count
    #: True: the run is over, and its values here are being removed.
    closing: bool
    #: "" where the client has not told it yet.
    dag_name: DagName = ""
    #: As the client has told it last; None where it has not yet.
    progress: RunProgress | None = None
    #: Functions of the run that run here and have reported their progress, at least some.
    reporting: Annotated[list[RunningFunction], Meta(max_length=MOST_RUNNING)] = field(default_factory=list)
    #: The functions among those that run here that wait for runs of their own, and lend their slots and cpu meanwhile.
    waiting: Count = 0


class Hello(Message, frozen=True, tag=10):
    """Opens a connection. Answered by `Welcome` or `Refused`."""

    protocol: int
    version: Name
    python: Name
    #: The sender's name, for logs and errors.
    name: Name
    #: The advert of a node that introduces itself; None from a session.
    advert: Advert | None
    #: True: the node starts, and is to be refused if another one has its name.
    is_joining: bool = False


class Beat(Message, frozen=True, tag=11):
    """Renews the sender's lease."""

    #: The progress of the sender's runs, at least of some, for monitors. Runs that the node does not serve are ignored.
    runs: list[RunProgress] = field(default_factory=list)
    #: The functions of all of its runs that wait, for nodes that can start others.
    backlogs: Backlogs = field(default_factory=list)


class ListMembers(Message, frozen=True, tag=17):
    """Asks for the members of the cluster. Answered by `Members`."""


class Redeclare(Message, frozen=True, tag=18):
    """Asks the node to offer these capabilities from now on. Answered by `Redeclared`."""

    capabilities: Resources


class Goodbye(Message, frozen=True, tag=19):
    """The sender leaves: end its lease at once."""


class ListRuns(Message, frozen=True, tag=20):
    """Asks for the runs that the node serves. Answered by `Runs`."""


class Follow(Message, frozen=True, tag=24):
    """Asks for the node's adverts over this link: `Published`, `Joined` and `Left`, as on the bus.

    Where the sender has introduced a node of its own, it sends that node's `Published` and `Left` over the link, too.
    """


class Welcome(Message, frozen=True, tag=30):
    """Accepts the connection. Carries every member that the node knows, itself first."""

    protocol: int
    members: list[Advert]
    #: Seconds without any message after which the node forgets the sender.
    lease_s: float
    #: Names of the members that the node has not heard from for a while.
    suspects: list[Name] = field(default_factory=list)
    #: The greatest rank of earlier nodes of the sender's name: the sender's own must be greater.
    outranked_by: Count = 0
    #: Incarnations of nodes that have left lately: their `Left` may have been missed.
    left: list[Name] = field(default_factory=list)


class Refused(Message, frozen=True, tag=31):
    """Refuses the connection."""

    reason: str
    #: True: another node has the sender's name, and answers.
    is_name_taken: bool = False


class Members(Message, frozen=True, tag=38):
    """Every member that the node knows, itself first."""

    members: list[Advert]
    #: As in `Welcome`.
    suspects: list[Name] = field(default_factory=list)


class Redeclared(Message, frozen=True, tag=39):
    """The new capabilities are in force."""


class Runs(Message, frozen=True, tag=43):
    """Every run that the node serves."""

    runs: list[ServedRun]


class Joined(Message, frozen=True, tag=40):
    """Announces a member that the sender has just learned of: on the bus, and to followers.

    A node that has introduced itself to another one, and was told fewer members than it knows, reports the others so.
    """

    advert: Advert


class Published(Message, frozen=True, tag=41):
    """Announces the sender's own advert: on the bus, to followers, and to a node that it follows."""

    advert: Advert


class Left(Message, frozen=True, tag=60):
    """Announces that the sender leaves for good: on the bus, to followers, and to a node that it follows."""

    name: Name
    incarnation: Name
