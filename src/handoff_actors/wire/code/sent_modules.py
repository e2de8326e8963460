"""Modules that have come as definitions, see `wire.code.definitions`: a name in them is loaded when it is first looked up.

With a name come the globals that its functions use, and so on; what a process lacks for other names does not matter. The
functions of a module share its namespace, as after an import, but no module's own code runs.
"""

import builtins
import importlib
import pickle
import threading
import weakref
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from io import BytesIO
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, Final

from handoff_actors.errors import SerializationError, VersionMismatch
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.text import str_of, type_name_of
from handoff_actors.wire.code.inspection import names_in, names_in_annotations

_NONE: Final[Mapping[str, ModuleType]] = {}

#: A module and a name in it.
Place = tuple[str, str]
#: The pickle of a name, or the reason why there is none.
NameEntry = bytes | str
#: Whether the module is a package, its file, its documentation, and its entries.
Content = tuple[bool, str | None, str | None, dict[str, NameEntry]]


class SentModule(ModuleType):
    """A module that has come as definitions."""

    def __init__(self, name: str, content: Content, loader: "_Loader") -> None:
        is_package, file, documentation, _ = content
        super().__init__(name, documentation)
        namespace = vars(self)
        namespace["__builtins__"] = builtins
        namespace["__package__"] = name if is_package else name.rpartition(".")[0]
        namespace["__spec__"] = ModuleSpec(name, None, is_package=is_package)
        if is_package:
            namespace["__path__"] = []
        if file is not None:
            namespace["__file__"] = file
        _contents[self] = content, loader

    def __getattr__(self, name: str) -> Any:
        """Load a name. Raises AttributeError, and SerializationError for a name that the app has and this process can't."""
        (_, _, _, entries), loader = _contents[self]
        if name in entries and name != "__getattr__":
            return loader.load(self.__name__, name)
        if "__getattr__" in entries:
            return loader.load(self.__name__, "__getattr__")(name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        (_, _, _, entries), _ = _contents[self]
        return sorted(vars(self).keys() | entries.keys())


#: Not in the modules themselves, whose namespaces are users'.
_contents: "weakref.WeakKeyDictionary[SentModule, tuple[Content, _Loader]]" = weakref.WeakKeyDictionary()


def load_definitions(data: bytes, known: Mapping[str, ModuleType] = _NONE) -> dict[str, ModuleType]:
    """Make the modules that `encode_definitions` has encoded, except for those that are `known`, and return them by name.

    Those that are known get names that could not be had before: what is sent depends on what functions use.
    They are not put into `sys.modules`, and have to be there while they are used. Raises VersionMismatch: code by value is
    of one minor version of Python.
    """
    python, contents = pickle.loads(data)
    if python != PYTHON:
        raise VersionMismatch(
            f"their definitions have come from Python {python}, and this is Python {PYTHON}"
        )
    loader = _Loader(contents, known)
    for name in known.keys() & contents.keys():
        _, own_loader = _contents_of(known[name])
        own_loader.extend(name, contents[name][3], loader.modules)
    return dict(loader.modules)


def define(module: str, name: str, constructor: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Stand in pickles for `_Loader.define`."""
    raise AssertionError(f"only definitions have {(module, name, constructor, arguments)}")


def make_function(code: CodeType, module: str, name: str, cells: int) -> FunctionType:
    """Stand in pickles for `_Loader.make_function`."""
    raise AssertionError(f"only definitions have {(code, module, name, cells)}")


def borrow(module: str, name: str) -> Any:
    """Give what another module has under a name. Raises ImportError, AttributeError."""
    return getattr(importlib.import_module(module), name)


class _Loader:
    """Loads the names of modules that refer to one another."""

    def __init__(self, contents: Mapping[str, Content], known: Mapping[str, ModuleType]) -> None:
        self._entries = {name: content[3] for name, content in contents.items()}
        self.modules = {
            name: known[name] if name in known else SentModule(name, content, self)
            for name, content in contents.items()
        }
        #: Objects that names stand for and that are not complete yet.
        self._begun: dict[Place, Any] = {}
        self._loading: set[Place] = set()
        #: Names that functions loaded since use as globals.
        self._needed: list[Place] = []
        self._depth = 0
        self._lock = threading.RLock()

    def extend(
        self, module: str, entries: Mapping[str, NameEntry], modules: Mapping[str, ModuleType]
    ) -> None:
        """Take names of a module that could not be had before; `modules` are those that they may refer to."""
        with self._lock:
            for name, other in modules.items():
                self.modules.setdefault(name, other)
            own, namespace = self._entries[module], vars(self.modules[module])
            for name, entry in entries.items():
                if isinstance(entry, bytes) and not isinstance(own.get(name), bytes):
                    own[name] = entry
                    if type(namespace.get(name)) is LeftOut:
                        # Functions that use it look into the namespace alone.
                        del namespace[name]
                        self._needed.append((module, name))
            self._load_needed()

    def load(self, module: str, name: str) -> Any:
        """Load a name, and the globals that its functions use. Raises SerializationError."""
        with self._lock:
            self._depth += 1
            try:
                value = self._load(module, name)
            finally:
                self._depth -= 1
            if not self._depth:
                self._load_needed()
        return value

    def _load(self, module: str, name: str) -> Any:
        namespace, place = vars(self.modules[module]), (module, name)
        if name in namespace:
            return namespace[name]
        if place in self._begun:
            return self._begun[place]
        entry = self._entries[module][name]
        if isinstance(entry, str):
            raise SerializationError(_unavailable(place, f"it can't be sent along: {entry}"))
        if place in self._loading:
            raise SerializationError(_unavailable(place, "it refers to itself before it is made"))
        self._loading.add(place)
        try:
            value = namespace[name] = _Unpickler(entry, self).load()
            if issubclass(type(value), type):
                self._need_annotations(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            reason = f"{type_name_of(error)}: {str_of(error)}"
            raise SerializationError(_unavailable(place, f"it can't be loaded: {reason}")) from error
        finally:
            self._begun.pop(place, None)
            self._loading.discard(place)
        return value

    def _load_needed(self) -> None:
        while self._needed:
            module, name = self._needed.pop()
            namespace = vars(self.modules[module])
            if name in namespace:
                continue
            try:
                self._depth += 1
                self._load(module, name)
            except SerializationError as error:
                namespace[name] = LeftOut(error)
            finally:
                self._depth -= 1

    def load_needed_now(self) -> None:
        """Load what functions so far need, before code is called that may call them; what can't be had yet comes later."""
        later: list[Place] = []
        while self._needed:
            place = self._needed.pop()
            try:
                self._load(*place)
            except SerializationError:
                later.append(place)
        self._needed = later

    def _need_annotations(self, definition: Any) -> None:
        module = definition.__module__
        entries = self._entries.get(module, {})
        self._needed += [(module, name) for name in names_in_annotations(definition) if name in entries]

    def define(
        self, module: str, name: str, constructor: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        """Make the object that a name stands for, so that its parts can refer to it while they are loaded."""
        value = self._begun[module, name] = constructor(*arguments)
        return value

    def make_function(self, code: CodeType, module: str, name: str, cells: int) -> FunctionType:
        """Make a function of a module; the rest of it follows."""
        self._needed += [(module, used) for used in names_in(code) if used in self._entries[module]]
        closure = tuple(CellType() for _ in range(cells))
        return FunctionType(code, vars(self.modules[module]), name, None, closure)

    def complete(self, function: FunctionType, state: tuple[Any, ...]) -> None:
        """Give a function what it may refer to itself in."""
        defaults, keyword_defaults, contents, attributes, annotations, qualname, module, documentation = state
        function.__defaults__, function.__kwdefaults__ = defaults, keyword_defaults
        for cell, content in zip(function.__closure__ or (), contents, strict=True):
            if content:
                (cell.cell_contents,) = content
        function.__dict__.update(attributes)
        function.__qualname__, function.__module__, function.__doc__ = qualname, module, documentation
        if annotations:
            try:
                function.__annotations__ = _Unpickler(annotations, self).load()
            except Exception:  # noqa: BLE001 - they may name what this process lacks, and hardly anything uses them
                function.__annotations__ = {}
        self._need_annotations(function)


def complete(function: FunctionType, state: tuple[Any, ...]) -> None:
    """Stand in pickles for `_Loader.complete`."""
    raise AssertionError(f"only definitions have {(function, state)}")


class _Unpickler(pickle.Unpickler):
    def __init__(self, entry: bytes, loader: _Loader) -> None:
        super().__init__(BytesIO(entry))
        self._loader = loader

    def find_class(self, module: str, name: str) -> Any:
        """See pickle.Unpickler."""
        if module == __name__ and name != borrow.__name__:
            return getattr(self._loader, name)
        return super().find_class(module, name)

    def persistent_load(self, place: Any) -> Any:
        """See pickle.Unpickler."""
        module, name = place
        loader = _loader_of(self._loader.modules[module])
        value = loader.load(module, name)
        # It may be called at once, as `__setstate__` is, or what `__reduce__` gives.
        loader.load_needed_now()
        return value


def content_of(module: SentModule) -> Content:
    """The content that a module was made of."""
    return _contents[module][0]


def _loader_of(module: ModuleType) -> "_Loader":
    return _contents_of(module)[1]


def _contents_of(module: ModuleType) -> "tuple[Content, _Loader]":
    assert isinstance(module, SentModule)
    return _contents[module]


def _unavailable(place: Place, reason: str) -> str:
    module, name = place
    return f"{name!r} of module {module!r} is not on this node, which can't import that module: {reason}"


class LeftOut:
    """A global of a module that could not be sent or loaded. Any use of it says why."""

    def __init__(self, error: SerializationError) -> None:
        object.__setattr__(self, "_error", error)

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_error')}>"

    def __getattr__(self, _name: str) -> Any:
        raise object.__getattribute__(self, "_error")


def _refuse(left_out: LeftOut, *_: object, **__: object) -> Any:
    raise object.__getattribute__(left_out, "_error")


for _special in [
    "call",
    "getitem",
    "setitem",
    "delitem",
    "iter",
    "len",
    "bool",
    "contains",
    "enter",
    "aenter",
    "await",
    "aiter",
    "next",
    "setattr",
    "instancecheck",
    "subclasscheck",
    "mro_entries",
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "truediv",
    "rtruediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "or",
    "ror",
    "and",
    "rand",
    "lt",
    "le",
    "gt",
    "ge",
    "int",
    "float",
    "index",
    "str",
    "bytes",
    "format",
    "neg",
    "invert",
]:
    setattr(LeftOut, f"__{_special}__", _refuse)
