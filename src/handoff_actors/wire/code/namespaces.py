"""The globals of code that travels by value, where it arrives.

Code by value names its globals by (module, name) instead of carrying them: a process keeps one namespace per module, and
all functions of that module share it, as functions of an imported module do. Beside the code travel *groups*: globals that
the code comes to use, each encoded by itself, with a digest. A group is decoded where the namespace doesn't have it, or has
it with another digest; so a global that functions have set here stays as they have set it until the app's own changes.

    app                        worker, per session
    threshold = 5     ----->   __main__: threshold = 5
    model = None               model = <loaded by the first function that needed it>
    def predict(x)             predict

A worker has a namespace per session, and its `sys.modules["__main__"]` is that of the session it works for. In any other
process, such as the app when a result comes home, names are looked up in the process's own modules first.
"""

import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from types import ModuleType
from typing import Any, Final

#: Module, and name or qualified name.
GlobalName = tuple[str, str]
MAIN: Final = "__main__"


#: An encoding that is larger is dropped once it has been decoded, so that its process hasn't twice as much.
_MOST_KEPT_NBYTES: Final = 64 * 1024


class Group:
    """Globals that refer to one another, in most cases a single one."""

    __slots__ = ("_encoded", "_values", "digest", "names", "needs")

    def __init__(
        self,
        names: tuple[GlobalName, ...],
        digest: bytes,
        needs: tuple[GlobalName, ...],
        encoded: bytes,
    ) -> None:
        self.names = names
        #: Of the encoding, and of all groups that it refers to.
        self.digest = digest
        #: Globals that it refers to, and those that its functions use.
        self.needs = needs
        #: A pickle of the values, in the order of their names; globals of other groups are persistent ids. Or the values.
        self._encoded: bytes | None = encoded
        self._values: tuple[Any, ...] = ()

    @property
    def encoded(self) -> bytes | None:
        """The pickle of the values; None where it was too large to keep."""
        return self._encoded

    def as_tuple(self) -> tuple[tuple[GlobalName, ...], bytes, tuple[GlobalName, ...], bytes]:
        """Give the arguments that make an equal group."""
        assert self._encoded is not None, "groups without an encoding are made anew"
        return self.names, self.digest, self.needs, self._encoded

    def values(self, value_of: Callable[[str, str], Any]) -> tuple[Any, ...]:
        """Decode the values, in the order of their names. Raises the errors of unpickling."""
        if self._encoded is None:
            return self._values
        values: tuple[Any, ...] = _GroupUnpickler(self._encoded, value_of).load()
        if len(self._encoded) > _MOST_KEPT_NBYTES:
            self._encoded, self._values = None, values
        return values


class Namespaces:
    """Modules that hold the globals of code by value."""

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {}
        self._groups: dict[GlobalName, Group] = {}
        #: Values as they were decoded; the modules may have others by now.
        self._values: dict[GlobalName, Any] = {}
        #: Values may be decoded in any thread.
        self._lock = threading.RLock()
        #: Groups that are being decoded.
        self._pending: dict[GlobalName, Group] = {}
        #: Changes with every group that is decoded.
        self.version = 0
        #: Of the encodings of all groups that have been decoded.
        self.nbytes = 0
        #: By executor: the outcome of its initializer, which has set globals here.
        self.initialized: dict[str, Any] = {}
        #: Modules of the app's own that have come as definitions.
        self.sent_modules: Mapping[str, ModuleType] = {}
        #: The digests of modules of the app's own when globals that refer to them were decoded.
        self._sources: dict[str, bytes] = {}

    def have_modules(self, sources: Mapping[str, bytes]) -> None:
        """Note modules of the app's own, with the digests of their sources.

        Globals that refer to a module which the app has reloaded are decoded again, although they read as they did.
        """
        known = self._sources
        reloaded = [name.encode() for name, digest in sources.items() if known.get(name, digest) != digest]
        known.update(sources)
        if reloaded:
            self.version += 1
            for name, group in list(self._groups.items()):
                if group.encoded is None or any(module in group.encoded for module in reloaded):
                    del self._groups[name]

    def module(self, name: str, facts: Mapping[str, Any] | None = None) -> ModuleType:
        """Give the module whose dictionary is the namespace; `facts` are attributes of the app's module."""
        module = self._modules.get(name)
        if module is None:
            module = self._modules[name] = ModuleType(name)
        # The main module is there before any code that knows them.
        vars(module).update(facts or {})
        return module

    def bring(self, groups: Sequence[Group]) -> list[Group]:
        """Decode the groups that are missing or out of date. Raises the errors of unpickling.

        Returns the groups as they are known here, which share the memory of equal ones.
        """
        with self._lock:
            due = {name: group for group in groups if self._is_due(group) for name in group.names}
            self._pending.update(due)
            try:
                for group in _by_needs(due):
                    if group.names[0] in self._pending:
                        self._decode(group)
            finally:
                for name in due:
                    self._pending.pop(name, None)
        return [self._groups.get(group.names[0], group) for group in groups]

    def value(self, module: str, name: str) -> Any:
        """Give a global as it was decoded, by name or qualified name. Raises KeyError, AttributeError."""
        first, *rest = name.split(".")
        if (module, first) in self._pending:
            self._decode(self._pending[module, first])
        return definition_at(self._lookup(module, first), rest)

    def group_of(self, name: GlobalName, value: object) -> Group | None:
        """Give the group that `value` came in, if the global is still the object that was decoded."""
        group = self._groups.get(name) if self._values.get(name, _MISSING) is value else None
        return None if group is None or group.encoded is None else group

    def _lookup(self, module: str, name: str) -> Any:
        return self._values[module, name]

    def _is_due(self, group: Group) -> bool:
        known = map(self._groups.get, group.names)
        return any(other is None or other.digest != group.digest for other in known)

    def _decode(self, group: Group) -> None:
        for name in group.names:
            self._pending.pop(name, None)
        nbytes = 0 if group.encoded is None else len(group.encoded)
        values = group.values(self.value)
        self.version += 1
        self.nbytes += nbytes
        for name, value in zip(group.names, values, strict=True):
            self._set(*name, value)
            self._values[name] = value
            self._groups[name] = group

    def _set(self, module: str, name: str, value: object) -> None:
        vars(self.module(module))[name] = value


