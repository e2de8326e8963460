"""Brings values from where they are to where they are needed."""

import itertools
from collections.abc import Callable, Sequence

from msgspec import Struct

from handoff_actors.core.cluster.transfers import (
    FetchEffect,
    RequestChunk,
    TransferCompleted,
    TransferFailed,
    TransferRestarted,
    Transfers,
)
from handoff_actors.ids import Index, RunId
from handoff_actors.store.files import Landing
from handoff_actors.wire.messages.values import Chunk, Fetch

#: What has landed, or why not, and whether it is for want of room here.
OnLanded = Callable[[Landing | None, str, bool], None]


class _Arrival(Struct):
    #: Makes room, once the size is known.
    land: Callable[[int, int], Landing]
    done: OnLanded
    landing: Landing | None = None


class Fetcher:
    """All transfers to one place. `ask` sends a request to a holder, which may be any name that it understands."""

    def __init__(self, ask: Callable[[str, Fetch], None]) -> None:
        self._ask = ask
        self._transfers = Transfers()
        self._arrivals: dict[int, _Arrival] = {}
        self._numbers = itertools.count(1)

    def fetch(
        self,
        run: RunId,
        index: Index,
        nbytes: int,
        holders: Sequence[str],
        land: Callable[[int, int], Landing],
        done: OnLanded,
    ) -> int:
        """Begin a transfer; the answer is its number.

        `land(request, nbytes)` makes room when the first bytes have come; `done(landing, "", False)` says that all of them
        have, `done(None, reason, has_no_room)` that they won't.
        """
        request = next(self._numbers)
        self._arrivals[request] = _Arrival(land, done)
        self._perform(self._transfers.start(request, run, index, nbytes, holders))
        return request

    def chunk_received(self, holder: str, message: Chunk) -> None:
        """A piece has come; from another than the one that was asked it is left out."""
        arrival = self._arrivals.get(message.request)
        if arrival is None or self._transfers.current_holder(message.request) != holder:
            return
        if not self._transfers.is_expected(message.request, message.offset, len(message.data), message.total):
            # What it has now is something else than what it had at first.
            self._perform(self._transfers.value_gone(message.request))
            return
        try:
            if arrival.landing is None:
                arrival.landing = arrival.land(message.request, message.total)
            arrival.landing.write(message.offset, message.data)
        except OSError as error:
            self._give_up(
                message.request, f"there is no room for its {message.total} bytes: {error.strerror}"
            )
            return
        self._perform(self._transfers.chunk_received(message.request, len(message.data), message.total))

    def value_gone(self, holder: str, request: int) -> None:
        """A holder has it no more; what another than the one that was asked says is left out."""
        if self._transfers.current_holder(request) == holder:
            self._perform(self._transfers.value_gone(request))

    def holder_lost(self, holder: str, reason: str) -> None:
        """Nothing comes from a holder any more."""
        self._perform(self._transfers.holder_lost(holder, reason))

    def cancel(self, *requests: int) -> None:
        """Nobody wants these any more; `done` is not called."""
        for request in requests:
            arrival = self._arrivals.pop(request, None)
            if arrival is not None and arrival.landing is not None:
                arrival.landing.abandon()
        self._perform(self._transfers.cancel(*requests))

    def close(self) -> None:
        """Let go of everything."""
        self.cancel(*self._arrivals)

    def _give_up(self, request: int, reason: str) -> None:
        arrival = self._arrivals[request]
        self.cancel(request)
        arrival.done(None, reason, True)

    def _perform(self, effects: list[FetchEffect]) -> None:
        for effect in effects:
            match effect:
                case RequestChunk(holder, message):
                    self._ask(holder, message)
                case TransferRestarted(request):
                    self._abandon_landing(request)
                case TransferCompleted(request):
                    landed = self._arrivals.pop(request)
                    if landed.landing is not None:
                        landed.landing.finish()
                    landed.done(landed.landing, "", False)
                case TransferFailed(request, reason):
                    self._abandon_landing(request)
                    arrival = self._arrivals.pop(request, None)
                    # Whoever heard of another loss may have cancelled it meanwhile.
                    if arrival is not None:
                        arrival.done(None, reason, False)

    def _abandon_landing(self, request: int) -> None:
        arrival = self._arrivals.get(request)
        if arrival is not None and arrival.landing is not None:
            arrival.landing.abandon()
            arrival.landing = None
