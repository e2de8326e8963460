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
from handoff_actors.text import str_of
from handoff_actors.wire.payload import WAYS_TO_A_MODULE

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
        #: How each is made, and what is said if that fails.
        self._makers: dict[Index, tuple[Callable[[], bytes], Callable[[BaseException], str]]] = {}
        self.add(directories, definitions)
        self._packed = packed
        #: Callbacks of nodes that asked while one is being made.
        self._waiting: dict[Index, list[Callable[[], None]]] = {}

    def add(
        self, directories: Mapping[Index, Path], definitions: Mapping[Index, Callable[[], bytes]]
    ) -> None:
        """Take further directories and modules."""
        for index, directory in directories.items():
            self._makers[index] = partial(_pack, directory), partial(_directory_refusal, directory)
        for index, define in definitions.items():
            self._makers[index] = define, _definitions_refusal

    def forget(self, index: Index) -> None:
        """Forget one that no function needs any more."""
        self._makers.pop(index, None)

    def pack(self, index: Index, then: Callable[[], None], failed: Callable[[Index, str], None]) -> bool:
        """Make one unless that has been done, then call `then`. Returns False if there is nothing to make.

        `failed` is called with the reason if it can't be made.
        """
        if index not in self._makers:
            return False
        waiting = self._waiting.setdefault(index, [])
        waiting.append(then)
        if len(waiting) == 1:
            make, refusal = self._makers[index]
            # Of a large project it takes a while.
            packing = asyncio.get_running_loop().run_in_executor(None, make)
            packing.add_done_callback(
                partial(self._ended, index, lambda error: failed(index, refusal(error)))
            )
        return True

    def _ended(
        self, index: Index, failed: Callable[[BaseException], None], packing: "asyncio.Future[bytes]"
    ) -> None:
        # It may have been forgotten meanwhile.
        is_needed = self._makers.pop(index, None) is not None
        waiting = self._waiting.pop(index)
        if packing.cancelled():
            return
        error = packing.exception()
        if is_needed and error is not None:
            failed(error)
        elif is_needed:
            self._packed(index, packing.result())
        # Nodes that asked are answered in any case: they wait for it.
        for go_on in waiting:
            go_on()


def _directory_refusal(directory: Path, error: BaseException) -> str:
    remedy = f"; have large data elsewhere, or set {LIMIT_VARIABLE} to more MB"
    advice = remedy if isinstance(error, TooLarge) else ""
    return f"working_dir {str(directory)!r} is not on this node, and can't be sent there: {error}{advice}"


def _definitions_refusal(error: BaseException) -> str:
    return f"modules of the app are not on this node, and can't be sent there: {str_of(error)}; {WAYS_TO_A_MODULE}"


def _pack(directory: Path) -> bytes:
    limit_nbytes = int(float(os.environ.get(LIMIT_VARIABLE, LIMIT_MB)) * _MEGABYTE)
    included = [name.strip() for name in os.environ.get(INCLUDE_VARIABLE, "").split(",")]
    packed = pack(directory, limit_nbytes, included)
    for path, why in packed.withheld.items():
        remedy = f"; set {INCLUDE_VARIABLE}={path.name} to send it" if why is Withheld.PRIVATE else ""
        text = f"{path} is not sent to nodes with working_dir: {why.value}{remedy}"
        log.warning("%s", escape_name(text))
    return packed.archive
