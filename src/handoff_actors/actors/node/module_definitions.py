"""Compares the sources of apps' own modules with what workers of this node would import, and keeps definitions of others."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

from msgspec import Struct

from handoff_actors.ids import RunId
from handoff_actors.lru import LruCache
from handoff_actors.wire.code.sources import digest_of_source, file_state, find_spec, source_of
from handoff_actors.wire.messages.jobs import OwnModules

log = logging.getLogger(__name__)

#: A comparison holds for this long: a service begins hundreds of runs in a second.
_HOLDS_S: Final = 0.1
#: Sets of modules whose definitions are kept while no run uses them.
_UNUSED_KEPT: Final = 8
_FOUND_KEPT: Final = 4096


class Compared(Protocol):
    """Receives the outcome of a comparison."""

    def __call__(self, *, are_needed: bool, are_importable: bool) -> None:
        """Go on: definitions are to be fetched, or not; workers import the modules by themselves, or don't."""


class _Found(Struct, frozen=True):
    """The source of a module, as it was when it was read."""

    path: str
    state: tuple[int, int]
    digest: bytes


class ModuleDefinitions:
    """The definitions of modules that workers of one node can't import from `import_path`, or not from the same sources."""

    def __init__(self, import_path: Callable[[], Sequence[str]]) -> None:
        self._import_path = import_path
        #: By the key of a set of modules, the one that was used last at the end.
        self.kept: dict[bytes, bytes] = {}
        self._used: dict[RunId, set[bytes]] = {}
        #: When a set of modules was found to be importable here.
        self._same_since: LruCache[bytes, float] = LruCache(_UNUSED_KEPT)
        self._found: LruCache[str, _Found] = LruCache(_FOUND_KEPT)

    def need(self, run: RunId, modules: OwnModules, then: Compared) -> None:
        """Compare a run's modules, and call `then`, with True if their definitions are to be brought here.

        `then` is called at once where the comparison is quick.
        """
        key = modules.key
        self._used.setdefault(run, set()).add(key)
        if time.monotonic() - (self._same_since.get(key) or -_HOLDS_S) < _HOLDS_S:
            then(are_needed=False, are_importable=True)
        elif all(name in self._found for name in modules.sources) or key in self.kept:
            self._compared(key, then, are_same=self._are_same(modules, self._import_path()))
        else:
            path = list(self._import_path())
            # File systems may be slow, and there may be many files.
            reading = asyncio.get_running_loop().run_in_executor(None, self._are_same, modules, path)
            reading.add_done_callback(partial(self._read, key, then))

    def keep(self, key: bytes, definitions: bytes) -> None:
        """Keep definitions that were brought here."""
        self.kept[key] = definitions

    def forget(self, run: RunId, keys: Iterable[bytes] | None = None) -> None:
        """Note that a run needs sets of modules no more; None: all of its sets, as it is over."""
        used_by_run = self._used.pop(run, set())
        if keys is not None:
            self._used[run] = used_by_run.difference(keys)
        if not used_by_run or len(self.kept) <= _UNUSED_KEPT:
            return
        used = set[bytes]().union(*self._used.values())
        unused = [key for key in self.kept if key not in used]
        for key in unused[: len(self.kept) - _UNUSED_KEPT]:
            del self.kept[key]

    def _read(self, key: bytes, then: Compared, reading: "asyncio.Future[bool]") -> None:
        if reading.cancelled():
            return
        error = reading.exception()
        if error is not None:
            # Some finder of this process, or a file system, is at fault; definitions do in any case.
            log.warning("sources of an app's modules can't be compared with this node's", exc_info=error)
        self._compared(key, then, are_same=error is None and reading.result())

    def _compared(self, key: bytes, then: Compared, *, are_same: bool) -> None:
        if are_same:
            self._same_since.put(key, time.monotonic())
            self.kept.pop(key, None)
        else:
            self._same_since.put(key, -_HOLDS_S)
        has_definitions = key in self.kept
        if has_definitions:
            self.kept[key] = self.kept.pop(key)
        then(are_needed=not are_same and not has_definitions, are_importable=are_same)

    def _are_same(self, modules: OwnModules, path: Sequence[str]) -> bool:
        # A package without a source of its own is where its modules are.
        return all(
            not digest or self._digest(name, path) == digest for name, digest in modules.sources.items()
        )

    def _digest(self, name: str, path: Sequence[str]) -> bytes | None:
        """The digest of the source that a worker would import; None if it would find none."""
        known = self._found.peek(name)
        if known is not None and known.state == file_state(known.path):
            return known.digest
        spec = find_spec(name, path)
        if spec is None or spec.origin is None or not hasattr(spec.loader, "get_data"):
            return None
        state = file_state(spec.origin)
        try:
            digest = digest_of_source(source_of(spec))
        except OSError:
            return None
        self._found.put(name, _Found(spec.origin, state, digest))
        return digest
