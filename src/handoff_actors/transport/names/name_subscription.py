"""Connects to a publisher whose host is a name: to each of its addresses, until one answers.

The states of such a subscription:

looking up --answer--> trying the first address --TRY_S--> the next one, or looking up again after a pause
trying --connected--> connected --the connection breaks--> looking up again, after ZeroMQ's own try to reconnect
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from handoff_actors.errors import HandoffError
from handoff_actors.transport.names.resolver import Answer, Lookup, Resolver

log = logging.getLogger(__name__)

#: Seconds that one address has to answer.
TRY_S: Final = 2.0
#: Seconds that ZeroMQ has to connect to the same address again.
RECONNECT_S: Final = 0.5
#: Seconds between two rounds through all addresses of a name; the second figure is the most, as pauses double.
PAUSES_S: Final = (1.0, 30.0)


class NameSubscription:
    """Connects to the address that a name leads to, and to another one once it leads there."""

    def __init__(
        self,
        address: str,
        resolver: Resolver,
        connect: Callable[[str], None],
        disconnect: Callable[[str], None],
    ) -> None:
        """Begin to look for the publisher. Raises InvalidAddressError."""
        self._address = address
        self._resolver = resolver
        self._connect = connect
        self._disconnect = disconnect
        self._untried: list[str] = []
        self._is_connected = False
        self._is_told = False
        self._pause_s = PAUSES_S[0]
        self._timer: asyncio.Handle | None = None
        #: The address that is connected to, or tried; "" if there is none yet.
        self.endpoint = ""
        self._lookup: Lookup | None = resolver.look_up(address, self._resolved)

    def connected(self) -> None:
        """Take note that the publisher at `endpoint` has answered."""
        self._is_connected = True
        self._is_told = False
        self._pause_s = PAUSES_S[0]
        self._end_waits()

    def broken(self) -> None:
        """Take note that the connection to `endpoint` has broken."""
        if self._is_connected:
            self._is_connected = False
            self._later(RECONNECT_S, self._look_up)

    def look_again(self) -> None:
        """Look up the name now, unless it has led to the publisher, or is being looked up."""
        if not self._is_connected and self._lookup is None:
            self._pause_s = PAUSES_S[0]
            self._look_up()

    def close(self) -> None:
        """Disconnect."""
        self._end_waits()
        if self.endpoint:
            self._disconnect(self.endpoint)

    def _look_up(self) -> None:
        self._end_waits()
        self._lookup = self._resolver.look_up(self._address, self._resolved)

    def _resolved(self, answer: Answer) -> None:
        self._lookup = None
        if isinstance(answer, HandoffError):
            if not self._is_told:
                self._is_told = True
                log.warning("bus unreachable", extra={"bus": self._address, "reason": str(answer)})
            self._rest()
        else:
            # ZeroMQ goes on with the present one, which is quicker than a new connection.
            self._untried = sorted(answer, key=lambda endpoint: endpoint != self.endpoint)
            self._try_next()

    def _try_next(self) -> None:
        if not self._untried:
            self._rest()
            return
        endpoint = self._untried.pop(0)
        if endpoint != self.endpoint:
            if self.endpoint:
                self._disconnect(self.endpoint)
            self.endpoint = endpoint
            self._connect(endpoint)
        self._later(TRY_S, self._try_next)

    def _rest(self) -> None:
        self._later(self._pause_s, self._look_up)
        self._pause_s = min(self._pause_s * 2, PAUSES_S[1])

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        self._end_waits()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _end_waits(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None
