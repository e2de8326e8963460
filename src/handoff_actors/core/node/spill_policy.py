"""The choice of stored values that move from memory to disk.

Past the limit the values that functions have not asked for the longest are written to disk, one at a time. They don't
come back: workers map the file, and the kernel caches what they read for as long as there is room. While values are
being written, no function starts that could make more of them; every write ends, so no function waits for ever.
If the disk takes no more, results beyond the limit are refused until it does.
"""

from handoff_actors.ids import Index, RunId

#: The disk is tried again so long after it took no more.
RETRY_S = 1.0

Key = tuple[RunId, Index]


class SpillPolicy:
    """The values of one node that are in memory, least recently used first."""

    def __init__(self, limit_nbytes: int | None) -> None:
        self.limit_nbytes = limit_nbytes
        self.nbytes = 0
        #: Sizes in bytes; the most recently used is last.
        self._sizes: dict[Key, int] = {}
        #: True while the value is being written to disk.
        self._leaving: Key | None = None
        #: Why the disk took no more, and when to try again.
        self.refusal = ""
        self._retry_at: float | None = None

    @property
    def is_over(self) -> bool:
        """True if more is in memory than the limit."""
        return self.limit_nbytes is not None and self.nbytes > self.limit_nbytes

    @property
    def is_crowded(self) -> bool:
        """True if more is in memory than the limit while a value is being written to disk."""
        return self._leaving is not None and self.is_over and not self.refusal

    @property
    def wake_at(self) -> float | None:
        """The time at which to try the disk again."""
        return self._retry_at

    def has_room(self, nbytes: int) -> bool:
        """True if one more value can be kept: in memory, or on a disk that takes values."""
        return not self.refusal or self.limit_nbytes is None or self.nbytes + nbytes <= self.limit_nbytes

    def put(self, key: Key, nbytes: int) -> None:
        """Add a value to memory."""
        self._remove(key)
        self._sizes[key] = nbytes
        self.nbytes += nbytes

    def use(self, key: Key) -> None:
        """Mark a value as used by a function."""
        if key in self._sizes:
            self._sizes[key] = self._sizes.pop(key)

    def written(self, key: Key) -> None:
        """Remove a value that has been written to disk."""
        self._remove(key)
        self.refusal = ""

    def refused(self, key: Key, reason: str, now: float) -> None:
        """Note that the disk did not take a value."""
        if key == self._leaving:
            self._leaving = None
            self.refusal, self._retry_at = reason, now + RETRY_S

    def forget(self, run: RunId) -> None:
        """Remove the values of a run."""
        for key in [key for key in self._sizes if key[0] == run]:
            self._remove(key)
        if not self.is_over:
            self.refusal = ""

    def next_to_leave(self, now: float) -> Key | None:
        """Choose the value to write to disk now, if any; answered by `written` or `refused`, or not if its run ends first."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
        if self._leaving is not None or self._retry_at is not None or not self.is_over:
            return None
        self._leaving = next(iter(self._sizes))
        return self._leaving

    def check(self) -> None:
        """Assert that the bytes are counted right."""
        assert self.nbytes == sum(self._sizes.values())
        assert self._leaving is None or self._leaving in self._sizes, "a value is being written that is gone"

    def _remove(self, key: Key) -> None:
        self.nbytes -= self._sizes.pop(key, 0)
        if key == self._leaving:
            self._leaving = None
