"""ZeroMQ's reports about the connections of a socket, and the meaning of failed handshakes."""

import struct
from collections.abc import Callable
from typing import Final

import zmq
from msgspec import Struct

from handoff_actors.transport.pump import Pump

#: The events of failed handshakes.
FAILURES: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)

_HOW_TO_BE_INSECURE: Final = (
    "whoever uses a node that was started with --insecure must say so, too "
    "(--insecure, HANDOFF_INSECURE=1 or Session(insecure=True))"
)

#: The first frame of a monitor: the event, and a value with details.
_REPORT: Final = struct.Struct("=hi")


class Monitor:
    """Calls `report(event, value, endpoint)` for each of the `events` of a socket."""

    def __init__(
        self, socket: zmq.Socket[bytes], events: int, report: Callable[[int, int, str], None]
    ) -> None:
        self._socket = socket
        self._report = report
        self._pump = Pump(socket.get_monitor_socket(events), self._accept, _nothing)

    def close(self) -> None:
        """Stop reporting. To be called before the socket is closed."""
        # In this order: a monitor that reports to a socket that is closed blocks for ever.
        self._socket.disable_monitor()
        self._pump.close(0)

    def _accept(self, frames: list[bytes]) -> None:
        event, value = _REPORT.unpack(frames[0])
        self._report(event, value, frames[1].decode())


class HandshakeFailure(Struct, frozen=True):
    """One handshake that failed."""

    event: int
    value: int

    @property
    def is_hang_up(self) -> bool:
        """True if the other side has hung up without a reason."""
        return self.event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

    @property
    def is_about_keys(self) -> bool:
        """True if the two sides certainly do not hold the same key."""
        return self.event == zmq.EVENT_HANDSHAKE_FAILED_AUTH or self._one_side_has_no_key

    def reason_for_client(self, key_origin: str | None) -> str:
        """Explain the failure to the connecting side, which has a key of this origin, or none."""
        if self._one_side_has_no_key:
            if key_origin is None:
                return "it has a key, and we have none"
            return f"it has no key, and we hold {key_origin}; {_HOW_TO_BE_INSECURE}"
        if self.event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return f"{key_origin or 'to have no key'} was not accepted"
        if self.is_hang_up:
            other = f"another key than {key_origin}, or none; {_HOW_TO_BE_INSECURE}"
            return f"it hangs up during the handshake, so it seems to hold {'a key' if key_origin is None else other}"
        return "whoever answers does not speak our protocol"

    def reason_for_server(self) -> str:
        """Explain the failure to the service."""
        if self._one_side_has_no_key:
            return "one side has a key, and the other none"
        if self.event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return "its key is not the client's"
        if self.value == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
            return "it holds another key"
        return "it hung up during the handshake" if self.is_hang_up else "it does not speak our protocol"

    @property
    def _one_side_has_no_key(self) -> bool:
        return (
            self.event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            and self.value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
        )


def _nothing() -> None:
    """Do nothing after a burst of reports."""
