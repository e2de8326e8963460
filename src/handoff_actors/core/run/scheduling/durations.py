"""Durations of functions in earlier runs, so that a run knows from the start which of its functions are quick."""

from collections.abc import Sequence

from handoff_actors.core.run.facts.phases import DONE
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.lru import LruCache
from handoff_actors.wire.messages.jobs import Template

#: Number of digests that are remembered.
CAPACITY = 4096
#: Number of functions of a run that are sampled.
SAMPLE = 512


class Durations:
    """Seconds by the digest of a function's code. The digest measured least recently is dropped when there are too many."""

    def __init__(self) -> None:
        self._seconds: LruCache[bytes, float] = LruCache(CAPACITY)

    def of(self, digest: bytes) -> float | None:
        """Average seconds of functions with that code; None if unknown."""
        # Not `get`: only a new measurement keeps an entry.
        return self._seconds.peek(digest)

    def record(self, digest: bytes, seconds: float) -> None:
        """Set the average seconds of functions with that code."""
        self._seconds.put(digest, seconds)

    def learn(self, templates: Sequence[Template], template_of: Sequence[int], state: RunState) -> None:
        """Record the durations of a run that has ended."""
        sums: dict[int, tuple[float, int]] = {}
        for index, template in enumerate(template_of[:SAMPLE]):
            if templates[template].is_stage:
                # It goes on for as long as its stream does.
                continue
            if state.phase[index] == DONE and state.attempt[index] and index not in state.skipped:
                seconds, count = sums.get(template, (0.0, 0))
                sums[template] = seconds + state.ran_s[index], count + 1
        for template, (seconds, count) in sums.items():
            self.record(templates[template].digest, seconds / count)
