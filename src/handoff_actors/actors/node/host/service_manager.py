"""Tells the service manager that has started this process how it stands: systemd's sd_notify protocol.

Each state is one datagram to the socket that NOTIFY_SOCKET names. The event loop sends the sign of life that WATCHDOG_USEC
asks for, so that a node whose loop stands still is started anew.
"""

import asyncio
import logging
import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final

log = logging.getLogger(__name__)

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_MICROSECONDS: Final = 1_000_000
#: Beyond the limits that a node has itself.
_GRACE_S: Final = 10.0


class ServiceManager:
    """The service manager of this process; where there is none, nothing is told.

    The variables are taken from the environment, so that nothing that the process starts speaks in its name.
    """

    def __init__(self, variables: MutableMapping[str, str]) -> None:
        address, usec, pid = (variables.pop(variable, "") for variable in _VARIABLES)
        self._channel = _connected(address)
        is_watched = usec.isdigit() and pid in {"", str(os.getpid())}
        #: Seconds between two signs of life; 0: none are asked for.
        self._beats_every_s = int(usec) / _MICROSECONDS / 2 if is_watched else 0.0
        self._beat: asyncio.Handle | None = None

    def starting(self, within_s: float) -> None:
        """Tell that it may take so long until the process serves."""
        self._tell("STATUS=starting", _extension(within_s))

    def serving(self, address: str) -> None:
        """Tell that the process serves, and give signs of life from now on, on the running loop."""
        self._tell("READY=1", f"STATUS=serves at {address}")
        if self._channel is not None and self._beats_every_s:
            self._live()

    def stopping(self, within_s: float) -> None:
        """Tell that the process is about to end, and may take so long."""
        self._tell("STOPPING=1", "STATUS=draining", _extension(within_s))

    def close(self) -> None:
        """Tell nothing more."""
        if self._beat is not None:
            self._beat.cancel()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _live(self) -> None:
        self._tell("WATCHDOG=1")
        self._beat = asyncio.get_running_loop().call_later(self._beats_every_s, self._live)

    def _tell(self, *states: str) -> None:
        if self._channel is not None:
            # A manager that does not read must not hold up the loop; nor is anything else to be done about it.
            with suppress(OSError):
                self._channel.send("\n".join(states).encode(errors="replace"))


def _extension(within_s: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={int((within_s + _GRACE_S) * _MICROSECONDS)}"


def _connected(address: str) -> socket.socket | None:
    """Connect to the socket; "@" stands for the zero byte of an abstract one."""
    if not address.startswith(("/", "@")):
        return None
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.setblocking(False)
    try:
        channel.connect(f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError as error:
        log.warning("the service manager can't be told anything", extra={"reason": str(error)})
        channel.close()
        return None
    return channel
