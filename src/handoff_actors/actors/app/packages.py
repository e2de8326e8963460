"""The directories that a run's nodes may lack: each is packed when the first node asks for it."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from handoff_actors.escaping import escape_name
from handoff_actors.ids import Index
from handoff_actors.store.archive import TooLarge, Withheld, pack

log = logging.getLogger(__name__)

LIMIT_VARIABLE: Final = "HANDOFF_WORKING_DIR_LIMIT"
#: Names of files, with commas between them, that are sent although their like is left out.
INCLUDE_VARIABLE: Final = "HANDOFF_WORKING_DIR_INCLUDE"
#: Unless the environment says otherwise.
LIMIT_MB: Final = 100.0
_MEGABYTE: Final = 1e6


class Packages:
    """Those of one run. `packed` takes the archive of a directory."""

    def __init__(
        self,
        directories: Mapping[Index, Path],
        packed: Callable[[Index, bytes], None],
    ) -> None:
        self._directories = dict(directories)
        self._packed = packed
        #: Those that ask while a directory is being packed.
        self._waiting: dict[Index, list[Callable[[], None]]] = {}

    def pack(self, index: Index, then: Callable[[], None], failed: Callable[[Index, str], None]) -> bool:
        """Have it packed if that has not been done, and go on with `then`; False: there is nothing to pack.

        `failed` is told if it can't be, and why.
        """
        if index not in self._directories:
            return False
        waiting = self._waiting.setdefault(index, [])
        waiting.append(then)
        if len(waiting) == 1:
            directory = self._directories[index]
            packing = asyncio.get_running_loop().run_in_executor(None, _pack, directory)
            packing.add_done_callback(partial(self._ended, index, failed))
        return True

    def _ended(
        self, index: Index, failed: Callable[[Index, str], None], packing: "asyncio.Future[bytes]"
    ) -> None:
        directory = self._directories.pop(index)
        waiting = self._waiting.pop(index)
        if packing.cancelled():
            return
        error = packing.exception()
        if error is None:
            self._packed(index, packing.result())
            for go_on in waiting:
                go_on()
            return
        remedy = f"; have large data elsewhere, or set {LIMIT_VARIABLE} to more MB"
        advice = remedy if isinstance(error, TooLarge) else ""
        failed(
            index,
            f"working_dir {str(directory)!r} is not on this node, and can't be sent there: {error}{advice}",
        )


def _pack(directory: Path) -> bytes:
    limit_nbytes = int(float(os.environ.get(LIMIT_VARIABLE, LIMIT_MB)) * _MEGABYTE)
    included = [name.strip() for name in os.environ.get(INCLUDE_VARIABLE, "").split(",")]
    packed = pack(directory, limit_nbytes, included)
    for path, why in packed.withheld.items():
        remedy = f"; set {INCLUDE_VARIABLE}={path.name} to send it" if why is Withheld.PRIVATE else ""
        text = f"{path} is not sent to nodes with working_dir: {why.value}{remedy}"
        log.warning("%s", escape_name(text))
    return packed.archive
