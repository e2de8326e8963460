"""Which pieces of which values to ask whom for, so that transfers share a holder fairly and none fills a queue.

A value comes from one holder at a time, in chunks, a window of them asked for ahead. If the holder goes, or has it no
more, the next one is asked from the start: what it has may differ, where a function does not always give the same. At
most so many transfers from one holder go on at once; the others wait their turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages import Fetch

CHUNK_NBYTES = 1 << 20
#: Chunks of one transfer that are asked for and have not come.
WINDOW = 4
#: Transfers from one holder at once.
TRANSFERS = 4


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a holder for a chunk."""

    holder: str
    message: Fetch


@dataclass(frozen=True, slots=True)
class Restart:
    """What has come of this value is void; it comes again."""

    request: int


@dataclass(frozen=True, slots=True)
class Landed:
    """All of a value is here."""

    request: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody had it."""

    request: int
    reason: str


FetchEffect = Ask | Restart | Landed | Lost


@dataclass(slots=True)
class _Transfer:
    request: int
    run: RunId
    index: Index
    nbytes: int
    #: Still to be tried, the current one first.
    holders: list[str]
    asked: int = 0
    arrived: int = 0
    reason: str = "nobody is said to hold it"


@dataclass(slots=True)
class _Holder:
    active: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)


class Fetching:
    """Every transfer to one place. It waits for nothing by itself, so it has no `wake`."""

    def __init__(self) -> None:
        self._transfers: dict[int, _Transfer] = {}
        self._holders: dict[str, _Holder] = {}

    def __contains__(self, request: int) -> bool:
        return request in self._transfers

    def want(
        self, request: int, run: RunId, index: Index, nbytes: int, holders: Sequence[str]
    ) -> list[FetchEffect]:
        """Begin a transfer under a number of the caller's."""
        transfer = _Transfer(request, run, index, nbytes, list(dict.fromkeys(holders)))
        self._transfers[request] = transfer
        return self._enlist(transfer)

    def chunk(self, request: int, nbytes: int, total: int) -> list[FetchEffect]:
        """The next chunk has come; the whole value has `total` bytes."""
        transfer = self._transfers.get(request)
        if transfer is None:
            return []
        transfer.nbytes = total
        transfer.arrived += nbytes
        if transfer.arrived >= total:
            del self._transfers[request]
            return [Landed(request), *self._delist(transfer)]
        return self._ask(transfer)

    def gone(self, request: int) -> list[FetchEffect]:
        """The holder that was asked has it no more."""
        transfer = self._transfers.get(request)
        return (
            [] if transfer is None else self._next_holder(transfer, f"{transfer.holders[0]} has it no more")
        )

    def holder_lost(self, holder: str, reason: str) -> list[FetchEffect]:
        """Nothing comes from a holder any more."""
        effects: list[FetchEffect] = []
        state = self._holders.get(holder)
        for request in [*state.active, *state.waiting] if state is not None else ():
            effects += self._next_holder(
                self._transfers[request], f"{holder or 'the app'} can't be reached: {reason}"
            )
        return effects

    def cancel(self, request: int) -> list[FetchEffect]:
        """Nobody wants it any more."""
        transfer = self._transfers.pop(request, None)
        return [] if transfer is None else self._delist(transfer)

    def check(self) -> None:
        """Assert that each transfer is with one holder."""
        listed = [request for state in self._holders.values() for request in (*state.active, *state.waiting)]
        assert sorted(listed) == sorted(self._transfers)

    def _enlist(self, transfer: _Transfer) -> list[FetchEffect]:
        if not transfer.holders:
            del self._transfers[transfer.request]
            return [Lost(transfer.request, transfer.reason)]
        state = self._holders.setdefault(transfer.holders[0], _Holder())
        if len(state.active) >= TRANSFERS:
            state.waiting.append(transfer.request)
            return []
        state.active.append(transfer.request)
        return self._ask(transfer)

    def _delist(self, transfer: _Transfer) -> list[FetchEffect]:
        holder = transfer.holders[0]
        state = self._holders[holder]
        if transfer.request in state.waiting:
            state.waiting.remove(transfer.request)
            return []
        state.active.remove(transfer.request)
        if state.waiting:
            following = state.waiting.pop(0)
            state.active.append(following)
            return self._ask(self._transfers[following])
        if not state.active:
            del self._holders[holder]
        return []

    def _next_holder(self, transfer: _Transfer, reason: str) -> list[FetchEffect]:
        effects = self._delist(transfer)
        transfer.holders.pop(0)
        transfer.asked = transfer.arrived = 0
        transfer.reason = reason
        if transfer.holders:
            effects.append(Restart(transfer.request))
        return effects + self._enlist(transfer)

    def _ask(self, transfer: _Transfer) -> list[FetchEffect]:
        effects: list[FetchEffect] = []
        # The first chunk is asked for in any case: only it tells how large the value is now.
        limit = min(transfer.nbytes, transfer.arrived + WINDOW * CHUNK_NBYTES)
        while transfer.asked < limit or transfer.asked == 0:
            message = Fetch(transfer.request, transfer.run, transfer.index, transfer.asked, CHUNK_NBYTES)
            effects.append(Ask(transfer.holders[0], message))
            transfer.asked += CHUNK_NBYTES
        return effects
