"""Transfers of values: the order of requests for chunks, so that transfers share a holder fairly and fill no queue.

A value comes from one holder at a time, in chunks, and WINDOW_CHUNKS of them are requested in advance. If the holder is
lost, or doesn't have the value any more, the transfer starts again with the next holder: its copy may differ, if a
function doesn't always return the same. If some holder can't be reached, and no other has the value, a relay is asked. At most MAX_TRANSFERS transfers from one holder are active at once; while others
wait, each gets a turn of TURN_CHUNKS chunks, and then queues behind the others. So a small value waits for a turn of
the large ones, not for all of them.
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct, field

from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.values import Fetch

CHUNK_NBYTES = 1 << 20
#: Chunks of one transfer that are requested and have not arrived.
WINDOW_CHUNKS = 4
#: Active transfers from one holder.
MAX_TRANSFERS = 4
#: Chunks of one transfer in a row while others wait: enough to make the cost of refilling the window negligible.
TURN_CHUNKS = 16
#: Limit for the size that a holder may claim: no machine has that much memory.
MAX_VALUE_NBYTES = 1 << 48


class RequestChunk(Struct, frozen=True):
    """Request a chunk from a holder."""

    holder: str
    message: Fetch


class TransferRestarted(Struct, frozen=True):
    """A transfer starts again from the first byte; the chunks received so far are void."""

    request: int


class TransferCompleted(Struct, frozen=True):
    """All chunks of a value have arrived."""

    request: int


#: Why a value could not be brought: "input": none of its holders has it any more; "unreachable": one may have it, and can't be
#: reached; "store": there is no room for it.
MissingKind = Literal["input", "unreachable", "store"]


class TransferFailed(Struct, frozen=True):
    """No holder could supply the value."""

    request: int
    reason: str
    kind: MissingKind = "input"


FetchEffect = RequestChunk | TransferRestarted | TransferCompleted | TransferFailed


class _Transfer(Struct):
    request: int
    run: RunId
    index: Index
    nbytes: int
    #: Holders still to be tried, the current one first.
    holders: list[str]
    #: As in `Ref`.
    version: int
    requested: int = 0
    received: int = 0
    #: Offset at which to stop requesting if other transfers wait.
    turn_ends_at: int = 0
    #: What each holder that has been tried was lacking.
    reasons: list[str] = field(default_factory=list)
    #: A holder that could not be reached may have it still.
    kind: MissingKind = "input"
    #: The holder to ask after all others, if one of these can't be reached; "": none, or it has become the current holder.
    relay: str = ""
    is_relayed: bool = False


#: Names of holders that are apps begin so.
APP_HOLDER = "app:"


class _Holder(Struct):
    active: list[int] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)


class Transfers:
    """All transfers to one place. No transfer depends on the time, so there is no `wake`."""

    def __init__(self) -> None:
        self._transfers: dict[int, _Transfer] = {}
        self._holders: dict[str, _Holder] = {}

    def start(
        self,
        request: int,
        run: RunId,
        index: Index,
        nbytes: int,
        holders: Sequence[str],
        version: int = 0,
        relay: str = "",
        cut_off: Sequence[str] = (),
    ) -> list[FetchEffect]:
        """Start a transfer under a number that the caller chooses.

        `cut_off` are holders that are known not to be reachable, which `relay` is asked in place of.
        """
        transfer = _Transfer(request, run, index, nbytes, list(dict.fromkeys(holders)), version)
        transfer.relay = relay
        if cut_off:
            transfer.kind = "unreachable"
            transfer.reasons += [f"{holder} can't be reached" for holder in cut_off]
        self._turn_to_relay(transfer)
        self._transfers[request] = transfer
        return self._enqueue(transfer)

    def current_holder(self, request: int) -> str | None:
        """The holder from which a transfer comes now; None if there is no such transfer."""
        transfer = self._transfers.get(request)
        return None if transfer is None else transfer.holders[0]

    def is_expected(self, request: int, offset: int, nbytes: int, total: int) -> bool:
        """True if a chunk with these figures can be the next one of a transfer."""
        transfer = self._transfers[request]
        is_next = offset == transfer.received and offset < transfer.requested
        has_same_size = offset == 0 or total == transfer.nbytes
        # A shorter chunk would leave a gap that is never requested again.
        is_whole = nbytes == min(CHUNK_NBYTES, total - offset)
        return is_next and has_same_size and is_whole and total <= MAX_VALUE_NBYTES

    def chunk_received(self, request: int, nbytes: int, total: int) -> list[FetchEffect]:
        """Take note that the next chunk has arrived; the whole value has `total` bytes."""
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

    def value_gone(self, request: int, reason: str = "") -> list[FetchEffect]:
        """Take note that the current holder doesn't have the value any more; a relay may have another `reason`."""
        transfer = self._transfers.get(request)
        if transfer is None:
            return []
        holder = transfer.holders[0]
        self._detach(transfer)
        if reason:
            transfer.kind = "unreachable"
        elif transfer.is_relayed:
            # It has asked all holders.
            transfer.kind = "input"
        reason = reason or f"{_called(holder)} doesn't have it any more"
        return self._start_waiting(holder) + self._try_next(transfer, reason)

    def holder_lost(self, holder: str, reason: str) -> list[FetchEffect]:
        """Move all transfers from a lost holder to their next holders."""
        state = self._holders.pop(holder, _Holder())
        why = f"{_called(holder)} can't be reached: {reason}"
        effects: list[FetchEffect] = []
        for request in (*state.active, *state.waiting):
            transfer = self._transfers[request]
            transfer.kind = "unreachable"
            effects += self._try_next(transfer, why)
        return effects

    def cancel(self, *requests: int) -> list[FetchEffect]:
        """Cancel transfers. Cancel many in one call, so that none of them is started in the place of another."""
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
            reason = "; ".join(transfer.reasons) or "no holder is known"
            return [TransferFailed(transfer.request, reason, transfer.kind)]
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
        transfer.reasons.append(reason)
        self._turn_to_relay(transfer)
        restart: list[FetchEffect] = [TransferRestarted(transfer.request)] if transfer.holders else []
        return restart + self._enqueue(transfer)

    def _turn_to_relay(self, transfer: _Transfer) -> None:
        if not transfer.holders and transfer.kind == "unreachable" and transfer.relay:
            transfer.holders.append(transfer.relay)
            transfer.relay, transfer.is_relayed = "", True

    def _request_chunks(self, transfer: _Transfer) -> list[FetchEffect]:
        effects: list[FetchEffect] = []
        # The first chunk is requested in any case: only its answer tells how large the value is now.
        limit = min(transfer.nbytes, transfer.received + WINDOW_CHUNKS * CHUNK_NBYTES, transfer.turn_ends_at)
        while transfer.requested < limit or transfer.requested == 0:
            message = Fetch(
                transfer.request,
                transfer.run,
                transfer.index,
                transfer.requested,
                CHUNK_NBYTES,
                transfer.version,
            )
            effects.append(RequestChunk(transfer.holders[0], message))
            transfer.requested += CHUNK_NBYTES
        return effects


def _called(holder: str) -> str:
    return "the app" if not holder or holder.startswith(APP_HOLDER) else holder
