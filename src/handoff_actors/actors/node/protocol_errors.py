"""Count protocol errors, and limit the rate of their log lines."""

import logging
from collections import Counter
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds between two lines about the same kind of error, so that no peer can fill the log.
QUIET_S = 5.0


class ProtocolErrors:
    """The protocol errors of one node, counted by kind in `counts`."""

    def __init__(self, node: str, clock: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self._node = node
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._logged_count: Counter[str] = Counter()

    def note(self, kind: str, reason: str, peer: bytes = b"") -> None:
        """Count an error, and log it unless its kind was logged a moment ago.

        `kind` is one of a few words of ours; `reason` may quote anything that a peer sent.
        """
        self.counts[kind] += 1
        now = self._clock()
        if now < self._logged_at.get(kind, float("-inf")) + QUIET_S:
            return
        since = self.counts[kind] - self._logged_count[kind]
        self._logged_at[kind], self._logged_count[kind] = now, self.counts[kind]
        fields = {"node": self._node, "reason": reason, "times": since}
        log.warning(kind, extra=fields | ({"peer": peer.hex()} if peer else {}))
