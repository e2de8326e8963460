"""Count protocol errors and refusals, and say them ever more rarely while they go on."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal, Protocol, get_args

from msgspec import Struct

log = logging.getLogger(__name__)

#: Seconds from the first line about an error to the next one; each pause is twice as long as the one before.
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 3600.0
#: Peers of which errors of one kind are told apart; whoever makes more names shares a line with others.
MOST_PEERS: Final = 20
_OTHERS: Final = "others"

ErrorKind = Literal["stranger refused", "member refused", "malformed message"]
KINDS: Final[tuple[ErrorKind, ...]] = get_args(ErrorKind)


_Key = tuple[ErrorKind, str]


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Prevent it."""


class _Repeated(Struct):
    """An error that has been logged, and may come again."""

    #: The reason of the latest one, and the number of those not yet logged.
    reason: str
    times: int = 0
    pause_s: float = FIRST_PAUSE_S
    timer: Timer | None = None


class ProtocolErrors:
    """The protocol errors of one node, counted by kind in `counts`.

    The first of its kind and peer is logged at once. Those that come within a pause are logged together at its end, and the
    next pause is longer. After a pause without any the next one is a first one again. `call_later` is that of an event loop.
    """

    def __init__(self, node: str, call_later: Callable[[float, Callable[[_Key], None], _Key], Timer]) -> None:
        self.counts: Counter[str] = Counter()
        self._node = node
        self._call_later = call_later
        self._repeated: dict[_Key, _Repeated] = {}

    def note(self, kind: ErrorKind, reason: str, peer: str = "") -> None:
        """Count an error, and log it if it is the first for a while.

        `reason` may quote anything that a peer sent, and `peer` is its own name for itself.
        """
        self.counts[kind] += 1
        key: _Key = kind, peer
        if key not in self._repeated and sum(known == kind for known, _ in self._repeated) >= MOST_PEERS:
            key = kind, _OTHERS
        repeated = self._repeated.get(key)
        if repeated is not None:
            repeated.reason = reason
            repeated.times += 1
            return
        self._repeated[key] = repeated = _Repeated(reason)
        self._log(key, reason, 1)
        self._wait(key, repeated)

    def close(self) -> None:
        """Log what is not logged yet, and stop waiting."""
        for key, repeated in self._repeated.items():
            assert repeated.timer is not None
            repeated.timer.cancel()
            if repeated.times:
                self._log(key, repeated.reason, repeated.times)
        self._repeated.clear()

    def _wait(self, key: _Key, repeated: _Repeated) -> None:
        repeated.timer = self._call_later(repeated.pause_s, self._pause_is_over, key)

    def _pause_is_over(self, key: _Key) -> None:
        repeated = self._repeated[key]
        if not repeated.times:
            del self._repeated[key]
            return
        self._log(key, repeated.reason, repeated.times)
        repeated.times = 0
        repeated.pause_s = min(LONGEST_PAUSE_S, 2 * repeated.pause_s)
        self._wait(key, repeated)

    def _log(self, key: _Key, reason: str, times: int) -> None:
        kind, peer = key
        fields = {"node": self._node, "reason": reason, "times": times}
        log.warning(kind, extra=fields | ({"peer": peer} if peer else {}))
