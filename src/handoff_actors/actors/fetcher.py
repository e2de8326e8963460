"""Fetches values from their holders."""

import itertools
from collections.abc import Callable, Sequence

from msgspec import Struct

from handoff_actors.core.cluster.transfers import (
    FetchEffect,
    MissingKind,
    RequestChunk,
    TransferCompleted,
    TransferFailed,
    TransferRestarted,
    Transfers,
)
from handoff_actors.ids import Index, RunId
from handoff_actors.store.files import Landing
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone


class FetchFailure(Struct, frozen=True):
    """A value could not be fetched."""

    kind: MissingKind
    #: For people.
    reason: str


#: Called with the complete value, or with the reason why there is none.
OnLanded = Callable[[Landing | FetchFailure], None]


class _Arrival(Struct):
    #: Allocates room, once the size is known.
    land: Callable[[int, int], Landing]
    done: OnLanded
    landing: Landing | None = None


class Fetcher:
    """All transfers to one place. `ask` sends a request to a holder, whose name may be anything that `ask` understands."""

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
        version: int = 0,
        relay: str = "",
        cut_off: Sequence[str] = (),
    ) -> int:
        """Start a transfer, and return its number.

        `land(request, nbytes)` is called for room when the first chunk arrives, and `done` when the value is complete, or the
        transfer has failed. `version` is as in `Ref`; `relay` is asked if some holder can't be reached, as those in `cut_off`.
        """
        request = next(self._numbers)
        self._arrivals[request] = _Arrival(land, done)
        self._perform(self._transfers.start(request, run, index, nbytes, holders, version, relay, cut_off))
        return request

    def chunk_received(self, holder: str, message: Chunk) -> None:
        """Write a chunk. Chunks from any but the current holder are ignored."""
        arrival = self._arrivals.get(message.request)
        if arrival is None or self._transfers.current_holder(message.request) != holder:
            return
        if not self._transfers.is_expected(message.request, message.offset, len(message.data), message.total):
            # Its value is not the one of the first chunk any more.
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

    def current_holder(self, request: int) -> str | None:
        """The holder from which a transfer comes now; None if there is no such transfer."""
        return self._transfers.current_holder(request)

    def value_gone(self, holder: str, message: Gone) -> None:
        """Take note that a holder doesn't have the value any more. Ignored for any but the current holder."""
        if self._transfers.current_holder(message.request) == holder:
            self._perform(self._transfers.value_gone(message.request, message.reason))

    def holder_lost(self, holder: str, reason: str) -> None:
        """Move all transfers from a lost holder to their next holders."""
        self._perform(self._transfers.holder_lost(holder, reason))

    def cancel(self, *requests: int) -> None:
        """Cancel transfers, without calling `done`."""
        for request in requests:
            arrival = self._arrivals.pop(request, None)
            if arrival is not None and arrival.landing is not None:
                arrival.landing.abandon()
        self._perform(self._transfers.cancel(*requests))

    def close(self) -> None:
        """Cancel all transfers."""
        self.cancel(*self._arrivals)

    def _give_up(self, request: int, reason: str) -> None:
        arrival = self._arrivals[request]
        self.cancel(request)
        arrival.done(FetchFailure("store", reason))

    def _perform(self, effects: list[FetchEffect]) -> None:
        for effect in effects:
            match effect:
                case RequestChunk(holder, message):
                    self._ask(holder, message)
                case TransferRestarted(request):
                    self._abandon_landing(request)
                case TransferCompleted(request):
                    landed = self._arrivals.pop(request)
                    assert landed.landing is not None, "its last chunk has been written"
                    landed.landing.finish()
                    landed.done(landed.landing)
                case TransferFailed(request, reason, kind):
                    self._abandon_landing(request)
                    arrival = self._arrivals.pop(request, None)
                    # The callback of an earlier failure may have cancelled it meanwhile.
                    if arrival is not None:
                        arrival.done(FetchFailure(kind, reason))

    def _abandon_landing(self, request: int) -> None:
        arrival = self._arrivals.get(request)
        if arrival is not None and arrival.landing is not None:
            arrival.landing.abandon()
            arrival.landing = None
