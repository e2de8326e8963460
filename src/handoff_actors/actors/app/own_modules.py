"""Finds the app's own modules that code and values of a run refer to, and tells nodes their sources as the app has them.

Such code and values go to nodes by name, so each node has to have the same modules. It is sent the name and the digest of
each: one whose workers would import the same sources imports them; any other one asks for their definitions, which the app
makes of what it has loaded. That is also how a module that was reloaded, or edited and not reloaded, is told from others.
"""

import re
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.machinery import ModuleSpec
from itertools import islice
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from msgspec import Struct

from handoff_actors.actors.app.loaded_source import LoadedSource, home_of
from handoff_actors.lru import LruCache
from handoff_actors.wire.code.inspection import codes_of
from handoff_actors.wire.code.sources import digest_of_source, is_own, sent_digest

#: Objects of these types have no state that code by value could need; definitions come along in any case.
_STATELESS: Final = (type(None), bool, int, float, complex, str, bytes, FunctionType, type, ModuleType)
#: Members of a container in a module that are looked at.
_MEMBERS: Final = 64
#: Sets of modules, and as many definitions of them.
_SETS_KEPT: Final = 64
_DEFINITIONS_KEPT: Final = 4
#: Modules under these names are the app's script, which is sent by value.
_MAIN: Final = frozenset({"__main__", "__mp_main__"})
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset})
#: The opcode in front of a short string in a pickle; the string's length, a byte, follows it.
_SHORT_STRING: Final = b"\x8c"
_MOST_OF_SHORT: Final = 255
#: Seconds: a service begins hundreds of runs in one.
_LOOKS_EVERY_S: Final = 0.05
#: Only this much of a value, or of code by value, is searched for names of modules.
_SEARCHED_NBYTES: Final = 2**24
_NOTHING: Final[dict[str, Any]] = {}
#: Modules of two apps may have the same names and sources, and other states.
_APP: Final = secrets.token_bytes(16)


class ModuleSet(Struct, frozen=True):
    """Own modules that belong together, each with the digest of its source as this process has loaded it."""

    key: bytes
    sources: dict[str, bytes]
    #: Names of objects in them that code by value may use.
    used: frozenset[str]

    def definitions(self) -> bytes:
        """Their definitions, made once."""
        known = _definitions.get(self.key)
        if known is None:
            # Few apps need it.
            from handoff_actors.wire.code.definitions import encode_definitions  # noqa: PLC0415

            known = encode_definitions(
                (sys.modules[name] for name in self.sources if name in sys.modules), self.used
            )
            _definitions.put(self.key, known)
        return known


_definitions: LruCache[bytes, bytes] = LruCache(_DEFINITIONS_KEPT)


class _Loaded(Struct):
    """A module as it was when it was looked at."""

    source: LoadedSource
    #: Submodules, and what functions import, come later.
    names: int
    #: Other own modules that it refers to.
    uses: list[str]