def _by_needs(due: Mapping[GlobalName, Group]) -> Iterator[Group]:
    """Yield groups, each after those that its functions use: what is decoded may call them at once, as `__setstate__` does.

    In a circle some come before; one that is part of another's value is decoded with that.
    """
    seen: set[GlobalName] = set()
    for root in due:
        if root in seen:
            continue
        seen.add(root)
        visits = [(due[root], iter(due[root].needs))]
        while visits:
            group, rest = visits[-1]
            other = next((name for name in rest if name in due and name not in seen), None)
            if other is None:
                visits.pop()
                yield group
            else:
                seen.add(other)
                visits.append((due[other], iter(due[other].needs)))


def definition_at(found: Any, path: Iterable[str]) -> Any:
    """Follow a qualified name from a module or class on; of a class or static method this is the function.

    Not `getattr`, which would bind a class method to its class. Raises AttributeError.
    """
    for step in path:
        attributes = vars(found) if isinstance(found, ModuleType | type) else {}
        if step not in attributes:
            raise AttributeError(step)
        found = attributes[step]
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
    return found


class OwnNamespaces(Namespaces):
    """The modules of this process itself, which receive only globals that they lack."""

    def module(self, name: str, facts: Mapping[str, Any] | None = None) -> ModuleType:
        """Give this process's module of that name, or else one that only arriving code knows."""
        return sys.modules.get(name) or super().module(name, facts)

    def _is_due(self, group: Group) -> bool:
        return not all(name in vars(self.module(module)) for module, name in group.names)

    def _lookup(self, module: str, name: str) -> Any:
        return getattr(self.module(module), name)

    def _set(self, module: str, name: str, value: object) -> None:
        vars(self.module(module)).setdefault(name, value)


class _Current:
    """The namespaces of the code that runs now."""

    namespaces: Namespaces = OwnNamespaces()


def current() -> Namespaces:
    """Give the namespaces that code by value is decoded into, and encoded from, now."""
    return _Current.namespaces


def leave(namespaces: Namespaces) -> None:
    """Keep nothing of these namespaces here, if they are the current ones."""
    if namespaces is _Current.namespaces:
        enter(Namespaces())


def enter(namespaces: Namespaces) -> None:
    """Decode into these namespaces from now on; their `__main__` becomes this process's."""
    if namespaces is not _Current.namespaces:
        _Current.namespaces = namespaces
        sys.modules[MAIN] = namespaces.module(MAIN)


# --- Called by pickles ------------------------------------------------------------------------------------------------


def bring(groups: bytes) -> None:
    """Decode groups, as encoded by `encoded_groups`, before the value that needs them."""
    current().bring(decoded_groups(groups))


def globals_of(module: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the namespace of a module."""
    return vars(current().module(module, facts))


def module_of(module: str, facts: Mapping[str, Any]) -> ModuleType:
    """Give the module that stands for a module that travels by value."""
    return current().module(module, facts)


def global_of(module: str, name: str) -> Any:
    """Give a global by its qualified name."""
    return current().value(module, name)


# --- Bytes ------------------------------------------------------------------------------------------------------------


def encoded_groups(groups: Iterable[Group]) -> bytes:
    """Encode groups."""
    written = BytesIO()
    pickler = pickle.Pickler(written, pickle.HIGHEST_PROTOCOL)
    # Without a memo, equal groups are equal bytes, whichever names are the same objects.
    pickler.fast = True
    pickler.dump([group.as_tuple() for group in groups])
    return written.getvalue()


def decoded_groups(encoded: bytes | memoryview) -> list[Group]:
    """Undo `encoded_groups`."""
    return [Group(*group) for group in pickle.loads(encoded)]


class _GroupUnpickler(pickle.Unpickler):
    def __init__(self, encoded: bytes, value: Callable[[str, str], Any]) -> None:
        super().__init__(BytesIO(encoded))
        self._value = value

    def persistent_load(self, name: Any) -> Any:
        """See pickle.Unpickler."""
        return self._value(*name)


_MISSING: Final = object()
