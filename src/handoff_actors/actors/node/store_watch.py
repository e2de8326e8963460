"""Looks whether the directories of a node's store are still there, and makes them anew.

systemd removes what a user has in shared memory when that user's last session ends (`RemoveIPC=yes` in logind.conf), and
cleaners of temporary directories remove what is old. The node would fail every large value from then on.
"""

import asyncio
import logging
from collections.abc import Callable

from handoff_actors.core.node.events import NodeEvent, StoreLost, ValueMissing
from handoff_actors.ids import Index, RunId
from handoff_actors.store.files import LostDirectories, ValueStore

log = logging.getLogger(__name__)

#: A look takes two system calls.
LOOKS_EVERY_S = 1.0


class StoreWatch:
    """Watches one store. Losses go to `feed`."""

    def __init__(self, node: str, store: ValueStore, feed: Callable[[NodeEvent], None]) -> None:
        self.store = store
        self._node = node
        self._feed = feed
        self._timer: asyncio.TimerHandle | None = None
        self._complaint = ""
        self._is_closed = False

    def start(self) -> None:
        """Look now and then."""
        self.look()
        self._timer = asyncio.get_running_loop().call_later(LOOKS_EVERY_S, self.start)

    def close(self) -> None:
        """Look no more: the store is about to be removed by its owner."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Make directories anew that are gone. To be called when a file can't be found or made, before that is reported."""
        if self._is_closed:
            return
        try:
            lost = self.store.renew()
        except OSError as error:
            self._complain(f"its directory is gone and can't be made anew: {error}")
            return
        self._complaint = ""
        if any(lost):
            self._tell(lost)

    def check(self, run: RunId, index: Index) -> None:
        """Tell if a value that should be in the store is not."""
        if not self.store.has(run, index):
            self.look()
            self._feed(ValueMissing(run, index))

    def _tell(self, lost: LostDirectories) -> None:
        places = (self.store.directory, self.store.disk)
        gone = " and ".join(str(place) for place, is_lost in zip(places, lost, strict=True) if is_lost)
        log.error(
            "store lost",
            extra={
                "node": self._node,
                "reason": f"somebody has removed {gone}; it is made anew, and runs make its values again. systemd does that "
                "unless logind.conf has RemoveIPC=no or the node's user is a system user, and so do cleaners of temporary "
                "directories: exclude handoff-*, or choose other places with --store-dir and --spill-dir",
            },
        )
        self._feed(StoreLost(lost.in_memory))

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            log.error("store lost", extra={"node": self._node, "reason": complaint})
        self._complaint = complaint
