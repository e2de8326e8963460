"""Modules of apps' own in a worker: imported again once the app has reloaded them, or made of definitions.

A worker imports a module once, and so does an app; but an app may reload it. So the worker knows the sources of what it has
imported, and drops modules whose sources differ from those of the app whose function runs next. Modules that have come as
definitions are in `sys.modules` only while functions of their app run, since another app, or the node itself, may have
other modules of the same names.
"""

import importlib
import os
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Final

from handoff_actors.errors import SerializationError, VersionMismatch
from handoff_actors.wire.code.namespaces import Namespaces
from handoff_actors.wire.payload import WAYS_TO_A_MODULE

#: Compiled code that was saved this soon after its source may be of an earlier text: only seconds and sizes are compared.
_RACY_S: Final = 2.0


class JobModules:
    """A set of modules that jobs refer to."""

    __slots__ = ("_namespaces", "definitions", "modules", "sources")

    def __init__(
        self, namespaces: Namespaces, sources: Mapping[str, bytes], definitions: bytes | None
    ) -> None:
        #: Those of the session that the jobs belong to, which keep them.
        self._namespaces = weakref.ref(namespaces)
        self.sources = sources
        #: None: they can be imported.
        self.definitions = definitions
        #: Made of the definitions when they are first needed.
        self.modules: dict[str, ModuleType] = {}

    @property
    def namespaces(self) -> Namespaces:
        """See above. Raises AssertionError once no job of the session is left."""
        namespaces = self._namespaces()
        assert namespaces is not None, "a job keeps the namespaces of its session"
        return namespaces


class ModulesInUse:
    """The modules of apps' own that this process has now."""

    def __init__(self) -> None:
        #: None: those of the node's own.
        self.entered: JobModules | None = None
        #: Modules of the node's own that are out of sight meanwhile.
        self._hidden: dict[str, ModuleType] = {}
        #: Names that have been imported with one another.
        self._imported: list[frozenset[str]] = []
        self._imports = Imports()
        sys.meta_path.insert(0, self._imports)

    def enter(self, modules: JobModules | None) -> None:
        """Have these modules for the jobs that follow. Raises SerializationError; then there are those of the node's own."""
        if modules is self.entered:
            return
        self._leave()
        if modules is None:
            return
        modules.namespaces.have_modules(modules.sources)
        if modules.definitions is None:
            self._import_anew(modules.sources)
        else:
            if not modules.modules:
                self._load(modules, modules.definitions)
            for name, module in modules.modules.items():
                if name in sys.modules:
                    self._hidden[name] = sys.modules[name]
                sys.modules[name] = module
        self.entered = modules

    def _leave(self) -> None:
        left, self.entered = self.entered, None
        if left is None or left.definitions is None:
            return
        for name in left.modules:
            sys.modules.pop(name, None)
        sys.modules.update(self._hidden)
        self._hidden.clear()

    def _import_anew(self, sources: Mapping[str, bytes]) -> None:
        """Drop modules that the app has reloaded, and those that were imported with them."""
        imported = self._imports.digests
        changed = {name for name, digest in sources.items() if imported.get(name, digest) != digest}
        if changed:
            stale = set(sources)
            for names in self._imported:
                if not changed.isdisjoint(names):
                    stale |= names
            for name in stale:
                sys.modules.pop(name, None)
                imported.pop(name, None)
            importlib.invalidate_caches()
        names = frozenset(sources)
        if names not in self._imported:
            self._imported.append(names)

    def _load(self, modules: JobModules, definitions: bytes) -> None:
        # Few workers need it.
        from handoff_actors.wire.code.sent_modules import load_definitions  # noqa: PLC0415

        # What functions of one session refer to is the same for all of them.
        known = modules.namespaces.sent_modules
        if any(
            _digest_of(known[name]) != digest for name, digest in modules.sources.items() if name in known
        ):
            # The app has reloaded some: all are made anew, as they refer to one another.
            known = {}
        try:
            loaded = load_definitions(definitions, known)
        except VersionMismatch as error:
            names = ", ".join(map(repr, sorted(modules.sources)))
            raise SerializationError(
                f"it needs {names}, and this node has not the same source of each: {error}. Either {WAYS_TO_A_MODULE}"
            ) from error
        for name, module in loaded.items():
            if module.__spec__ is not None and name not in known:
                module.__spec__.loader_state = modules.sources.get(name, b"")
        modules.modules = loaded
        modules.namespaces.sent_modules = {**known, **loaded}


def _digest_of(module: ModuleType) -> object:
    return None if module.__spec__ is None else module.__spec__.loader_state


class Imports:
    """A finder in front of all others, which notes the sources of users' own modules that they find."""

    def __init__(self) -> None:
        #: By name of a module that has been imported.
        self.digests: dict[str, bytes] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                self._note(spec)
                return spec
        return None

    def _note(self, spec: ModuleSpec) -> None:
        if type(spec.loader) is not SourceFileLoader or spec.origin is None:
            return
        # Few workers need it.
        from handoff_actors.wire.code.sources import digest_of_source, is_own_spec, source_of  # noqa: PLC0415

        if not is_own_spec(spec):
            return
        try:
            source = source_of(spec)
        except OSError:
            return
        self.digests[spec.name] = digest_of_source(source)
        if _may_be_stale(spec.origin, spec.cached):
            spec.loader = _SourceOnly(spec.name, spec.origin, source)
            spec.cached = None


class _SourceOnly(SourceFileLoader):
    """Loads a module from this source, without compiled code that others have saved."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source: bytes | None = source

    def get_data(self, path: str) -> bytes:
        """See SourceFileLoader. The source is given once, to be compiled; whoever asks later wants to know the file."""
        source = self._source
        if path != self.path or source is None:
            return super().get_data(path)
        self._source = None
        return source

    def path_stats(self, path: str) -> Mapping[str, object]:
        """See SourceFileLoader. Without an answer it neither reads nor writes compiled code."""
        raise OSError(path)


def _may_be_stale(path: str, cached: str | None) -> bool:
    written = os.stat(path).st_mtime  # noqa: PTH116 - pathlib takes longer, and this is in workers
    if time.time() - written < _RACY_S:
        return True
    try:
        return cached is not None and os.stat(cached).st_mtime - written < _RACY_S  # noqa: PTH116
    except OSError:
        return False
