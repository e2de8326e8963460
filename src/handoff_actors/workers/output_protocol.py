"""The rows on the pipe that carries what functions print, log and report, from all workers of a node.

Each is a MessagePack list of a run and the fields of a `Said` of `wire.messages`, or of a piece of an emitted value. It is
written at once, so that it arrives whole; no other module knows a tag or a position. See `protocol`.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgpack

from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.workers.protocol import JobKey
from handoff_actors.workers.rows import Row

_pack: Callable[[Row], bytes] = msgpack.packb


def pack_printed(key: JobKey, text: str, *, is_error: bool) -> bytes:
    """Encode a `Printed` of `wire.messages`, and the run that it belongs to."""
    run, index, attempt = key
    return _pack((run, (5, index, attempt, is_error, text)))


def pack_logged(
    key: JobKey,
    *,
    name: str,
    level: int,
    message: str,
    path: str,
    line: int,
    function: str,
    created: float,
    error: str,
) -> bytes:
    """Encode a `Logged` of `wire.messages`, and the run that it belongs to."""
    run, index, attempt = key
    return _pack((run, (6, index, attempt, name, level, message, path, line, function, created, error)))


def pack_dropped(key: JobKey, lines: int) -> bytes:
    """Encode a `Dropped` of `wire.messages`, and the run that it belongs to."""
    run, index, attempt = key
    return _pack((run, (7, index, attempt, lines)))


def pack_progressed(key: JobKey, done: float, total: float | None) -> bytes:
    """Encode a `Progressed` of `wire.messages`, and the run that it belongs to."""
    run, index, attempt = key
    return _pack((run, (9, index, attempt, done, total)))


#: The tag of pieces that an `Emitted` of `wire.messages` is made of.
_PIECE: Final = 0


class EmittedPiece(NamedTuple):
    """A piece of a value that a function has emitted."""

    function: Index
    attempt: Attempt
    #: The number of the value, the same for all of its pieces: a process id in the upper bits, a count in the lower 32.
    number: int
    piece: bytes
    is_last: bool


def pack_emitted(key: JobKey, number: int, piece: bytes, *, is_last: bool) -> bytes:
    """Encode an `EmittedPiece`, and the run that it belongs to."""
    run, index, attempt = key
    return _pack((run, (_PIECE, index, attempt, number, piece, is_last)))


def emitted_piece(row: Row) -> EmittedPiece | None:
    """Give the piece that a row of `output_part` is; None if it is that of a `Said`."""
    return EmittedPiece(*row[1:]) if row[0] == _PIECE else None


def output_part(row: Row) -> tuple[RunId, Row]:
    """Give the run that a row on the pipe belongs to, and the row of its `Said` or `EmittedPiece`."""
    run, said = row
    return run, said
