"""The discovery bus within one event loop."""

from collections.abc import Callable

from handoff_actors.transport.lane import DeliveryQueue, MessageLane
from handoff_actors.wire.codec import ON_BUS
from handoff_actors.wire.messages.directions import OnBus


class MemoryPublisher:
    """A `Publisher` for subscribers in the same event loop."""

    def __init__(
        self, address: str, subscribers: "list[MemorySubscriber]", on_close: Callable[[], object]
    ) -> None:
        self.address = address
        self._subscribers = subscribers
        self._on_close = on_close
        self._is_closed = False

    def publish(self, message: OnBus) -> None:
        """See `Publisher.publish`."""
        if self._is_closed:
            return
        for subscriber in self._subscribers:
            if self.address in subscriber.addresses:
                subscriber.receive(message)

    def close(self) -> None:
        """See `Publisher.close`."""
        if not self._is_closed:
            self._is_closed = True
            self._on_close()


class MemorySubscriber:
    """A `Subscriber` to publishers in the same event loop."""

    def __init__(
        self,
        handler: Callable[[list[OnBus]], None],
        deliveries: DeliveryQueue,
        *,
        encode: bool,
        on_close: Callable[["MemorySubscriber"], None],
    ) -> None:
        self.addresses: set[str] = set()
        self._handler = handler
        self._on_close = on_close
        self._is_closed = False
        self._received = MessageLane[OnBus](deliveries, self._deliver, ON_BUS if encode else None)
        self._received.open()

    def subscribe(self, address: str) -> None:
        """See `Subscriber.subscribe`."""
        self.addresses.add(address)

    def unsubscribe(self, address: str) -> None:
        """See `Subscriber.unsubscribe`."""
        self.addresses.discard(address)

    def close(self) -> None:
        """See `Subscriber.close`."""
        if not self._is_closed:
            self._is_closed = True
            self._on_close(self)

    def receive(self, message: OnBus) -> None:
        """Queue a publisher's message."""
        self._received.add(message)

    def _deliver(self, messages: list[OnBus]) -> None:
        if not self._is_closed:
            self._handler(messages)
