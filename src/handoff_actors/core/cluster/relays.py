"""Values that an app relays between nodes that can't reach one another.

    node -- Fetch --> app -- Fetch --> holder
    node <-- Chunk -- app <-- Chunk -- holder

The app fetches a value once, however many nodes ask for it, and passes each piece on as soon as it is there. While nobody is
being served, the value is kept until its run has ended, or there is no room for it. A value that begins to come from
another holder may be another one, so whoever has had pieces of the first is refused, and asks anew.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field

from handoff_actors.core.cluster.transfers import CHUNK_NBYTES, MissingKind
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.values import Fetch

#: Bytes of relayed values that are kept, and in memory: beyond that they are on disk, and only while they are being served.
MOST_KEPT_NBYTES: Final = 256_000_000

#: The run, the function, and the version as in `Ref`.
RelayKey = tuple[RunId, Index, int]
_RESTARTED: Final = "its holder was lost on the way"
_DROPPED: Final = "the app doesn't keep the value any more"


class BeginRelay(Struct, frozen=True):
    """Fetch a value from its holders."""

    value: RelayKey


class SendPiece(Struct, frozen=True):
    """Send a node the piece that it has asked for, which is here."""

    node: str
    value: RelayKey
    wanted: Fetch
    #: The size of the whole value.
    nbytes: int


class RefusePiece(Struct, frozen=True):
    """Tell a node that nothing more comes. `reason` is "" where the holders have said that they don't have the value."""

    node: str
    request: int
    reason: str


class TellOfRelay(Struct, frozen=True):
    """Tell the run that a value is on its way through the app, to a node that gets it for the first time."""

    node: str
    value: RelayKey


class EndRelay(Struct, frozen=True):
    """Drop a value, or what there is of it."""

    value: RelayKey


RelayEffect = BeginRelay | SendPiece | RefusePiece | TellOfRelay | EndRelay


class _RelayedValue(Struct):
    #: Its size; 0 until the first piece is here.
    nbytes: int = 0
    #: The bytes that are here, from the first one on; -1 until the first piece is here.
    received: int = -1
    is_complete: bool = False
    #: The transfers that go on, by node and the node's own number, and whether a piece has been sent for them.
    askers: dict[tuple[str, int], bool] = field(default_factory=dict)
    #: The pieces that are waited for.
    waiting: list[tuple[str, Fetch]] = field(default_factory=list)
    #: Nodes that the run has been told of.
    told: set[str] = field(default_factory=set)


