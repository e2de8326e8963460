"""Messages about values that nodes keep beyond the run that has made them."""

from msgspec import field

from handoff_actors.ids import RunId
from handoff_actors.wire.messages.base import Count, Message, Name
from handoff_actors.wire.messages.jobs import Ref


class KeptEntry(Message, frozen=True):
    """A value that a node keeps."""

    name: Name
    #: The run number under which the node has it, with the index 0.
    run: RunId
    nbytes: Count
    #: Of values of the same name the one with the highest rank counts.
    rank: Count
    #: Seconds until it is dropped.
    left_s: float


class Keep(Message, frozen=True, tag=62):
    """Asks a node to keep a value, which it may have or else fetches. Answered by `KeptAnswer` once it has it."""

    #: The sender's own number for this.
    request: Count
    #: "": it has no name, and is kept until `DropKept` or until the peer is gone.
    name: Name
    #: The run number under which the node has it from then on, with the index 0: one of its own, that no run has.
    run: RunId
    #: The value, by the name that it has so far.
    value: Ref
    rank: Count
    #: Seconds for which it is kept; counts for a value with a name.
    ttl_s: float


class FindKept(Message, frozen=True, tag=63):
    """Asks for the values that a node keeps under a name; "" asks for all. Answered by `KeptAnswer`."""

    request: Count
    name: Name


class DropKept(Message, frozen=True, tag=64):
    """Ends the keeping of values, all of a name or one by its number. Answered by `KeptAnswer`, which names them."""

    request: Count
    #: "": the value is the one of `run`.
    name: Name
    #: With a name: a value that stays, if there is one of that number.
    run: RunId


class KeptAnswer(Message, frozen=True, tag=65):
    """Names values that a node keeps, or has dropped."""

    request: Count
    values: list[KeptEntry]
    #: With `FindKept`, where there are none: names that may have been meant. With `Keep`: why it is not kept, for people.
    near: list[str] = field(default_factory=list)
