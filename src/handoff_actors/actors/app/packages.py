"""Packs the working directories, and makes the definitions of modules, that nodes lack: each when the first node asks for it."""

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
#: Names of files, separated by commas, that are sent although files like them are left out.
INCLUDE_VARIABLE: Final = "HANDOFF_WORKING_DIR_INCLUDE"
#: Default for LIMIT_VARIABLE.
LIMIT_MB: Final = 100.0
_MEGABYTE: Final = 1e6


class Packages:
    """The working directories and the modules of one run. Calls `packed` with the archive, or the definitions, of each."""

    def __init__(
        self,
        directories: Mapping[Index, Path],
        definitions: Mapping[Index, Callable[[], bytes]],
        packed: Callable[[Index, bytes], None],
    ) -> None:
        self._directories = dict(directories)
        self._definitions = dict(definitions)
        self._packed = packed
        #: Callbacks of nodes that asked while a directory is being packed.
        self._waiting: dict[Index, list[Callable[[], None]]] = {}

    def pack(self, index: Index, then: Callable[[], None], failed: Callable[[Index, str], None]) -> bool:
        """Pack a directory unless that has been done, then call `then`. Returns False if there is nothing to pack.

        `failed` is called with the reason if it can't be packed. Definitions are made at once.
        """
        define = self._definitions.pop(index, None)
        if define is not None:
            # In the thread in which the app changes its modules, if it does.
            self._packed(index, define())
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
