"""The choice of stored values that move from memory to disk.

Past the limit the values that functions have not asked for the longest are written to disk, one at a time. They don't
come back: workers map the file, and the kernel caches what they read for as long as there is room. While values are
being written, no function starts that could make more of them; every write ends, so no function waits for ever.
If the disk takes no more, results beyond the limit are refused until it does.
"""

from typing import Literal

from msgspec import Struct

from handoff_actors.core.node.events import LogSpill
from handoff_actors.ids import Index, RunId

#: The disk is tried again so long after it took no more.
RETRY_S = 1.0
#: Spilling has ended once nothing has been moved for so long.
QUIET_S = 30.0

Key = tuple[RunId, Index]


class _Spell(Struct):
    """A time in which values are moved to disk again and again."""

    began_at: float
    values: int = 0
    nbytes: int = 0
    #: None while a value is being written.
    ends_at: float | None = None


class SpillPolicy:
    """The values of one node that are in memory, least recently used first."""

    def __init__(self, limit_nbytes: int | None) -> None:
        self.limit_nbytes = limit_nbytes
        self.nbytes = 0
        #: Sizes in bytes; the most recently used is last.
        self._sizes: dict[Key, int] = {}
        #: Values with the file of another, and the other way round: each file is counted once.
        self._first_of: dict[Key, Key] = {}
        self._sharers: dict[Key, list[Key]] = {}
        #: True while the value is being written to disk.
        self._leaving: Key | None = None
        #: Why the disk took no more, and when to try again.
        self.refusal = ""
        self._retry_at: float | None = None
        #: Bytes of all values moved to disk so far.
        self.spilled_nbytes = 0
        self._spell: _Spell | None = None
        self._changes: list[LogSpill] = []

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
        """The time at which to try the disk again, or at which spilling has ended."""
        times = (self._retry_at, None if self._spell is None else self._spell.ends_at)
        return min((time for time in times if time is not None), default=None)

    def has_room(self, nbytes: int) -> bool:
        """True if one more value can be kept: in memory, or on a disk that takes values."""
        return not self.refusal or self.limit_nbytes is None or self.nbytes + nbytes <= self.limit_nbytes

    def put(self, key: Key, nbytes: int, shared_with: Key | None = None) -> None:
        """Add a value to memory; `shared_with` is the value whose file it has, too."""
        self._remove(key)
        if shared_with is not None:
            first = self._first_of.get(shared_with, shared_with)
            if first in self._sizes:
                self._first_of[key] = first
                self._sharers.setdefault(first, []).append(key)
            return
        self._sizes[key] = nbytes
        self.nbytes += nbytes

    def use(self, key: Key) -> None:
        """Mark a value as used by a function."""
        key = self._first_of.get(key, key)
        if key in self._sizes:
            self._sizes[key] = self._sizes.pop(key)

    def written(self, key: Key, now: float) -> None:
        """Remove a value that has been written to disk, and those that share its file."""
        for sharer in self._sharers.pop(key, ()):
            del self._first_of[sharer]
        nbytes = self._sizes.get(key, 0)
        self.spilled_nbytes += nbytes
        spell = self._begin(now)
        spell.values += 1
        spell.nbytes += nbytes
        self._remove(key)
        self.refusal = ""

    def refused(self, key: Key, reason: str, now: float) -> None:
        """Note that the disk did not take a value."""
        if key == self._leaving:
            self._leaving = None
            if not self.refusal:
                self._changes.append(self._change("refused", reason=reason))
            self.refusal, self._retry_at = reason, now + RETRY_S

    def forget(self, run: RunId) -> None:
        """Remove the values of a run."""
        for key in [key for key in (*self._sizes, *self._first_of) if key[0] == run]:
            self._remove(key)
        if not self.is_over:
            self.refusal = ""

    def lose(self, key: Key) -> None:
        """Drop a value that is not here any more."""
        self._remove(key)

    def is_in_memory(self, key: Key) -> bool:
        """True unless a value has been written to disk."""
        return key in self._sizes or key in self._first_of

    def next_to_leave(self, now: float) -> Key | None:
        """Choose the value to write to disk now, if any; answered by `written` or `refused`, or not if its run ends first."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
        if self._leaving is not None or self._retry_at is not None or not self.is_over:
            return None
        self._leaving = next(iter(self._sizes))
        self._begin(now)
        return self._leaving

    def take_changes(self, now: float) -> list[LogSpill]:
        """Drain what an operator is to hear of: spilling has begun, or ended, or the disk takes no more."""
        spell = self._spell
        if spell is not None and self._leaving is None:
            if spell.ends_at is None:
                spell.ends_at = now + QUIET_S
            elif now >= spell.ends_at:
                self._spell = None
                seconds = now - QUIET_S - spell.began_at
                self._changes.append(self._change("ended", spell, seconds=max(0.0, seconds)))
        changes, self._changes = self._changes, []
        return changes

    def check(self) -> None:
        """Assert that the bytes are counted right."""
        assert self.nbytes == sum(self._sizes.values())
        assert self._sharers.keys() <= self._sizes.keys(), "a file is shared that is not in memory"
        assert sum(map(len, self._sharers.values())) == len(self._first_of)
        assert self._leaving is None or self._leaving in self._sizes, "a value is being written that is gone"

    def _begin(self, now: float) -> _Spell:
        if self._spell is None:
            self._spell = _Spell(now)
            self._changes.append(self._change("begun"))
        self._spell.ends_at = None
        return self._spell

    def _change(
        self,
        change: Literal["begun", "ended", "refused"],
        spell: _Spell | None = None,
        *,
        seconds: float = 0.0,
        reason: str = "",
    ) -> LogSpill:
        values, nbytes = (0, 0) if spell is None else (spell.values, spell.nbytes)
        return LogSpill(change, self.nbytes, self.limit_nbytes or 0, values, nbytes, seconds, reason)

    def _remove(self, key: Key) -> None:
        first = self._first_of.pop(key, None)
        if first is not None:
            self._sharers[first].remove(key)
            return
        nbytes = self._sizes.pop(key, 0)
        sharers = self._sharers.pop(key, None)
        if sharers:
            # The file stays under the other names.
            heir, *others = sharers
            self._sizes[heir] = nbytes
            del self._first_of[heir]
            self._first_of.update(dict.fromkeys(others, heir))
            self._sharers[heir] = others
        else:
            self.nbytes -= nbytes
        if key == self._leaving:
            self._leaving = None
