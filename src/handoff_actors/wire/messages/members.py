"""What members say of themselves and of one another."""

from msgspec import field

from handoff_actors.ids import Resources, RunId
from handoff_actors.wire.messages.base import Count, Message, Name


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


class ListMembers(Message, frozen=True, tag=17):
    """Answered by `Members`."""


class Redeclare(Message, frozen=True, tag=18):
    """Offer these capabilities from now on. Answered by `Redeclared`."""

    capabilities: Resources


class Goodbye(Message, frozen=True, tag=19):
    """The sender leaves: end its lease at once."""


class ListRuns(Message, frozen=True, tag=20):
    """Answered by `Runs`."""


class Welcome(Message, frozen=True, tag=30):
    """The connection stands. Carries every member that the node knows, itself first."""

    protocol: int
    members: list[Advert]
    #: Seconds without any message after which the node forgets the sender.
    lease_s: float
    #: Names of those members that the node has not heard of for a while.
    suspects: list[Name] = field(default_factory=list)


class Refused(Message, frozen=True, tag=31):
    """The connection does not stand."""

    reason: str


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
    """On the bus: a member that the publisher has just learned of."""

    advert: Advert


class Published(Message, frozen=True, tag=41):
    """On the bus: the publisher's own advert."""

    advert: Advert
