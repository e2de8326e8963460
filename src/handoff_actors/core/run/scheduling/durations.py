"""How long functions took in earlier runs, so that a run need not find out anew which of its functions are quick."""

from collections.abc import Sequence

from handoff_actors.core.run.state import DONE, RunState
from handoff_actors.lru import LruCache
from handoff_actors.wire.messages.jobs import Template

#: Pieces of code that are remembered.
CAPACITY = 4096
#: So many functions of a run are looked at.
SAMPLE = 512


class Durations:
    """Seconds by the digest of a function's code; those that have not been seen for longest make room."""

    def __init__(self) -> None:
        self._seconds: LruCache[bytes, float] = LruCache(CAPACITY)

    def of(self, digest: bytes) -> float | None:
        """What functions with that code took, on average; None where none has been seen."""
        # Not `get`: only a new measurement keeps an entry.
        return self._seconds.peek(digest)

    def record(self, digest: bytes, seconds: float) -> None:
        """Take note of what functions with that code take."""
        self._seconds.put(digest, seconds)

    def learn(self, templates: Sequence[Template], template_of: Sequence[int], state: RunState) -> None:
        """Take note of a run that has ended."""
        sums: dict[int, tuple[float, int]] = {}
        for index, template in enumerate(template_of[:SAMPLE]):
            if state.phase[index] == DONE and not state.is_reused(index):
                seconds, count = sums.get(template, (0.0, 0))
                sums[template] = seconds + state.ran_s[index], count + 1
        for template, (seconds, count) in sums.items():
            self.record(templates[template].digest, seconds / count)
