"""The definitions of an app's own modules as bytes, for processes that can't import them.

Each name in a module is a pickle by itself, in which all that other names of such modules stand for is left out and named
instead. So one name that can't be pickled spoils no other, and identity is kept within a module and among modules.
"""

import importlib
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    EllipsisType,
    FunctionType,
    ModuleType,
    NotImplementedType,
)
from typing import Any, Final, NewType, TypeVar

import cloudpickle
from cloudpickle.cloudpickle import _decompose_typevar, _make_typevar

from handoff_actors.errors import SerializationError
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.text import str_of, type_name_of
from handoff_actors.wire.code.by_value_pickler import PROTOCOL, Piece, reduce_code
from handoff_actors.wire.code.classes import reduce_class
from handoff_actors.wire.code.fresh_objects import FRESH_REDUCERS
from handoff_actors.wire.code.functools_objects import (
    LruCacheWrapper,
    is_single_dispatch,
    reduce_cached_property,
    reduce_lru_cache,
    reduce_single_dispatch,
)
from handoff_actors.wire.code.inspection import codes_of, names_in
from handoff_actors.wire.code.memoryviews import reduce_memoryview
from handoff_actors.wire.code.sent_modules import (
    Content,
    NameEntry,
    Place,
    SentModule,
    borrow,
    complete,
    content_of,
    define,
    make_function,
)
from handoff_actors.wire.code.sources import is_own

#: Bytes of all definitions of one set of modules.
MOST_NBYTES: Final = 64 * 2**20
#: Names that each module has for itself.
_PRIVATE: Final = frozenset(
    {
        "__builtins__", "__cached__", "__doc__", "__file__", "__loader__", "__name__", "__package__", "__path__", "__spec__",
    }
)  # fmt: skip
#: Objects of these types have no identity that matters, or none of a module's own.
_COMMON: Final = (
    type(None), bool, int, float, complex, str, bytes, EllipsisType, NotImplementedType, BuiltinFunctionType, ModuleType,
)  # fmt: skip
#: Objects of other types may hold anything, however large.
_STATELESS: Final = (*_COMMON, FunctionType, type, LruCacheWrapper, TypeVar, NewType)


def encode_definitions(modules: Iterable[ModuleType], used: Collection[str] = ()) -> bytes:
    """Encode the definitions of modules, and of other modules of the user's own that these turn out to use.

    A name that can't be pickled is left out, and so is one of an object with a state that is neither in `used` nor in
    the code of any of the modules.
    """
    pending = {module.__name__: module for module in modules}
    contents: dict[str, Content] = {}
    named = _Named(pending, used)
    #: Names of objects with a state, which may hold anything: only those that are used are encoded.
    states: dict[Place, tuple[ModuleType, object]] = {}
    found: list[Place] = []
    while pending or found:
        for place in found:
            module, value = states.pop(place)
            contents[place[0]][-1][place[1]] = _entry(module, value, place[1], named)
        while pending:
            name, module = pending.popitem()
            contents[name] = (
                content_of(module) if isinstance(module, SentModule) else _encoded(module, named, states)
            )
        found = [place for place in states if named.is_used(place)]
    for module_name, name in states:
        contents[module_name][-1][name] = "no function that is sent along uses it"
    return pickle.dumps((PYTHON, contents), PROTOCOL)


