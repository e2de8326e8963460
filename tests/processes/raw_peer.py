"""A peer of a node that says whatever a test wants it to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import zmq

from handoff_actors.process.interpreter import PYTHON
from handoff_actors.transport.curve import Curve
from handoff_actors.transport.user_key import user_key
from handoff_actors.wire.codec import FROM_NODE, decode, encode, join
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.members import Hello, ListMembers, Members
from handoff_actors.wire.versions import VERSION
from tests.daemons import Daemon

ANSWERS_WITHIN_MS = 15_000

HELLO = Hello(PROTOCOL, VERSION, PYTHON, "peer", None)


@dataclass
class RawPeer:
    """Says to a node what a link of ours would never say."""

    socket: "zmq.Socket[bytes]"

    def say(self, *messages: ToNode) -> None:
        self.socket.send(encode(messages))

    def messages(self) -> Iterator[FromNode]:
        """Every message of the node, however many share a frame."""
        while True:
            yield from decode(self.socket.recv(), FROM_NODE)

    def ask(self, *messages: ToNode) -> FromNode:
        """The last thing that the node says up to its answer to `ListMembers`, but for that answer."""
        self.say(*messages, ListMembers())
        received: list[FromNode] = []
        while not any(isinstance(message, Members) for message in received):
            frame, *pieces = self.socket.recv_multipart()
            # A large chunk comes as a frame of its own, behind the one that says so.
            received += join(frame, memoryview(pieces[0]), FROM_NODE) if pieces else decode(frame, FROM_NODE)
        return [message for message in received if not isinstance(message, Members)][-1]


@contextmanager
def connected_to(node: Daemon) -> Iterator[RawPeer]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.rcvtimeo = ANSWERS_WITHIN_MS
        Curve(user_key()).protect_client(dealer)
        dealer.connect(node.address)
        yield RawPeer(dealer)
