"""Rows: the MessagePack lists in which messages, and parts of them, go between a node and its processes.

The last field of a message is a tag that says which one it is among those of its direction.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, TypeAlias

import msgpack

#: A message, or a part of one, as MessagePack has it; its own end has checked the types.
Row: TypeAlias = tuple[Any, ...]

#: How reading the tag of something else than a message fails.
NOT_A_MESSAGE: Final = (IndexError, KeyError, TypeError)


class RowReader:
    """Splits what arrives on a stream into rows; a row may arrive in pieces."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(max_buffer_size=0, use_list=False)

    def rows(self, received: bytes) -> Iterator[Row]:
        """Give the rows that are whole now. They must be taken before more is fed."""
        self._unpacker.feed(received)
        rows: Iterator[Row] = self._unpacker
        return rows


def by_tag(*messages: type[Any]) -> dict[int, Callable[[Row], Any]]:
    """Give the function that makes each message of a row, by its tag."""
    # `_make` takes twice as long, as it counts the fields.
    return {message._field_defaults["tag"]: partial(tuple.__new__, message) for message in messages}


def no_message(row: object) -> AssertionError:
    """Make the error for a row without a known tag: both ends belong to one installation, so it is a bug of ours."""
    return AssertionError(f"no message of the worker protocol: {row!r:.200}")
