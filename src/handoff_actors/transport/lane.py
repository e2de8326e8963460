"""One direction of a connection within one event loop, and the queue that serves all directions."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from handoff_actors.wire.codec import FrameBuilder, decode
from handoff_actors.wire.messages.directions import AnyMessage

if TYPE_CHECKING:
    from msgspec.msgpack import Decoder

_AMessage = TypeVar("_AMessage", bound=AnyMessage)


#: Deliveries in one go, before the loop gets its turn.
ROUNDS = 64


class DeliveryQueue:
    """Delivers, from the loop, messages that lanes have collected, and right after them the messages that these lead to.

    An answer to an answer does not wait for the loop to look at its sockets in between, which would cost more than the
    answer itself.
    """

    def __init__(self) -> None:
        self._due: deque[Callable[[], None]] = deque()
        self._is_on_the_way = False
        self._is_held = False

    def call(self, hand_over: Callable[[], None]) -> None:
        """Call `hand_over` soon, after all that wait already."""
        self._due.append(hand_over)
        if not self._is_on_the_way:
            self._is_on_the_way = True
            asyncio.get_running_loop().call_soon(self._go)

    def hold(self) -> None:
        """Have deliveries wait for `flush`, which costs less than waiting for the loop."""
        if not self._is_on_the_way:
            self._is_on_the_way = self._is_held = True

    def flush(self) -> None:
        """Make the deliveries that have waited since `hold`."""
        if self._is_held:
            self._is_held = False
            self._go()

    def _go(self) -> None:
        try:
            for _ in range(ROUNDS):
                if not self._due:
                    break
                self._due.popleft()()
        finally:
            # Also if a handler has raised: deliveries behind it must not stay.
            self._is_on_the_way = bool(self._due)
            if self._is_on_the_way:
                asyncio.get_running_loop().call_soon(self._go)


class MessageLane(Generic[_AMessage]):
    """Collects messages until its turn comes, and then delivers them, once it is open."""

    def __init__(
        self,
        deliveries: DeliveryQueue,
        hand_over: Callable[[list[_AMessage]], None],
        decoder: "Decoder[list[_AMessage]] | None",
    ) -> None:
        self.nbytes = 0
        self._deliveries = deliveries
        self._hand_over = hand_over
        self._decoder = decoder
        self._messages: list[_AMessage] = []
        self._frame = FrameBuilder()
        self._is_open = False

    def add(self, message: _AMessage) -> None:
        """Queue a message. With a decoder it is encoded now, which raises SerializationError as it does over a socket."""
        if self._decoder is not None:
            self._frame.add(message)
        self._messages.append(message)
        if self._is_open and len(self._messages) == 1:
            self._deliveries.call(self._flush)

    def open(self) -> None:
        """Let messages pass, the waiting ones first."""
        self._is_open = True
        if self._messages:
            self._deliveries.call(self._flush)

    def _flush(self) -> None:
        messages, self._messages = self._messages, []
        if self._decoder is not None:
            frame, self._frame = self._frame.frame(), FrameBuilder()
            self.nbytes += len(frame)
            messages = decode(bytes(frame), self._decoder)
        self._hand_over(messages)
