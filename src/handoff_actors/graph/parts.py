"""A list of which each large item is a value of its own."""

from collections.abc import Iterable
from typing import Generic, Never, TypeVar

from msgspec import Struct

from handoff_actors.ids import Index
from handoff_actors.text import repr_of

ItemT_co = TypeVar("ItemT_co", covariant=True)


class PartRef(Struct, frozen=True):
    """A part of a result, by reference: an argument of functions that a function adds."""

    index: Index
    nbytes: int


class Parts(Generic[ItemT_co]):
    """The return value of a function whose items stay apart: `return handoff.Parts(frames)`.

    The result is a list of the items. Each item of more than 64 KiB (of many: of more than 4 KiB) is a value of its own in the
    store of the node that made it: `dag.map(f, over=handle)` sends each function its own item, from node to node, and a function that takes the result
    itself gets the list of all items.
    """

    __slots__ = ("items",)

    def __init__(self, items: Iterable[ItemT_co]) -> None:
        """Take the items. Raises TypeError if they are not iterable.

        :param items: Any iterable; it is iterated at once.
        """
        self.items = list(items)

    def __reduce__(self) -> Never:
        raise TypeError(
            f"{self!r} was found within another value: a function of a run returns it by itself; elsewhere use a list"
        )

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<Parts: {len(self.items)} item(s){'' if not self.items else ', first ' + repr_of(self.items[0], 40)}>"
