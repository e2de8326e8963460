"""The keys of items: which push they come from, and which result of which generator since.

An item that is pushed has the key (number,). Each generator that it passes gives its results a part more, counted from 0. After
its last result comes a closing, with the key of what it was given and the number of its results; so does an item that fails, or
is skipped, before or at a generator, behind as many results as it has given. Every vertex knows the length of the keys of items
that it gets. So an item and a closing have a position each in one order, in which none is missing.
"""

from typing import TypeAlias

Key: TypeAlias = tuple[int, ...]


def position_of_closing(key: Key, count: int, length: int) -> Key:
    """The position of a closing behind `count` results, where keys of items have `length` parts. That of an item is its key."""
    return (*key, count, *(0,) * (length - len(key) - 1))


def position_after(key: Key, length: int) -> Key:
    """The position that follows an item or a closing with this key."""
    if length == 1:
        return (key[0] + 1,)
    return (*key[:-1], key[-1] + 1, *(0,) * (length - len(key)))
