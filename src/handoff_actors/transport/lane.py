"""One direction of a connection within one event loop."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from handoff_actors.wire.codec import decode, encode
from handoff_actors.wire.messages import AnyMessage

if TYPE_CHECKING:
    from msgspec.msgpack import Decoder

_AMessage = TypeVar("_AMessage", bound=AnyMessage)


class Lane(Generic[_AMessage]):
    """Hands over what one tick has collected, once it is open."""

    def __init__(
        self, hand_over: Callable[[list[_AMessage]], None], decoder: "Decoder[list[_AMessage]] | None"
    ) -> None:
        self.nbytes = 0
        self._hand_over = hand_over
        self._decoder = decoder
        self._messages: list[_AMessage] = []
        self._is_open = False

    def add(self, message: _AMessage) -> None:
        """Queue a message."""
        self._messages.append(message)
        if self._is_open and len(self._messages) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def open(self) -> None:
        """Let messages pass, those that wait first."""
        self._is_open = True
        if self._messages:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        messages, self._messages = self._messages, []
        if self._decoder is not None:
            frame = encode(messages)
            self.nbytes += len(frame)
            messages = decode(frame, self._decoder)
        self._hand_over(messages)
