"""The messages between a node and its zygote. Their channel keeps packets apart, and each is a row of `rows`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgpack

from handoff_actors.ids import WorkerId
from handoff_actors.workers.rows import NOT_A_MESSAGE, Row, by_tag, no_message


class ForkWorker(NamedTuple):
    """Fork a worker. Its ends of its channels come along: data and control, or data alone for an async worker."""

    worker: WorkerId
    tag: int = 1


class KillGroup(NamedTuple):
    """Kill a worker and its process group; no matter if it has ended."""

    worker: WorkerId
    tag: int = 2


class ImportForNestedRuns(NamedTuple):
    """Import what functions that begin runs need, so that the workers that are forked from now on share it."""

    tag: int = 3


ToZygote = ForkWorker | KillGroup | ImportForNestedRuns


class ProcessEnded(NamedTuple):
    """A worker has ended and was reaped."""

    worker: WorkerId
    #: The signal that ended it, or its exit code; the other is None.
    signal: int | None
    exit_code: int | None
    #: The most memory that it has ever had.
    peak_nbytes: int
    #: The last lines that it printed.
    printed: str
    tag: int = 1


class ZygoteSettings(NamedTuple):
    """The arguments that a zygote is started with, in front of the entries of `sys.path`."""

    #: Descriptor of its end of the channel.
    channel: int
    store: Path
    #: For values that the store has no room for.
    disk: Path | None
    #: The name of the node.
    node: str
    inline_limit: int
    #: Descriptor of the pipe that carries output of functions.
    pipe: int
    #: See `process_trees`.
    tree: int
    #: Descriptor of the channel over which workers ask their node, see `pool.questions`.
    questions: int

    def arguments(self) -> list[str]:
        """Give them as they are in `sys.argv`."""
        return [
            str(self.channel),
            str(self.store),
            str(self.disk or ""),
            self.node,
            str(self.inline_limit),
            str(self.pipe),
            str(self.tree),
            str(self.questions),
        ]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "ZygoteSettings":
        """Undo `arguments`."""
        channel, store, disk, node, *numbers = arguments
        inline_limit, pipe, tree, questions = map(int, numbers)
        return cls(
            int(channel), Path(store), Path(disk) if disk else None, node, inline_limit, pipe, tree, questions
        )


_TO_ZYGOTE: Final[Mapping[int, Callable[[Row], ToZygote]]] = by_tag(
    ForkWorker, KillGroup, ImportForNestedRuns
)
_FROM_ZYGOTE: Final[Mapping[int, Callable[[Row], ProcessEnded]]] = by_tag(ProcessEnded)


def zygote_packet(message: ToZygote | ProcessEnded) -> bytes:
    """Encode a packet of the zygote's channel."""
    packet: bytes = msgpack.packb(message)
    return packet


def to_zygote(packet: bytes) -> ToZygote:
    """Decode a packet to the zygote. Raises AssertionError if it is none."""
    row = msgpack.unpackb(packet, use_list=False)
    try:
        return _TO_ZYGOTE[row[-1]](row)
    except NOT_A_MESSAGE as error:
        raise no_message(row) from error


def from_zygote(packet: bytes) -> ProcessEnded:
    """Decode a packet from the zygote. Raises AssertionError if it is none."""
    row = msgpack.unpackb(packet, use_list=False)
    try:
        return _FROM_ZYGOTE[row[-1]](row)
    except NOT_A_MESSAGE as error:
        raise no_message(row) from error