class _Named:
    """The objects that modules have names for. Modules that are found to be needed are added to `pending`."""

    def __init__(self, pending: dict[str, ModuleType], used: Collection[str]) -> None:
        self._pending = pending
        self._places: dict[int, Place] = {}
        #: The names of modules, by the identity of their namespaces.
        self.homes: dict[int, str] = {}
        self.modules: set[str] = set()
        self.room_nbytes = MOST_NBYTES
        #: Names in the code of all functions, and those that other names refer to.
        self._used: set[str] = set(used)
        self._referred: set[Place] = set()
        self._elsewhere: dict[int, Place] | None = None
        for module in list(pending.values()):
            self._add(module)

    def place_of(self, value: Any) -> Place | None:
        """The place of an object that is left out of pickles; None for one that is pickled."""
        place = self._places.get(id(value))
        if place is None and _is_definition(value):
            self._discover(value)
            place = self._places.get(id(value))
        if place is not None:
            self._referred.add(place)
        return place

    def is_used(self, place: Place) -> bool:
        """True if a function names such a global, or another name refers to this one."""
        return place[1] in self._used or place in self._referred

    def place_elsewhere(self, value: object) -> Place | None:
        """The place of an object in a module that nodes may have."""
        if self._elsewhere is None:
            self._elsewhere = {}
            for name, module in list(sys.modules.items()):
                if name != "__main__" and type(module) is ModuleType and id(vars(module)) not in self.homes:
                    for key, other in list(vars(module).items()):
                        self._elsewhere.setdefault(id(other), (name, key))
        return self._elsewhere.get(id(value))

    def _discover(self, definition: Any) -> None:
        """Add the module of a definition, if that is one of the user's own."""
        module = sys.modules.get(definition.__module__)
        if module is not None and id(vars(module)) not in self.homes and is_own(module):
            self._pending[module.__name__] = module
            self._add(module)

    def _add(self, module: ModuleType) -> None:
        namespace, name = vars(module), module.__name__
        self.homes[id(namespace)] = name
        self.modules.add(name)
        for key, value in list(namespace.items()):
            for code in codes_of(value):
                self._used.update(names_in(code))
            if key in _PRIVATE or not _has_identity(value):
                continue
            is_definition = _is_definition(value)
            if is_definition:
                self._discover(value)
            is_at_home = is_definition and value.__module__ == name
            if is_at_home or id(value) not in self._places:
                self._places[id(value)] = name, key


def _is_definition(value: object) -> bool:
    # Not `isinstance`, which asks users' objects for their class.
    return issubclass(type(value), FunctionType | type)


def _has_identity(value: Any) -> bool:
    """True for an object that may be of a module's own; not for common values, nor what others define."""
    if issubclass(type(value), FunctionType | type | LruCacheWrapper):
        home = sys.modules.get(value.__module__)
        return home is not None and is_own(home)
    return not issubclass(type(value), _COMMON)


def _encoded(module: ModuleType, named: _Named, states: dict[Place, tuple[ModuleType, object]]) -> Content:
    entries: dict[str, NameEntry] = {}
    for name, value in list(vars(module).items()):
        if name in _PRIVATE:
            continue
        if issubclass(type(value), _STATELESS):
            entries[name] = _entry(module, value, name, named)
        else:
            states[module.__name__, name] = module, value
    namespace = vars(module)
    file = namespace.get("__file__")
    return "__path__" in namespace, file if isinstance(file, str) else None, module.__doc__, entries


def _entry(module: ModuleType, value: object, name: str, named: _Named) -> NameEntry:
    is_here = named.place_of(value) == (module.__name__, name)
    try:
        entry = _pickled(_Root(module.__name__, name, value) if is_here else value, named)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's __reduce__ may even exit
        place = named.place_elsewhere(value)
        if place is None:
            return f"{type_name_of(error)}: {str_of(error)}"
        # A proxy, a logger or a lock that was imported from there.
        entry = pickle.dumps(_Borrowed(*place), PROTOCOL)
    named.room_nbytes -= len(entry)
    return entry


def _pickled(value: object, named: _Named) -> bytes:
    pieces = _Bounded(named.room_nbytes)
    _Pickler(pieces, named).dump(value)
    return b"".join(pieces.pieces)