class LoadedModules:
    """The own modules of this process."""

    def __init__(self) -> None:
        #: The count of all modules, and the one that was imported last.
        self._stamp: tuple[int, str, int] = (0, "", 0)
        self._is_own: dict[str, tuple[ModuleSpec, bool]] = {}
        self._loaded: dict[str, _Loaded] = {}
        #: Answers since files were looked at last, and when that was.
        self._answers: dict[tuple[object, ...], ModuleSet] = {}
        self._looked_at = -_LOOKS_EVERY_S
        self._sets: LruCache[tuple[frozenset[str], frozenset[str]], ModuleSet] = LruCache(_SETS_KEPT)
        self._pattern: re.Pattern[bytes] | None = None
        self._names: frozenset[str] = frozenset()

    def names(self) -> frozenset[str]:
        """The names of all that are loaded now."""
        last = next(reversed(sys.modules))
        stamp = len(sys.modules), last, id(sys.modules[last])
        if stamp != self._stamp:
            self._look()
            self._stamp = stamp
        return self._names

    def named_in(self, pickles: bytes | memoryview) -> set[str]:
        """The names among these that pickles may refer to. Call `names` before."""
        if self._pattern is None:
            return set()
        # The length is in front.
        return {name[1:].decode() for name in self._pattern.findall(pickles)}

    def used_in(self, encoded: bytes | memoryview) -> set[str]:
        """The names of all that a large value may refer to."""
        return self.named_in(memoryview(encoded)[:_SEARCHED_NBYTES]) if self.names() else set()

    def set_of(
        self,
        roots: Iterable[str],
        is_left_out: Callable[[str], bool] | None = None,
        named: Collection[str] = (),
    ) -> ModuleSet | None:
        """These modules and all own ones that they refer to, except those that are sent in some other way.

        `named` are the names in code by value; without `is_left_out` no module is sent otherwise.
        """
        now = time.monotonic()
        looks_at_files = now - self._looked_at >= _LOOKS_EVERY_S
        asked = frozenset(roots), frozenset(named), self._stamp
        if looks_at_files:
            self._looked_at = now
            self._answers.clear()
        known = self._answers.get(asked) if is_left_out is None else None
        if known is not None and self._are_loaded(known.sources):
            return known
        answer = self._found(*asked[:2], is_left_out, looks_at_files=looks_at_files)
        if answer is not None and is_left_out is None:
            self._answers[asked] = answer
        return answer

    def _are_loaded(self, names: Iterable[str]) -> bool:
        """True if none of these has been loaded again, or has got more names, since it was looked at."""
        for name in names:
            known, module = self._loaded[name], sys.modules.get(name)
            namespace = _NOTHING if module is None else vars(module)
            if namespace.get("__spec__") is not known.source.spec or len(namespace) != known.names:
                return False
        return True

    def _found(
        self,
        roots: Collection[str],
        named: Collection[str],
        is_left_out: Callable[[str], bool] | None,
        *,
        looks_at_files: bool,
    ) -> ModuleSet | None:
        reached: set[str] = set()
        pending = [name for root in roots for name in _with_parents(root)]
        while pending:
            name = pending.pop()
            if name in reached or name not in self._names:
                continue
            if is_left_out is not None and is_left_out(name):
                continue
            loaded = self._look_at(name, looks_at_files=looks_at_files)
            if loaded is not None:
                reached.add(name)
                pending += loaded.uses
        if not reached:
            return None
        names, used = frozenset(reached), frozenset(_states_in(reached, set(named)))
        sources = {name: self._loaded[name].source.digest for name in sorted(names)}
        known = self._sets.get((names, used))
        if known is None or known.sources != sources:
            parts = [part for name, digest in sources.items() for part in (name.encode(), b"\0", digest)]
            parts += [part for name in sorted(used) for part in (b"\0", name.encode())]
            known = ModuleSet(digest_of_source(b"".join((_APP, *parts))), sources, used)
            self._sets.put((names, used), known)
        return known

    def _look(self) -> None:
        """Find the own ones among all modules."""
        names: list[str] = []
        for name, module in list(sys.modules.items()):
            spec = vars(module).get("__spec__") if issubclass(type(module), ModuleType) else None
            if name in _MAIN or not isinstance(spec, ModuleSpec) or module.__name__ != name:
                continue
            known = self._is_own.get(name)
            if known is None or known[0] is not spec:
                known = self._is_own[name] = spec, is_own(module)
            if known[1]:
                names.append(name)
        self._names = frozenset(names)
        self._pattern = _pattern_of(names)

    def _look_at(self, name: str, *, looks_at_files: bool) -> _Loaded | None:
        module = sys.modules.get(name)
        spec = None if module is None else vars(module).get("__spec__")
        if module is None or spec is None:
            return None
        known = self._loaded.get(name)
        if known is None or known.source.spec is not spec:
            known = self._loaded[name] = _Loaded(LoadedSource(module, spec), 0, [])
        elif looks_at_files:
            known.source.look(module)
        if known.names != len(vars(module)):
            known.names, known.uses = len(vars(module)), sorted(self._uses(module, spec))
        return known

    def _uses(self, module: ModuleType, spec: ModuleSpec) -> set[str]:
        if sent_digest(spec) is not None:
            # What it refers to has not been loaded yet, and came along with it.
            return {name for name in self._names if sent_digest(sys.modules[name].__spec__) is not None}
        used = set()
        for value in list(vars(module).values()):
            used |= self._used_by(value, spec)
        return {name for one in used for name in _with_parents(one)} & self._names

    def _used_by(self, value: Any, spec: ModuleSpec) -> set[str]:
        used: set[str] = set()
        for part in _parts_of(value):
            if issubclass(type(part), ModuleType):
                used.add(part.__name__)
                continue
            home = home_of(part)
            used.add(home)
            if home == spec.name:
                for code in codes_of(part):
                    used |= self._imported_in(code, spec)
        return used

    def _imported_in(self, code: CodeType, spec: ModuleSpec) -> set[str]:
        """The own modules that a function may import while it runs, as far as they are loaded."""
        package = spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
        names = {*code.co_names, *(f"{package}.{name}" for name in code.co_names if package)}
        used = names & self._names
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                used |= self._imported_in(constant, spec)
        return used


OWN_MODULES: Final = LoadedModules()


def _pattern_of(names: Iterable[str]) -> re.Pattern[bytes] | None:
    """Make the pattern of names as they are in pickles: short strings."""
    encoded = sorted(name.encode() for name in names)
    short = [re.escape(bytes([len(name)]) + name) for name in encoded if len(name) <= _MOST_OF_SHORT]
    return re.compile(_SHORT_STRING + b"(" + b"|".join(short) + b")") if short else None


def _parts_of(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return list(islice(value.values(), _MEMBERS))
    if type(value) in _CONTAINERS:
        return list(islice(value, _MEMBERS))
    return (value,)


def _states_in(modules: Iterable[str], named: set[str]) -> set[str]:
    """Find which of these names are objects with a state in some of the modules."""
    if not named:
        return set()
    return {
        name
        for module in modules
        if module in sys.modules
        for name in named & vars(sys.modules[module]).keys()
        if not issubclass(type(vars(sys.modules[module])[name]), _STATELESS)
    }


def _with_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]
