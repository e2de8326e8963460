"""Brings inputs into a node's store, from other nodes and from apps."""

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from handoff_actors.actors.fetcher import Fetcher, FetchFailure
from handoff_actors.actors.node.metrics import NodeMetrics
from handoff_actors.actors.node.module_definitions import ModuleDefinitions
from handoff_actors.actors.node.store_watch import StoreWatch
from handoff_actors.actors.peer_links import PeerLinks
from handoff_actors.core.cluster.transfers import APP_HOLDER
from handoff_actors.core.node.events import FetchInput, InputFetched, InputMissing, NodeEvent, ValueSpilled
from handoff_actors.errors import reason_of
from handoff_actors.ids import Index, PeerId, RunId
from handoff_actors.store.files import Landing
from handoff_actors.transport.endpoint import Network
from handoff_actors.wire.messages.jobs import ValueOf
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone

if TYPE_CHECKING:
    from handoff_actors.wire.messages.jobs import OwnModules

log = logging.getLogger(__name__)

#: What an app holds does not queue behind what it has to get from others first: for that it counts as another holder.
_RELAY: Final = "/relay"


class InputFetcher:
    """The inputs of one node. What happens to them goes to `feed`; `ask_app` sends a request to an app."""

    def __init__(
        self,
        name: str,
        store_watch: StoreWatch,
        feed: Callable[[NodeEvent], None],
        ask_app: Callable[[PeerId, Fetch], None],
        metrics: NodeMetrics,
        definitions: ModuleDefinitions,
    ) -> None:
        self._name = name
        self._store_watch, self._store = store_watch, store_watch.store
        self._feed = feed
        self._ask_app = ask_app
        self._metrics = metrics
        self._definitions = definitions
        #: Modules whose sources are being compared, or whose definitions are being fetched.
        self._modules: dict[tuple[RunId, Index], OwnModules] = {}
        self._fetcher = Fetcher(self._ask)
        self._links: PeerLinks | None = None
        self._requests: dict[RunId, dict[Index, int]] = {}

    def fetch_over(self, network: Network) -> None:
        """Fetch values from other nodes over this network."""
        self._links = PeerLinks(network, self._name, self._fetcher, has_relay=True)

    def fetch(self, wanted: FetchInput, own_address: str) -> None:
        """Begin to bring a value here, in place of any that is on its way under the same name."""
        if wanted.directory and Path(os.fsdecode(wanted.directory)).is_dir():
            self._feed(InputFetched(wanted.run, wanted.index, 0))
        elif wanted.is_here and wanted.source is not None and self._link(wanted, wanted.source):
            pass
        elif wanted.modules is not None:
            self._modules[wanted.run, wanted.index] = wanted.modules
            self._definitions.need(wanted.run, wanted.modules, partial(self._compared, wanted, own_address))
        else:
            self._fetch(wanted, own_address)

    def _link(self, wanted: FetchInput, source: ValueOf) -> bool:
        """Have the file of another run's value as this value, too. False if that can't be."""
        key = source.run, source.index
        try:
            nbytes = self._store.link(key, wanted.run, wanted.index)
        except OSError as error:
            log.warning("value can't be linked", extra={"node": self._name, "reason": reason_of(error)})
            return False
        self._feed(InputFetched(wanted.run, wanted.index, nbytes, shared_with=key))
        return True

    def _compared(
        self, wanted: FetchInput, own_address: str, *, are_needed: bool, are_importable: bool
    ) -> None:
        """Fetch definitions of modules, unless the node needs none, or has them from another run."""
        if (wanted.run, wanted.index) not in self._modules:
            return
        if are_needed:
            self._fetch(wanted, own_address)
            return
        del self._modules[wanted.run, wanted.index]
        self._feed(InputFetched(wanted.run, wanted.index, 0, is_importable=are_importable))

    def _fetch(self, wanted: FetchInput, own_address: str) -> None:
        # "" is the app's address; it is also this node's own if that serves its app alone.
        elsewhere = [holder for holder in wanted.holders if not holder or holder != own_address]
        app = APP_HOLDER + wanted.peer.hex()
        cut_off = [holder for holder in elsewhere if holder and not self._can_ask(holder)]
        holders = [holder or app for holder in elsewhere if holder not in cut_off]
        run, index = wanted.run, wanted.index
        under_way = self._requests.setdefault(run, {})
        if index in under_way:
            self._fetcher.cancel(under_way.pop(index))
        is_over = False

        def done(landed: Landing | FetchFailure) -> None:
            nonlocal is_over
            is_over = True
            under_way.pop(index, None)
            if not isinstance(landed, FetchFailure):
                self._landed(wanted, own_address)
                return
            why = f"node {self._name} could not fetch an input: {landed.reason}"
            self._feed(InputMissing(run, index, why, landed.kind))

        land = partial(self._land, run, index)
        source = wanted.source or ValueOf(run, index, wanted.version)
        request = self._fetcher.fetch(
            source.run,
            source.index,
            wanted.nbytes,
            holders,
            land,
            done,
            source.version,
            relay="" if app in holders else app + _RELAY,
            cut_off=cut_off,
        )
        # Without holders `done` is called from within `fetch`.
        if not is_over:
            under_way[index] = request

    def _landed(self, wanted: FetchInput, own_address: str) -> None:
        if self._store.has(wanted.run, wanted.index):
            self._arrived(wanted.run, wanted.index)
            return
        # Somebody has removed it, with the store's directory.
        self._store_watch.look()
        self._fetch(wanted, own_address)

    def _land(self, run: RunId, index: Index, request: int, nbytes: int) -> Landing:
        try:
            return self._store.land(run, index, request, nbytes)
        except FileNotFoundError:
            self._store_watch.look()
            return self._store.land(run, index, request, nbytes)

    def heard(self, peer: PeerId, message: Chunk | Gone) -> None:
        """An app answers."""
        app = APP_HOLDER + peer.hex()
        is_relayed = self._fetcher.current_holder(message.request) == app + _RELAY
        holder = app + _RELAY if is_relayed else app
        if isinstance(message, Chunk):
            self._fetcher.chunk_received(holder, message)
        else:
            self._fetcher.value_gone(holder, message)

    def lost(self, peer: PeerId, reason: str) -> None:
        """Nothing comes from an app any more."""
        for holder in (APP_HOLDER + peer.hex(), APP_HOLDER + peer.hex() + _RELAY):
            self._fetcher.holder_lost(holder, reason)

    def give_up(self, run: RunId, indices: Sequence[Index]) -> None:
        """Bring these values no more."""
        under_way = self._requests.get(run, {})
        self._fetcher.cancel(*(under_way.pop(index) for index in indices if index in under_way))
        for index in indices:
            self._modules.pop((run, index), None)

    def forget_modules(self, run: RunId, keys: Sequence[bytes]) -> None:
        """Note that a run needs these sets of modules no more."""
        self._definitions.forget(run, keys)

    def forget(self, run: RunId) -> None:
        """Bring nothing more for a run."""
        self._fetcher.cancel(*self._requests.pop(run, {}).values())
        if self._modules:
            self._modules = {key: modules for key, modules in self._modules.items() if key[0] != run}
        self._definitions.forget(run)

    def close(self) -> None:
        """Let go of everything."""
        self._fetcher.close()
        if self._links is not None:
            self._links.close()

    def _arrived(self, run: RunId, index: int) -> None:
        view = self._store.view(run, index)
        nbytes = 0 if view is None else len(view)
        self._metrics.fetched_nbytes += nbytes
        modules = self._modules.pop((run, index), None)
        if modules is not None and view is not None:
            self._definitions.keep(modules.key, bytes(view))
        self._feed(InputFetched(run, index, nbytes))
        if self._store.is_on_disk(run, index):
            self._feed(ValueSpilled(run, index))

    def _can_ask(self, address: str) -> bool:
        return self._links is None or self._links.can_ask(address)

    def _ask(self, holder: str, message: Fetch) -> None:
        if holder.startswith(APP_HOLDER):
            peer = holder.removeprefix(APP_HOLDER).removesuffix(_RELAY)
            self._ask_app(PeerId(bytes.fromhex(peer)), message)
        elif self._links is None:
            self._fetcher.holder_lost(holder, "this node has no network")
        elif self._links.can_ask(holder):
            self._links.send(holder, message)
        else:
            # Since the fetch has begun, that has turned out.
            self._fetcher.holder_lost(holder, "there is no connection to it")
