"""Messages that move a stored value from one place to another."""

from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.base import Count, Message


class Fetch(Message, frozen=True, tag=16):
    """Asks for a piece of a stored value. Answered by `Chunk` or `Gone`.

    A node that gets no connection to any holder of a value asks the app, which gets the value for it.
    """

    #: The receiver's own number for the whole transfer.
    request: Count
    run: RunId
    index: Index
    offset: Count
    length: Count
    #: As in `Ref`: a node that has the value of another attempt answers `Gone`.
    version: Count = 0


class Chunk(Message, frozen=True, tag=36):
    """A piece of a stored value."""

    request: Count
    offset: Count
    #: Bytes of the whole value.
    total: Count
    #: Decoded in place: it keeps the whole message alive.
    data: memoryview


class Gone(Message, frozen=True, tag=37):
    """Reports that the requested value is not here."""

    request: Count
    #: "": it can't be had from the sender. Else for people: the sender is an app that does not hold the value itself, and can't
    #: get it from the nodes that may.
    reason: str = ""
