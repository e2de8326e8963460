"""Sources of modules: which modules are a user's own, and whether two processes have the same source of one.

A module is a user's own if it is neither installed nor part of Python nor of this library, and has a source. Nothing here
imports a module to learn about it.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from types import ModuleType
from typing import Final, Protocol, cast

_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_LIBRARY: Final = "handoff_actors"
#: A finder that setuptools installs for an editable install is a class of a module with such a name.
_EDITABLE: Final = "__editable__"
#: Modules of Python itself lie here.
_PYTHON: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - pathlib takes longer, and this is in workers


class _SourceLoader(Protocol):
    """The part of a loader that gives a module's source; loaders of files and of archives have it."""

    def get_data(self, path: str) -> bytes:
        """Give the content of a file. Raises OSError."""


def is_own(module: ModuleType) -> bool:
    """True if a module is a user's own, as its spec has it, or has come here as definitions."""
    spec = vars(module).get("__spec__")
    return isinstance(spec, ModuleSpec) and (is_own_spec(spec) or sent_digest(spec) is not None)


def is_own_spec(spec: ModuleSpec) -> bool:
    """True if a module that was found so is a user's own; also a package without a source of its own."""
    if spec.name.partition(".")[0] == _LIBRARY:
        return False
    place = spec.origin
    if place is None or not spec.has_location:
        # A namespace package has nothing but the directories of its parts.
        places = list(spec.submodule_search_locations or ())
        return bool(places) and all(_is_users(f"{one}{os.sep}") for one in places)
    return (
        _is_users(place)
        and not place.endswith(tuple(EXTENSION_SUFFIXES))
        and hasattr(spec.loader, "get_data")
    )


def _is_users(place: str) -> bool:
    return not place.startswith(_PYTHON) and not any(part in place for part in _INSTALLED)


def source_of(spec: ModuleSpec) -> bytes:
    """Read the source of a user's own module; b"" for a package without one. Raises OSError."""
    if spec.origin is None or not spec.has_location:
        return b""
    return cast("_SourceLoader", spec.loader).get_data(spec.origin)


def digest_of_source(source: bytes) -> bytes:
    """The digest that stands for a source."""
    # By way of hashlib it takes 2 ms to import, for which the first function of each worker would wait.
    from _blake2 import blake2b  # noqa: PLC0415

    return blake2b(source, digest_size=16).digest()


def file_state(path: str) -> tuple[int, int]:
    """The time of the last change, in ns, and the size of a file, which change with its content; (0, 0) if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - it may be no path, but a place in an archive
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def find_spec(name: str, paths: Sequence[str]) -> ModuleSpec | None:
    """Find a module as a process with these paths would, without importing anything; None if it would not."""
    parents = name.split(".")
    where: Sequence[str] = paths
    spec = None
    for depth in range(1, len(parents) + 1):
        partial = ".".join(parents[:depth])
        spec = _find_in(where, partial) or _editable(partial)
        if spec is None:
            return None
        where = list(spec.submodule_search_locations or ())
    return spec


def _find_in(paths: Sequence[str], name: str) -> ModuleSpec | None:
    # Workers start without it, and need only what is above.
    from pkgutil import get_importer  # noqa: PLC0415

    # PathFinder finds nothing in a package without a source of its own, unless that has been imported.
    portions: list[str] = []
    for path in paths:
        finder = get_importer(path)
        spec = None if finder is None else finder.find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        if spec is not None:
            portions += spec.submodule_search_locations or ()
    if not portions:
        return None
    package = ModuleSpec(name, None, is_package=True)
    package.submodule_search_locations = portions
    return package


def _editable(name: str) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if _EDITABLE in getattr(finder, "__module__", ""):
            spec = finder.find_spec(name, None)
            if spec is not None:
                return spec
    return None


def sent_digest(spec: ModuleSpec | None) -> bytes | None:
    """The digest of the source of a module that has come here as definitions; None for any other module."""
    state = None if spec is None else spec.loader_state
    return state if isinstance(state, bytes) else None
