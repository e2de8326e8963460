"""Gives out the stored values of a node: whole to a session of its process, in pieces to other nodes and to apps."""

import logging

from handoff_actors.actors.node.store_watch import StoreWatch
from handoff_actors.core.cluster.transfers import CHUNK_NBYTES
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.errors import reason_of
from handoff_actors.ids import Index, PeerId, RunId
from handoff_actors.transport.endpoint import Service
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

log = logging.getLogger(__name__)


class ValueServer:
    """The values of one node, as its machine and its store have them."""

    def __init__(self, name: str, machine: NodeMachine, store_watch: StoreWatch) -> None:
        self._name = name
        self._machine = machine
        self._store_watch = store_watch

    def view(self, run: RunId, index: Index, version: int) -> memoryview | None:
        """The bytes of a value, mapped; None if it is not here in this version, which is as in `Ref`."""
        if not self._machine.has_version(run, index, version):
            return None
        view = self._store_watch.store.view(run, index)
        if view is None:
            self._store_watch.check(run, index)
        return view

    def answer(self, wanted: Fetch, peer: PeerId, service: Service) -> None:
        """Answer a peer's request for a piece of a value."""
        try:
            chunk = self._chunk(wanted)
        except OSError as error:
            # The value is not lost, and who wants it will ask again.
            log.warning("value can't be read now", extra={"node": self._name, "reason": reason_of(error)})
        else:
            service.send(peer, chunk)

    def _chunk(self, wanted: Fetch) -> Chunk | Gone:
        view = self.view(wanted.run, wanted.index, wanted.version)
        if view is None:
            return Gone(wanted.request)
        piece = view[wanted.offset : wanted.offset + min(wanted.length, CHUNK_NBYTES)]
        return Chunk(wanted.request, wanted.offset, len(view), piece)