class _Borrowed:
    """An object that another module has a name for."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def __reduce__(self) -> tuple[Any, ...]:
        return borrow, self._place


class _Root:
    """The object that a name stands for, which is left out of all other pickles."""

    def __init__(self, module: str, name: str, value: object) -> None:
        self.module = module
        self.name = name
        self.value = value


class _Bounded:
    def __init__(self, room_nbytes: int) -> None:
        self.pieces: list[Piece] = []
        self._room_nbytes = room_nbytes

    def write(self, piece: Piece) -> None:
        """Take a piece of a pickle. Raises SerializationError if there are too many bytes."""
        self._room_nbytes -= len(piece)
        if self._room_nbytes < 0:
            raise SerializationError(
                f"definitions of modules may have {MOST_NBYTES:,} bytes; pass large values as arguments"
            )
        self.pieces.append(piece)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, pieces: _Bounded, named: _Named) -> None:
        # The pickler underneath looks for both once, while it is made.
        self._named = named
        self.dispatch_table = ChainMap(dict(_REDUCERS), cloudpickle.Pickler.dispatch_table)
        super().__init__(pieces, PROTOCOL)

    def persistent_id(self, value: object) -> Place | None:
        """See pickle.Pickler."""
        return self._named.place_of(value)

    def reducer_override(self, value: Any) -> Any:
        """See pickle.Pickler."""
        if type(value) is _Root:
            constructor, arguments, *rest = self._reduced(value.value)
            return define, (value.module, value.name, constructor, arguments), *rest
        kind = type(value)
        if kind is FunctionType:
            if is_single_dispatch(value):
                return reduce_single_dispatch(value)
            if id(value.__globals__) in self._named.homes:
                return self._function(value)
            if value.__module__ in self._named.modules:
                # What a decorator of some library has returned: it isn't there yet while its name is loaded.
                return self._dynamic_function_reduce(value)
        elif issubclass(kind, type) and value.__module__ in self._named.modules:
            return reduce_class(value, value.__module__, self._is_sent)
        return super().reducer_override(value)

    def _is_sent(self, definition: type) -> bool:
        return definition.__module__ in self._named.modules

    def _reduced(self, value: Any) -> tuple[Any, ...]:
        kind = type(value)
        if kind is dict:
            return dict, (), None, None, iter(value.items())
        if kind is list:
            return list, (), None, iter(value)
        if kind in {tuple, set, frozenset, bytearray}:
            return kind, (bytes(value) if kind is bytearray else list(value),)
        reduced = self.reducer_override(value)
        if reduced is NotImplemented:
            reducer = self.dispatch_table.get(kind)
            reduced = value.__reduce_ex__(PROTOCOL) if reducer is None else reducer(value)
        if isinstance(reduced, str):
            # Where that name is has to be found elsewhere: here it would stand for itself.
            raise pickle.PicklingError(f"it is pickled as {reduced!r}, which no other module has")
        parts: tuple[Any, ...] = reduced
        return parts

    def _function(self, function: FunctionType) -> tuple[Any, ...]:
        cells = function.__closure__ or ()
        state = (
            function.__defaults__,
            function.__kwdefaults__,
            [_content_of_cell(cell) for cell in cells],
            function.__dict__,
            self._annotations(function),
            function.__qualname__,
            function.__module__,
            function.__doc__,
        )
        home = self._named.homes[id(function.__globals__)]
        arguments = function.__code__, home, function.__name__, len(cells)
        return make_function, arguments, state, None, None, complete

    def _annotations(self, function: FunctionType) -> bytes:
        # They often name modules that only the app has.
        try:
            return _pickled(function.__annotations__, self._named)
        except Exception:  # noqa: BLE001 - they are any objects
            return b""


def _content_of_cell(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _reduce_module(module: ModuleType) -> tuple[Any, ...]:
    if sys.modules.get(module.__name__) is not module:
        raise pickle.PicklingError(f"no module {module.__name__!r} can be imported")
    return importlib.import_module, (module.__name__,)


def _reduce_lru_cache(cached: Any) -> Any:
    home = sys.modules.get(cached.__module__)
    return reduce_lru_cache(cached) if home is not None and is_own(home) else cached.__reduce__()


def _reduce_new_type(new_type: NewType) -> tuple[Any, ...]:
    return NewType, (new_type.__name__, new_type.__supertype__)


def _reduce_type_variable(variable: TypeVar) -> tuple[Any, ...]:
    return _make_typevar, _decompose_typevar(variable)


#: Beside those of cloudpickle.
_REDUCERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    CodeType: reduce_code,
    memoryview: reduce_memoryview,
    ModuleType: _reduce_module,
    SentModule: _reduce_module,
    LruCacheWrapper: _reduce_lru_cache,
    cached_property: reduce_cached_property,
    NewType: _reduce_new_type,
    TypeVar: _reduce_type_variable,
    **FRESH_REDUCERS,
}
