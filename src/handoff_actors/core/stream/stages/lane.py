"""The workers of a stage, each with the items that it has been given."""

from collections.abc import Sequence

from msgspec import Struct, field

from handoff_actors.core.stream.events import ItemChunk, ItemOutcome, LanePlace, SendToStage, Stored, Vertex
from handoff_actors.core.stream.items.work import Work
from handoff_actors.ids import Index
from handoff_actors.wire.messages.stage_rows import ToStage, ValueRow


class BusySpan(Struct):
    """A time in which a worker of a stage was busy, with items that it has ended."""

    stage: Vertex
    lane: int
    node: str
    began_at: float
    ended_at: float
    #: The time that the code took; more than the span where it worked on several items at once.
    busy_s: float
    items: int


class Lane(Struct, eq=False):
    """One worker of a stage. What it has been given it ends in this order, unless its code is async."""

    number: int
    #: None while it starts, or is lost and starts again.
    place: LanePlace | None = None
    outstanding: dict[int, Work] = field(default_factory=dict)
    #: The number of their items.
    held: int = 0
    #: The number of these that may kill it.
    suspects: int = 0
    #: Its code has replaced its state, which so is worth more than a new one.
    has_replaced_state: bool = False
    #: It has been up since it was last started.
    was_up: bool = False
    #: How often it was lost without having been up between.
    failed_starts: int = 0
    #: It is being stopped, whatever it does; and why, for its items.
    is_stopping: bool = False
    #: It gets no more items, and has been told to end.
    is_closing: bool = False
    #: It gets no more items, and starts again elsewhere once it has ended those that it has.
    is_moving: bool = False
    #: The time at which its item has taken too long; None: it may take for ever, or has none.
    deadline: float | None = None
    idle_since: float | None = None
    #: The message that goes out next, as `Work.message`.
    message: int = 0
    #: The last message of which an item was answered: it has got that, and those before.
    delivered: int = -1
    rows: list[ToStage] = field(default_factory=list)
    needs: list[Stored] = field(default_factory=list)
    #: The time in which it was busy last.
    span: BusySpan | None = None

    @property
    def node(self) -> str:
        """The name of the node that it is on; "" while it is on none."""
        return "" if self.place is None else self.place.node

    @property
    def is_usable(self) -> bool:
        """True if it takes items."""
        return self.is_there and not self.is_moving

    @property
    def is_there(self) -> bool:
        """True if it works on what it has been given, and has not been told to end."""
        return not (self.place is None or self.is_stopping or self.is_closing)

    @property
    def is_generating(self) -> bool:
        """True unless all the generators that it has wait until some of their results are taken."""
        return any(work.credit > 0 for work in self.outstanding.values())

    def hold(self, work: Work) -> None:
        """Note that it is given an item, with the message that goes out next."""
        self.outstanding[work.number] = work
        self.held += work.size
        self.suspects += work.is_suspect
        work.message = self.message
        self.idle_since = None

    def let_go(self, number: int) -> Work | None:
        """Note that it has an item no more, and return that, if it had it."""
        work = self.outstanding.pop(number, None)
        if work is not None:
            self.held -= work.size
            self.suspects -= work.is_suspect
        return work

    def answered(self, work: Work) -> None:
        """Note that an item of it was answered."""
        self.delivered = max(self.delivered, work.message)

    def message_with(self, index: Index) -> int | None:
        """The first message with a stored value that it may not have got."""
        for work in self.outstanding.values():
            if work.message > self.delivered and index in work.needs:
                return work.message
        return None

    def clear(self, work: Work) -> None:
        """Suspect an item that it has no more, as that gets on."""
        self.suspects -= work.is_suspect
        work.is_suspect, work.deaths = False, 0

    def take_message(self) -> SendToStage:
        """The rows that wait to be sent."""
        assert self.place is not None, "a worker that is not there is told something"
        message = SendToStage(self.place, self.rows, self.needs)
        self.message += 1
        self.rows, self.needs = [], []
        return message

    def value_rows(self, work: Work, values: Sequence[ItemOutcome]) -> Sequence[ValueRow]:
        """Write the values of an item for the worker, and note which of them have to be in the store of its node.

        Those of a chunk are one of each item.
        """
        if work.size > 1:
            [chunk] = values
            assert isinstance(chunk, ItemChunk), "items that travel together have a chunk of values"
            return chunk.values
        if work.is_inline:
            return [value for value in values if isinstance(value, bytes)]
        rows: list[ValueRow] = []
        needs: list[Stored] = []
        for value in values:
            if isinstance(value, bytes):
                rows.append(value)
            else:
                assert isinstance(value, Stored), "a stage gets no failures"
                rows.append((value.index, value.nbytes))
                needs.append(value)
        self.needs += needs
        work.needs = [value.index for value in needs] if needs else ()
        return rows

    def take_back_from(self, message: int) -> list[Work]:
        """Take back what the worker was sent with a message, and behind it, as it has not got that."""
        works = [work for work in self.outstanding.values() if work.message >= message]
        for work in works:
            self.let_go(work.number)
        for work in self.outstanding.values():
            if work.credit_message >= message:
                work.credit = 0
        return works

    def lose(self) -> list[Work]:
        """Note that the worker is gone with what it had. Returns its items, in order."""
        works = list(self.outstanding.values())
        self.outstanding.clear()
        self.held = self.suspects = 0
        self.place = self.deadline = self.idle_since = self.span = None
        self.has_replaced_state = self.was_up = self.is_stopping = self.is_moving = False
        self.rows, self.needs = [], []
        return works
