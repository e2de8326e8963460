"""Relays values of a session's runs between nodes that can't reach one another, over the app's own links to both."""

import errno
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import assert_never

from msgspec import Struct

from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.actors.fetcher import Fetcher, FetchFailure
from handoff_actors.core.cluster.relays import (
    BeginRelay,
    EndRelay,
    RefusePiece,
    RelayEffect,
    RelayKey,
    Relays,
    SendPiece,
    TellOfRelay,
)
from handoff_actors.core.cluster.transfers import CHUNK_NBYTES
from handoff_actors.core.run.events import RelayBegun
from handoff_actors.ids import RunId
from handoff_actors.store.files import Landing
from handoff_actors.store.pieces import FilePieces, MemoryPieces, PieceLanding
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

log = logging.getLogger(__name__)


class _Passage(Struct):
    run: RunnerActor
    request: int = 0
    landing: PieceLanding | None = None
    #: The address that it comes from, once its first piece is here.
    source: str = ""


class ValueRelay:
    """All values that pass through one app. `addresses` are those of the usable nodes by name."""

    def __init__(
        self,
        fetcher: Fetcher,
        addresses: Callable[[], dict[str, str]],
        send: Callable[[str, ToNode], None],
    ) -> None:
        self._fetcher = fetcher
        self._addresses = addresses
        self._send = send
        self._relays = Relays()
        self._runs: dict[RunId, RunnerActor] = {}
        self._passages: dict[RelayKey, _Passage] = {}
        #: Pairs of nodes, each with the one that holds values first, that the log has a line about.
        self._logged: set[tuple[str, str]] = set()

    def wanted(self, node: str, wanted: Fetch, run: RunnerActor) -> None:
        """Get a node a piece of a value of this run, from the nodes that have it."""
        self._runs[wanted.run] = run
        self._perform(self._relays.wanted(node, wanted))

    def node_gone(self, node: str) -> None:
        """Serve a node no more that is gone."""
        self._perform(self._relays.node_gone(node))

    def run_ended(self, run: RunId) -> None:
        """Keep nothing for the functions of a run that has ended."""
        self._perform(self._relays.run_ended(run))

    def forget(self, run: RunId) -> None:
        """Drop the values of a run of which nothing is left."""
        self._perform(self._relays.forget(run))
        self._runs.pop(run, None)

    def close(self) -> None:
        """Drop all values."""
        for value in list(self._passages):
            self._drop(value)

    def _perform(self, effects: list[RelayEffect]) -> None:
        for effect in effects:
            match effect:
                case BeginRelay(value):
                    self._begin(value)
                case SendPiece():
                    self._send_piece(effect)
                case RefusePiece(node, request, reason):
                    self._send(node, Gone(request, reason))
                case TellOfRelay(node, value):
                    self._tell(node, value)
                case EndRelay(value):
                    self._drop(value)
                case _:
                    assert_never(effect)

    # --- From holders -------------------------------------------------------------------------------------------

    def _begin(self, value: RelayKey) -> None:
        run, index, version = value
        passage, addresses = _Passage(self._runs[run]), self._addresses()
        self._passages[value] = passage
        holders = [addresses[name] for name in passage.run.view.holders(index) if name in addresses]
        land, done = partial(self._land, value, passage), partial(self._done, value, passage)
        request = self._fetcher.fetch(run, index, CHUNK_NBYTES, holders, land, done, version)
        # Without holders `done` has been called, and the passage is over.
        passage.request = request

    def _land(self, value: RelayKey, passage: _Passage, request: int, nbytes: int) -> Landing:
        """Raise OSError where there is no room."""
        passage.landing = self._make_room(nbytes)
        passage.source = self._fetcher.current_holder(request) or ""
        received = partial(self._received, value, nbytes)
        return _PassingLanding(passage.landing, received, partial(self._restarted, value, passage))

    def _make_room(self, nbytes: int) -> PieceLanding:
        if not self._relays.has_room_in_memory(nbytes):
            return FilePieces(nbytes)
        try:
            return MemoryPieces(nbytes)
        except MemoryError as error:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error

    def _received(self, value: RelayKey, nbytes: int, received: int) -> None:
        self._perform(self._relays.received(value, received, nbytes))

    def _restarted(self, value: RelayKey, passage: _Passage) -> None:
        if passage.landing is not None:
            passage.landing.abandon()
            passage.landing = None
        self._perform(self._relays.restarted(value))

    def _done(self, value: RelayKey, passage: _Passage, landed: Landing | FetchFailure) -> None:
        if not isinstance(landed, FetchFailure):
            self._perform(self._relays.completed(value))
        elif self._passages.get(value) is passage:
            del self._passages[value]
            reason = f"the app could not fetch it either: {landed.reason}"
            self._perform(self._relays.failed(value, landed.kind, reason))

    def _drop(self, value: RelayKey) -> None:
        passage = self._passages.pop(value)
        self._fetcher.cancel(passage.request)
        if passage.landing is not None:
            passage.landing.abandon()

    # --- To nodes -----------------------------------------------------------------------------------------------

    def _send_piece(self, send: SendPiece) -> None:
        landing, wanted = self._passages[send.value].landing, send.wanted
        assert landing is not None, "its first pieces are here"
        answer: Chunk | Gone
        try:
            piece = landing.piece(wanted.offset, min(wanted.length, CHUNK_NBYTES))
        except OSError as error:
            answer = Gone(wanted.request, f"the app can't read it again: {error.strerror}")
        else:
            answer = Chunk(wanted.request, wanted.offset, send.nbytes, piece)
        self._send(send.node, answer)

    def _tell(self, node: str, value: RelayKey) -> None:
        passage = self._passages[value]
        names = {address: name for name, address in self._addresses().items()}
        holder = names.get(passage.source, "")
        passage.run.feed(RelayBegun(value[1], holder, node))
        if (holder, node) not in self._logged:
            self._logged.add((holder, node))
            log.warning(
                "node %r gets no connection to node %r at %s: values that it needs from there pass through this process, which "
                "takes longer. Let %r connect to that address (firewall, --advertise)",
                node,
                holder,
                passage.source,
                node,
            )


class _PassingLanding:
    """See Landing: it tells of each piece that has been written."""

    def __init__(
        self, inner: PieceLanding, received: Callable[[int], None], restarted: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._received = received
        self._restarted = restarted

    def write(self, offset: int, piece: memoryview) -> None:
        """See `Landing.write`."""
        self._inner.write(offset, piece)
        self._received(offset + len(piece))

    def finish(self) -> None:
        """See `Landing.finish`."""
        self._inner.finish()

    def abandon(self) -> None:
        """See `Landing.abandon`."""
        self._restarted()
