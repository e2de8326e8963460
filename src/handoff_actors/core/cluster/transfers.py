"""Which pieces of which values to ask whom for, so that transfers share a holder fairly and none fills a queue.

A value comes from one holder at a time, in chunks, a window of them asked for ahead. If the holder goes, or has it no
more, the next one is asked from the start: what it has may differ, where a function does not always give the same. At
most so many transfers from one holder go on at once; while others wait, each of them goes on for a turn of so many
chunks, and then stands behind the others. A small value so waits for a turn of large ones, not for the large ones.
"""

from collections import deque
from collections.abc import Sequence

from msgspec import Struct, field

from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.values import Fetch

CHUNK_NBYTES = 1 << 20
#: Chunks of one transfer that are asked for and have not come.
WINDOW_CHUNKS = 4
#: Transfers from one holder at once.
MAX_TRANSFERS = 4
#: Chunks of one transfer in a row while others wait: enough that filling the window again does not count.
TURN_CHUNKS = 16
#: No value is larger, whatever a holder says: no machine has that much room.
MAX_VALUE_NBYTES = 1 << 48


class RequestChunk(Struct, frozen=True):
    """Ask a holder for a chunk."""

    holder: str
    message: Fetch


class TransferRestarted(Struct, frozen=True):
    """What has come of this value is void; it comes again."""

    request: int


class TransferCompleted(Struct, frozen=True):
    """All of a value is here."""

    request: int


class TransferFailed(Struct, frozen=True):
    """Nobody had it."""

    request: int
    reason: str


FetchEffect = RequestChunk | TransferRestarted | TransferCompleted | TransferFailed


class _Transfer(Struct):
    request: int
    run: RunId
    index: Index
    nbytes: int
    #: Still to be tried, the current one first.
    holders: list[str]
    requested: int = 0
    received: int = 0
    #: Where to stop asking if others wait.
    turn_ends_at: int = 0
    reason: str = "nobody is said to hold it"


class _Holder(Struct):
    active: list[int] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)


