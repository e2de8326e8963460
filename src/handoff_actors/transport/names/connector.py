"""Tries the addresses of a service one after the other, round after round, until one of them answers.

A host that is a name may have several addresses, of which the first may be dead, and may lead elsewhere a second later. Each
is given up for the next one when it fails, or has not answered in time; each round begins with the latest addresses.
"""

import asyncio
import contextlib
import math
import os
from typing import Final

import zmq

from handoff_actors.errors import ConnectionFailed, HandoffError
from handoff_actors.transport.curve import Curve
from handoff_actors.transport.names.resolver import Answer, Lookup, Resolver, connect

#: Seconds between rounds.
RETRY_S: Final = 0.1
#: A name is looked up no sooner than so many seconds after the last time.
LOOK_UP_AGAIN_S: Final = 1.0
#: Seconds that one of several addresses has in the first round to accept a connection; twice as long in each next one.
FIRST_TRY_S: Final = 0.5
#: Seconds that it has for the handshake.
HANDSHAKE_S: Final = 2.0


class Connector:
    """Connects a socket to one address at a time. Its owner says how each try went."""

    def __init__(
        self, socket: zmq.Socket[bytes], address: str, resolver: Resolver, curve: Curve | None
    ) -> None:
        """Show one of the keys of `curve`; None: there is no key."""
        self._socket = socket
        self._address = address
        self._resolver = resolver
        self._curve = curve
        #: The number of the key that is shown in this try.
        self._key = 0
        self._lookup: Lookup | None = None
        #: The addresses that were found last, those not tried yet in this round, and the one that is tried.
        self._endpoints: list[str] = []
        self._untried: list[str] = []
        self._endpoint = ""
        self._looked_up_at = -math.inf
        self._try_s = FIRST_TRY_S
        self._has_failed = False
        self._timer: asyncio.Handle | None = None
        #: The reason why there is no address to try; "" if there is one.
        self.unresolved = ""

    @property
    def is_last_of_round(self) -> bool:
        """True if no other address is to be tried in this round."""
        return not self._untried

    def begin(self) -> None:
        """Begin the first round. Raises InvalidAddressError."""
        self._look_up()

    def is_past(self, endpoint: str) -> bool:
        """True if ZeroMQ reports about an address that is given up."""
        return endpoint != self._endpoint and endpoint in self._endpoints

    def accepted(self) -> None:
        """Take note that there is a connection, and the handshake has begun."""
        self._limit_try(HANDSHAKE_S)

    def key_accepted(self) -> None:
        """Keep to the key at this address."""
        if self._curve is not None:
            self._curve.accepted(self._endpoint, self._key)

    def hung_up(self) -> None:
        """Show the next key in the next try at this address, which hangs up on holders of another one."""
        if self._curve is not None:
            self._curve.hung_up(self._endpoint, self._key)

    def failed(self) -> None:
        """Take note that the present try has failed."""
        if not self._has_failed:
            self._has_failed = True
            self._later(0.0 if self._untried else RETRY_S)

    def stop(self) -> None:
        """Try no further; a connection stays as it is."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lookup is not None:
            self._lookup.cancel()

    def _next(self) -> None:
        if self._endpoint:
            # Otherwise the failed connection would come back by itself.
            with contextlib.suppress(zmq.ZMQError):
                self._socket.disconnect(self._endpoint)
            self._endpoint = ""
        if self._untried:
            self._try(self._untried.pop(0))
        elif self._endpoints and asyncio.get_running_loop().time() < self._looked_up_at + LOOK_UP_AGAIN_S:
            self._begin_round()
        else:
            self._look_up()

    def _look_up(self) -> None:
        self._looked_up_at = asyncio.get_running_loop().time()
        if not self._endpoints:
            self.unresolved = "its name was not resolved in time"
        self._lookup = self._resolver.look_up(self._address, self._resolved)

    def _resolved(self, answer: Answer) -> None:
        if isinstance(answer, HandoffError):
            self._endpoints = []
            self.unresolved = answer.reason if isinstance(answer, ConnectionFailed) else str(answer)
            self._later(LOOK_UP_AGAIN_S)
        else:
            self._endpoints, self.unresolved = answer, ""
            self._begin_round()

    def _begin_round(self) -> None:
        self._untried = list(self._endpoints)
        self._try(self._untried.pop(0))
        self._try_s *= 2

    def _try(self, endpoint: str) -> None:
        self._has_failed = False
        self._endpoint = endpoint
        # A new name for each try: to the service an earlier one may still be there. ZeroMQ reserves a first byte of 0.
        self._socket.setsockopt(zmq.ROUTING_ID, b"L" + os.urandom(15))
        if self._curve is not None:
            self._key = self._curve.choose(self._socket, endpoint)
        connect(self._socket, endpoint)
        self._limit_try(self._try_s)

    def _limit_try(self, seconds: float) -> None:
        if len(self._endpoints) > 1 and not self._has_failed:
            self._later(seconds)

    def _later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._next)
