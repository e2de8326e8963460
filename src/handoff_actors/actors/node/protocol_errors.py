"""What strangers and faulty peers do to a node: counted each time, logged now and then."""

import logging
from collections import Counter
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds between two lines about the same kind of thing, so that nobody can fill the log.
QUIET_S = 5.0


class ProtocolErrors:
    """One node's; `counts` has how often each kind of thing has happened."""

    def __init__(self, node: str, clock: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self._node = node
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._logged_count: Counter[str] = Counter()

    def note(self, kind: str, reason: str, peer: bytes = b"") -> None:
        """It has happened once more. `kind` is one of a few words of ours; `reason` may quote anything."""
        self.counts[kind] += 1
        now = self._clock()
        if now < self._logged_at.get(kind, float("-inf")) + QUIET_S:
            return
        since = self.counts[kind] - self._logged_count[kind]
        self._logged_at[kind], self._logged_count[kind] = now, self.counts[kind]
        fields = {"node": self._node, "reason": reason, "times": since}
        log.warning(kind, extra=fields | ({"peer": peer.hex()} if peer else {}))