class Relays:
    """All values that one app relays. Nothing here depends on the time."""

    def __init__(self) -> None:
        #: The value that was asked for last at the end.
        self._values: dict[RelayKey, _RelayedValue] = {}
        #: Runs that have ended, whose values may still have to be copied off nodes that leave.
        self._ended: set[RunId] = set()

    # --- What nodes ask -----------------------------------------------------------------------------------------

    def wanted(self, node: str, wanted: Fetch) -> list[RelayEffect]:
        """Take a node's request for a piece."""
        value, asker = (wanted.run, wanted.index, wanted.version), (node, wanted.request)
        effects: list[RelayEffect] = []
        relayed = self._values.pop(value, None)
        if wanted.offset == 0 and relayed is None:
            relayed = _RelayedValue()
            effects.append(BeginRelay(value))
        if relayed is None:
            return [RefusePiece(node, wanted.request, _DROPPED)]
        self._values[value] = relayed
        if wanted.offset == 0:
            relayed.askers[asker] = False
        elif asker not in relayed.askers:
            return [RefusePiece(node, wanted.request, _RESTARTED)]
        relayed.waiting.append((node, wanted))
        return effects + self._serve(value, relayed)

    def node_gone(self, node: str) -> list[RelayEffect]:
        """Serve a node no more, and fetch nothing on its behalf alone."""
        effects: list[RelayEffect] = []
        for value, relayed in list(self._values.items()):
            relayed.askers = {asker: served for asker, served in relayed.askers.items() if asker[0] != node}
            relayed.waiting = [entry for entry in relayed.waiting if entry[0] != node]
            if not relayed.askers and not relayed.is_complete:
                del self._values[value]
                effects.append(EndRelay(value))
        return effects + self._trim()

    def run_ended(self, run: RunId) -> list[RelayEffect]:
        """Keep values of a run no longer than they are being served: no function needs them any more."""
        self._ended.add(run)
        return self._trim()

    def forget(self, run: RunId) -> list[RelayEffect]:
        """Drop all values of a run of which nothing is left."""
        self._ended.discard(run)
        return [self._drop(value) for value in list(self._values) if value[0] == run]

    # --- What comes from holders --------------------------------------------------------------------------------

    def received(self, value: RelayKey, received: int, nbytes: int) -> list[RelayEffect]:
        """Take note that the first `received` of the `nbytes` bytes of a value are here."""
        relayed = self._values.get(value)
        if relayed is None:
            return []
        relayed.received, relayed.nbytes = received, nbytes
        return self._serve(value, relayed)

    def completed(self, value: RelayKey) -> list[RelayEffect]:
        """Take note that all of a value is here."""
        if value in self._values:
            self._values[value].is_complete = True
        return self._trim()

    def restarted(self, value: RelayKey) -> list[RelayEffect]:
        """Take note that a value comes from the beginning again, from another holder."""
        relayed = self._values.get(value)
        if relayed is None:
            return []
        relayed.received, relayed.nbytes = -1, 0
        served = {asker for asker, is_served in relayed.askers.items() if is_served}
        refused = [(node, wanted) for node, wanted in relayed.waiting if (node, wanted.request) in served]
        relayed.waiting = [entry for entry in relayed.waiting if entry not in refused]
        relayed.askers = {asker: False for asker in relayed.askers if asker not in served}
        return _refuse(refused, _RESTARTED)

    def failed(self, value: RelayKey, kind: MissingKind, reason: str) -> list[RelayEffect]:
        """Take note that a value can't be had."""
        relayed = self._values.pop(value, None)
        return [] if relayed is None else _refuse(relayed.waiting, "" if kind == "input" else reason)

    def has_room_in_memory(self, nbytes: int) -> bool:
        """True if a value of this size is to be kept in memory, not on disk."""
        return self._kept_nbytes + nbytes <= MOST_KEPT_NBYTES

    def check(self) -> None:
        """Assert that a piece is waited for only in a transfer that goes on."""
        for relayed in self._values.values():
            asking = {(node, wanted.request) for node, wanted in relayed.waiting}
            assert asking <= relayed.askers.keys()

    # --- Within -------------------------------------------------------------------------------------------------

    @property
    def _kept_nbytes(self) -> int:
        return sum(relayed.nbytes for relayed in self._values.values())

    def _serve(self, value: RelayKey, relayed: _RelayedValue) -> list[RelayEffect]:
        effects: list[RelayEffect] = []
        waiting, relayed.waiting = relayed.waiting, []
        for node, wanted in waiting:
            end = min(wanted.offset + min(wanted.length, CHUNK_NBYTES), relayed.nbytes)
            if relayed.received < end or relayed.received < 0:
                relayed.waiting.append((node, wanted))
                continue
            if node not in relayed.told:
                relayed.told.add(node)
                effects.append(TellOfRelay(node, value))
            effects.append(SendPiece(node, value, wanted, relayed.nbytes))
            relayed.askers[node, wanted.request] = True
            if end == relayed.nbytes:
                del relayed.askers[node, wanted.request]
        return effects + self._trim()

    def _trim(self) -> list[RelayEffect]:
        """Drop values that nobody is being served with, as far as their run has ended or there is no room for them."""
        excess = self._kept_nbytes - MOST_KEPT_NBYTES
        effects: list[RelayEffect] = []
        for value, relayed in list(self._values.items()):
            is_idle = relayed.is_complete and not relayed.askers
            if is_idle and (excess > 0 or value[0] in self._ended):
                excess -= relayed.nbytes
                effects.append(self._drop(value))
        return effects

    def _drop(self, value: RelayKey) -> RelayEffect:
        del self._values[value]
        return EndRelay(value)


def _refuse(waiting: Iterable[tuple[str, Fetch]], reason: str) -> list[RelayEffect]:
    # A transfer that asks for several pieces at once is refused once.
    refused = dict.fromkeys((node, wanted.request) for node, wanted in waiting)
    return [RefusePiece(node, request, reason) for node, request in refused]