class Transfers:
    """Every transfer to one place. It waits for nothing by itself, so it has no `wake`."""

    def __init__(self) -> None:
        self._transfers: dict[int, _Transfer] = {}
        self._holders: dict[str, _Holder] = {}

    def start(
        self, request: int, run: RunId, index: Index, nbytes: int, holders: Sequence[str]
    ) -> list[FetchEffect]:
        """Begin a transfer under a number of the caller's."""
        transfer = _Transfer(request, run, index, nbytes, list(dict.fromkeys(holders)))
        self._transfers[request] = transfer
        return self._enqueue(transfer)

    def current_holder(self, request: int) -> str | None:
        """Whom a transfer comes from now; None where there is no such transfer."""
        transfer = self._transfers.get(request)
        return None if transfer is None else transfer.holders[0]

    def is_expected(self, request: int, offset: int, nbytes: int, total: int) -> bool:
        """Whether this can be the next chunk of a transfer that goes on."""
        transfer = self._transfers[request]
        is_next = offset == transfer.received and offset < transfer.requested
        keeps_its_size = offset == 0 or total == transfer.nbytes
        # One that is shorter would leave a gap that nobody asks for again.
        is_whole = nbytes == min(CHUNK_NBYTES, total - offset)
        return is_next and keeps_its_size and is_whole and total <= MAX_VALUE_NBYTES

    def chunk_received(self, request: int, nbytes: int, total: int) -> list[FetchEffect]:
        """The next chunk has come; the whole value has `total` bytes."""
        transfer = self._transfers.get(request)
        if transfer is None:
            return []
        transfer.nbytes = total
        transfer.received += nbytes
        if transfer.received >= total:
            return [TransferCompleted(request), *self.cancel(request)]
        if transfer.requested < transfer.turn_ends_at:
            return self._request_chunks(transfer)
        return self._end_turn(transfer)

    def value_gone(self, request: int) -> list[FetchEffect]:
        """The holder that was asked has it no more."""
        transfer = self._transfers.get(request)
        if transfer is None:
            return []
        holder = transfer.holders[0]
        self._detach(transfer)
        return self._start_waiting(holder) + self._try_next(transfer, f"{holder} has it no more")

    def holder_lost(self, holder: str, reason: str) -> list[FetchEffect]:
        """Nothing comes from a holder any more."""
        state = self._holders.pop(holder, _Holder())
        why = f"{holder or 'the app'} can't be reached: {reason}"
        return [
            effect
            for request in (*state.active, *state.waiting)
            for effect in self._try_next(self._transfers[request], why)
        ]

    def cancel(self, *requests: int) -> list[FetchEffect]:
        """Nobody wants these any more. Many are best named at once: none of them is begun in another's place then."""
        transfers = [self._transfers.pop(request) for request in requests if request in self._transfers]
        for transfer in transfers:
            self._detach(transfer)
        holders = dict.fromkeys(transfer.holders[0] for transfer in transfers)
        return [effect for holder in holders for effect in self._start_waiting(holder)]

    def check(self) -> None:
        """Assert that each transfer is with one holder."""
        listed = [request for state in self._holders.values() for request in (*state.active, *state.waiting)]
        assert sorted(listed) == sorted(self._transfers)

    def _enqueue(self, transfer: _Transfer) -> list[FetchEffect]:
        if not transfer.holders:
            del self._transfers[transfer.request]
            return [TransferFailed(transfer.request, transfer.reason)]
        holder = transfer.holders[0]
        self._holders.setdefault(holder, _Holder()).waiting.append(transfer.request)
        return self._start_waiting(holder)

    def _start_waiting(self, holder: str) -> list[FetchEffect]:
        state = self._holders[holder]
        effects: list[FetchEffect] = []
        while state.waiting and len(state.active) < MAX_TRANSFERS:
            request = state.waiting.popleft()
            state.active.append(request)
            effects += self._start_turn(self._transfers[request])
        if not state.active:
            del self._holders[holder]
        return effects

    def _start_turn(self, transfer: _Transfer) -> list[FetchEffect]:
        transfer.turn_ends_at = transfer.requested + TURN_CHUNKS * CHUNK_NBYTES
        return self._request_chunks(transfer)

    def _end_turn(self, transfer: _Transfer) -> list[FetchEffect]:
        holder = transfer.holders[0]
        state = self._holders[holder]
        if not state.waiting:
            return self._start_turn(transfer)
        if transfer.received < transfer.requested:
            return []
        state.active.remove(transfer.request)
        state.waiting.append(transfer.request)
        return self._start_waiting(holder)

    def _detach(self, transfer: _Transfer) -> None:
        state = self._holders[transfer.holders[0]]
        requests = state.active if transfer.request in state.active else state.waiting
        requests.remove(transfer.request)

    def _try_next(self, transfer: _Transfer, reason: str) -> list[FetchEffect]:
        transfer.holders.pop(0)
        transfer.requested = transfer.received = 0
        transfer.reason = reason
        restart: list[FetchEffect] = [TransferRestarted(transfer.request)] if transfer.holders else []
        return restart + self._enqueue(transfer)

    def _request_chunks(self, transfer: _Transfer) -> list[FetchEffect]:
        effects: list[FetchEffect] = []
        # The first chunk is asked for in any case: only it tells how large the value is now.
        limit = min(transfer.nbytes, transfer.received + WINDOW_CHUNKS * CHUNK_NBYTES, transfer.turn_ends_at)
        while transfer.requested < limit or transfer.requested == 0:
            message = Fetch(transfer.request, transfer.run, transfer.index, transfer.requested, CHUNK_NBYTES)
            effects.append(RequestChunk(transfer.holders[0], message))
            transfer.requested += CHUNK_NBYTES
        return effects
