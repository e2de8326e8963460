"""Values of other runs that functions of this run take. They have indices of their own here, and are never made again."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.errors import ValueLost
from handoff_actors.ids import FunctionId, Index, RunId
from handoff_actors.wire.messages.jobs import Ref, ValueOf


class ValueSource(Protocol):
    """The place from which a value of another run comes, as it is now."""

    def holders(self) -> Sequence[str]:
        """Names of the nodes that have it, and "" if the app has it; none: it is lost."""

    def ref(self) -> Ref:
        """The value as its own run refers to it."""


class ForeignValue(Struct):
    """A value of another run."""

    #: Its index in this run.
    index: Index
    #: The run that has made it.
    run: RunId
    source: ValueSource
    #: The functions of this run that take it.
    users: Sequence[Index]
    #: The function that has made it, and what it is, for errors.
    function_id: FunctionId
    subject: str
    #: The value stays where it is for as long as this is referred to.
    owner: object = None
    #: Nodes that have fetched it for this run.
    copies: set[str] = field(default_factory=set)

    def ref(self) -> Ref:
        """The value as functions of this run refer to it."""
        found = self.source.ref()
        return Ref(self.index, found.nbytes, found.holders, 0, ValueOf(self.run, found.index, found.version))

    def lost(self, reason: str) -> ValueLost:
        """Make the error for a function that can't have it."""
        return ValueLost(self.function_id, reason, self.subject)


class ForeignValues:
    """The values of other runs that one run takes."""

    def __init__(self) -> None:
        self._values: dict[Index, ForeignValue] = {}
        self.taken_by: dict[Index, list[ForeignValue]] = {}

    def __iter__(self) -> Iterator[ForeignValue]:
        return iter(self._values.values())

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"ForeignValues({list(self)})"

    def add(self, value: ForeignValue) -> None:
        """Add a value."""
        self._values[value.index] = value
        for user in value.users:
            self.taken_by.setdefault(user, []).append(value)

    def adopt(self, others: "ForeignValues", indices: Sequence[Index]) -> None:
        """Add the values that functions take which have these indices from now on, by their former ones."""
        for value in others:
            self.add(replace(value, users=[indices[user] for user in value.users]))

    def remove(self, index: Index) -> None:
        """Drop a value that no function will need any more, if there is one of this index."""
        self._values.pop(index, None)

    def forget(self, functions: Iterable[Index]) -> None:
        """Forget what functions take: their indices may be those of other ones from now on."""
        discard_all(functions, self.taken_by)

    def clear(self) -> None:
        """Drop all values: no function will need any."""
        self._values.clear()
        self.taken_by.clear()

    def get(self, index: Index | None) -> ForeignValue | None:
        """Return a value by its index; None if there is none."""
        return None if index is None else self._values.get(index)

    def current(self, ref: Ref) -> Ref:
        """Return a reference to the same value with the holders that it has now."""
        value = self._values.get(ref.index)
        return ref if value is None else value.ref()

    def add_sizes(self, function: Index, held: dict[str, int]) -> int:
        """Add the bytes that a function takes from here to those that each node holds. Returns the sum over all values."""
        total = 0
        for value in self.taken_by.get(function, ()):
            nbytes = value.source.ref().nbytes
            total += nbytes
            for node in {*value.source.holders(), *value.copies} - {""}:
                held[node] = held.get(node, 0) + nbytes
        return total

    def note_copies(self, function: Index, node: str) -> None:
        """Note that a function has been done on a node, which has what it takes."""
        for value in self.taken_by.get(function, ()):
            value.copies.add(node)
