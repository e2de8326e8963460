"""Messages about nested runs, which a function begins and waits for, so that none of them waits for ever."""

from typing import Annotated

from msgspec import Meta, field

from handoff_actors.ids import Attempt, Index, Resources, RunId
from handoff_actors.wire.messages.base import Count, Message, Name

#: A run is nested no deeper than this, as far as nodes know.
MAX_ANCESTORS = 256
#: Kinds of functions that a run may wait for. A run that waits for more of them is never found to wait for ever.
MAX_WANTS = 1024
#: Length of a function's id in messages, as text for people, and where it is a string that functions ask for.
MAX_LABEL = 200
MAX_ID = 10_000
#: Ids that are smaller numbers are sent as they are.
MAX_INT = 2**63

Label = Annotated[str, Meta(max_length=MAX_LABEL)]
ExactId = Annotated[str, Meta(max_length=MAX_ID)] | int | None


class Ancestor(Message, frozen=True):
    """An attempt at a function that waits for a nested run: the function that has begun the run, or an ancestor of that one."""

    run: RunId
    index: Index
    attempt: Attempt


class Want(Message, frozen=True):
    """The needs of one kind of function of a nested run that waits for its start."""

    cost: Resources
    is_async: bool
    #: The only nodes that may run it; empty: any.
    nodes: list[Name] = field(default_factory=list)
    #: The only minor version of Python that can run it; "": any.
    python: Name = ""


class Probe(Message, frozen=True, tag=21):
    """Asks, for a nested run, whether the node runs any of its functions, and who holds what it needs. Answered by `Probed`.

    The node remembers the latest one of each run, until that moves again, ends, or its session is gone.
    """

    run: RunId
    #: Increases with each round of questions.
    round: Count
    #: All ancestors that the run knows of.
    ancestors: Annotated[list[Ancestor], Meta(max_length=MAX_ANCESTORS)]
    #: The needs of functions that wait while no function of the run is running; empty: the run moves, or is not sure yet.
    wants: Annotated[list[Want], Meta(max_length=MAX_WANTS)]


class Holding(Message, frozen=True):
    """The resources that a function holds on a node while it waits for a nested run: all that it claims, but for its cpu."""

    function: Ancestor
    #: The function's id, as `repr` shows it; "" if it is not known yet.
    label: Label
    cost: Resources
    #: Numbers of the GPU devices that it owns or shares.
    devices: list[Count]
    #: It has a sync worker, one of those that the node may have.
    has_worker: bool


class WaitingRun(Message, frozen=True):
    """A nested run that waits, with what its ancestors hold on the node that reports it."""

    run: RunId
    wants: list[Want]
    holdings: list[Holding]


class Probed(Message, frozen=True, tag=48):
    """Reports to a nested run what it may wait for."""

    run: RunId
    #: As in the `Probe`.
    round: Count
    #: The node runs functions of the run, or fetches inputs of them.
    is_active: bool
    capabilities: Resources
    #: Sync workers that the node has, always replaces, or may have in place of those whose functions wait.
    workers: Count
    #: Sync workers that it may have in all where claims leave room.
    most_workers: Count
    #: Ancestors of those in the `Probe` that run here.
    ancestors: list[Ancestor]
    #: Nested runs that wait while their ancestors hold something here.
    waiting: list[WaitingRun]


class Identify(Message, frozen=True, tag=49):
    """Asks a run for the id of a running function: it waits for a nested run, has reported progress, or wants to know."""

    run: RunId
    index: Index


class Identified(Message, frozen=True, tag=22):
    """Tells the id of a function."""

    run: RunId
    index: Index
    #: As `repr` shows it, cut where it is longer.
    label: Label
    #: The id itself; None if it is no string or number, or a long one.
    exact_id: ExactId = None
