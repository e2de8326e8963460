"""The workers of a stage, each with the items that it has been given."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from handoff_actors.core.stream.events import Outcome, Place, SendToStage, Stored
from handoff_actors.core.stream.work import Work
from handoff_actors.wire.messages.stage_rows import ToStage, ValueRow


@dataclass(slots=True, eq=False)
class Lane:
    """One worker of a stage. What it has been given it ends in this order, unless its code is async."""

    number: int
    #: None while it starts, or is lost and starts again.
    place: Place | None = None
    outstanding: dict[int, Work] = field(default_factory=dict)
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
    #: The time at which its item has taken too long; None: it may take for ever, or has none.
    deadline: float | None = None
    idle_since: float | None = None
    #: The message that goes out next, as `Work.message`.
    message: int = 0
    rows: list[ToStage] = field(default_factory=list)
    needs: list[Stored] = field(default_factory=list)

    @property
    def is_usable(self) -> bool:
        """True if it takes items."""
        return self.place is not None and not self.is_stopping and not self.is_closing

    @property
    def has_suspect(self) -> bool:
        """True if it has an item that may kill it, and that is to be alone on it."""
        return any(work.is_suspect for work in self.outstanding.values())

    def take_message(self) -> Iterator[SendToStage]:
        """Give the rows that wait to be sent, if there are any."""
        if self.rows and self.place is not None:
            yield SendToStage(self.place, self.rows, self.needs)
        self.message += 1
        self.rows, self.needs = [], []

    def value_rows(self, work: Work, values: Iterable[Outcome]) -> list[ValueRow]:
        """Write the values of an item for the worker, and note which of them have to be in the store of its node."""
        rows: list[ValueRow] = []
        work.needs.clear()
        for value in values:
            if isinstance(value, bytes):
                rows.append(value)
            else:
                assert isinstance(value, Stored), "a stage gets no failures"
                rows.append((value.index, value.nbytes))
                self.needs.append(value)
                work.needs.append(value.index)
        return rows

    def take_back_from(self, message: int) -> list[Work]:
        """Take back what the worker was sent with a message, and behind it, as it has not got that."""
        works = [work for work in self.outstanding.values() if work.message >= message]
        for work in works:
            del self.outstanding[work.number]
        return works

    def lose(self) -> list[Work]:
        """Note that the worker is gone with what it had. Returns its items, in order."""
        works = list(self.outstanding.values())
        self.outstanding.clear()
        self.place = self.deadline = self.idle_since = None
        self.has_replaced_state = self.was_up = False
        self.rows, self.needs = [], []
        return works
