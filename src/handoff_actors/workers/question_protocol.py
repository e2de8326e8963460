"""The questions that workers ask their node, and the answers: how the cluster around it is reached, and ids of functions."""

from collections.abc import Callable
from typing import NamedTuple

import msgpack

from handoff_actors.workers.protocol import JobKey
from handoff_actors.workers.rows import Row

_pack: Callable[[Row], bytes] = msgpack.packb


class Surroundings(NamedTuple):
    """The way to the cluster of a worker's node, for runs that its functions begin."""

    address: str
    #: The text of its key; None: it is insecure.
    key: str | None
    #: The text of the other key that members of the cluster may have, if there is one.
    also_accepted: str | None = None


def id_question(key: JobKey) -> bytes:
    """Encode a worker's question for the id of a function that it runs."""
    return _pack(key)


def from_id_question(packet: bytes) -> JobKey:
    """Undo `id_question`."""
    run, index, attempt = msgpack.unpackb(packet)
    return run, index, attempt


def id_answer(function_id: str | int) -> bytes:
    """Encode the answer to `id_question`."""
    return _pack((function_id,))


def from_id_answer(packet: bytes) -> str | int:
    """Undo `id_answer`."""
    [function_id] = msgpack.unpackb(packet)
    known: str | int = function_id
    return known


def answer_packet(known: Surroundings | None) -> bytes:
    """Encode the answer to a worker that asks how to reach the cluster."""
    return _pack(known or ())


def from_answer(packet: bytes) -> Surroundings | None:
    """Undo `answer_packet`."""
    fields = msgpack.unpackb(packet)
    return Surroundings(*fields) if fields else None
