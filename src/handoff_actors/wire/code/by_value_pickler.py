"""Pickling of functions and classes by value, with the globals that they come to use beside them.

A function in a pickle names its namespace, see `wire.code.namespaces`; a class or function that is a global of a module which
travels by value is itself only named. So a pickle is made in two steps: the value, and then one group for each global that
it needs, until no group needs another one. Globals whose values refer to one another in a circle make up one group.
"""

import copyreg
import pickle
import sys
from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import cloudpickle
from cloudpickle.cloudpickle import _extract_code_globals

from handoff_actors.errors import VersionMismatch
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.wire.code import managers
from handoff_actors.wire.code.classes import is_made_by_cloudpickle, reduce_class
from handoff_actors.wire.code.drafts import Draft, circles, keep_draft, kept_draft
from handoff_actors.wire.code.fresh_objects import FRESH_REDUCERS
from handoff_actors.wire.code.functools_objects import (
    LruCacheWrapper,
    is_single_dispatch,
    reduce_cached_property,
    reduce_lru_cache,
    reduce_single_dispatch,
)
from handoff_actors.wire.code.inspection import names_in, names_in_annotations
from handoff_actors.wire.code.memoryviews import reduce_memoryview
from handoff_actors.wire.code.namespaces import (
    MAIN,
    GlobalName,
    Group,
    bring,
    current,
    encoded_groups,
    global_of,
    globals_of,
    module_of,
)
from handoff_actors.wire.code.naming import (
    MAINS,
    is_found_by_name,
    is_not_found_by_name,
    is_registered,
    name_of_definition,
)
from handoff_actors.wire.code.unchanged import fingerprint_of
from handoff_actors.wire.exception_parts import pickles_itself, reduce_exception

PROTOCOL: Final = 5
#: Attributes of a module that its functions may need besides their globals. Not its file, which is not where they arrive.
_FACTS: Final = ("__name__", "__package__", "__path__")
_NOT_STATE: Final = (
    type(None), bool, int, float, complex, str, bytes, type, FunctionType, BuiltinFunctionType, ModuleType,
)  # fmt: skip

Piece = bytes | bytearray
#: By type: a function that stands in for `__reduce__` of objects of exactly this type.
Reducers = Mapping[type, Callable[[Any], Any]]


class Pieces:
    """The file that a pickler writes to; it keeps large bytes as they are."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.write = pieces.append


# --- Globals ----------------------------------------------------------------------------------------------------------


class GlobalsEncoder:
    """Encodes the globals that code by value needs."""

    def __init__(self) -> None:
        self._needed: dict[GlobalName, None] = {}
        #: Names of modules that what has been encoded refers to, and names that might be such.
        self.modules: set[str] = set()
        self._namespaces: dict[str, dict[str, Any]] = {}
        #: Globals with a state, by identity; None: to be found out.
        self._names: dict[int, GlobalName] | None = None

    @property
    def is_empty(self) -> bool:
        """True while nothing has been needed."""
        return not self._needed

    def namespace_of(self, variables: dict[str, Any]) -> str | None:
        """Give the name of the module whose dictionary this is; None if no module's."""
        name = variables.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is None or vars(module) is not variables:
            return None
        key = MAIN if name in MAINS else str(name)
        self._enter(key, variables)
        return key

    def need(self, name: GlobalName) -> None:
        """Note that a global has to be there where the code arrives."""
        if name not in self._needed:
            self._needed[name] = None

    def name_of(self, value: object) -> GlobalName | None:
        """Give the name of a global that has a state and is this very object."""
        return self._states().get(id(value))

    def has_states(self, others_than: Collection[GlobalName]) -> bool:
        """True if there are globals with a state besides these."""
        return any(name not in others_than for name in self._states().values())

    def groups(self) -> list[Group]:
        """Encode everything that is needed, in an order in which each group follows those that it refers to.

        Raises the errors of cloudpickle, or of a value.
        """
        drafts: dict[GlobalName, Draft] = {}
        # Encoding one global may show that others are needed.
        while missing := [name for name in self._needed if name not in drafts]:
            for name in missing:
                drafts[name] = self._draft_of(name)
                self.modules |= drafts[name].modules
                for needed in drafts[name].needs:
                    self.need(needed)
        groups: dict[GlobalName, Group] = {}
        for circle in circles({name: draft.refers_to for name, draft in drafts.items()}):
            draft = drafts[circle[0]] if len(circle) == 1 else self._draft(tuple(sorted(circle)))
            group = draft.group({name: groups[name].digest for name in draft.refers_to if name in groups})
            groups.update(dict.fromkeys(draft.names, group))
        return list(dict.fromkeys(groups.values()))

    def _draft_of(self, name: GlobalName) -> Draft:
        value = self._value(name)
        known = current().group_of(name, value)
        if known is not None:
            return Draft.of_group(known)
        fingerprint = fingerprint_of(value)
        if fingerprint is None:
            return self._draft((name,))
        kept = kept_draft(name, fingerprint)
        if kept is not None and self._still_needs(kept):
            return kept
        draft = self._draft((name,))
        keep_draft(name, fingerprint, draft)
        return draft

    def _still_needs(self, draft: Draft) -> bool:
        """True if the globals that a draft's functions name are there, or not, as they were."""
        for module, name in draft.needs:
            if name not in self._variables(module):
                return False
        return not any(name in self._variables(module) for module, name in draft.lacks)

    def _draft(self, names: tuple[GlobalName, ...]) -> Draft:
        pieces: list[Piece] = []
        if self.has_states(names):
            pickler: ByValuePickler = _GroupPickler(Pieces(pieces), self, names)
        else:
            # Faster, as it is not asked about every part.
            pickler = ByValuePickler(Pieces(pieces), None, self, FRESH_REDUCERS, inline=names)
        pickler.dump(tuple(map(self._value, names)))
        return Draft(names, pickler.referred, pickler.needs, pickler.lacks, pickler.modules, b"".join(pieces))

    def _value(self, name: GlobalName) -> Any:
        return self._variables(name[0])[name[1]]

    def _variables(self, key: str) -> dict[str, Any]:
        if key not in self._namespaces:
            self._enter(key, vars(sys.modules[key]))
        return self._namespaces[key]

    def _enter(self, key: str, variables: dict[str, Any]) -> None:
        if key not in self._namespaces:
            self._namespaces[key] = variables
            self._names = None

    def _states(self) -> dict[int, GlobalName]:
        if self._names is None:
            self._names = {}
            for key, variables in self._namespaces.items():
                for name, value in variables.items():
                    # Not `isinstance`, which asks users' objects for their class.
                    if not issubclass(type(value), _NOT_STATE) and not name.startswith("__"):
                        self._names.setdefault(id(value), (key, name))
        return self._names


# --- Reducers -------------------------------------------------------------------------------------------------------


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Reduce code to its parts, marked with the version of Python that it is from."""
    _, parts = cloudpickle.Pickler.dispatch_table[CodeType](code)
    # Since 3.1.3 cloudpickle forgets the file, without which tracebacks have no lines of source.
    return code_of_python, (PYTHON, code.co_filename, *parts)


def code_of_python(python: str, filename: str, *parts: Any) -> CodeType:
    """Rebuild code that this minor version of Python took apart. Another version's would crash the process when it runs.

    Raises VersionMismatch.
    """
    if python != PYTHON:
        raise VersionMismatch(
            f"it has code that was pickled by value with Python {python}, and this is Python {PYTHON}: "
            "have that code in a module which both import, or run all that use it on one version"
        )
    return CodeType(*parts).replace(co_filename=filename)


# --- Picklers ---------------------------------------------------------------------------------------------------------


_REDUCERS: Final[Reducers] = {
    **cloudpickle.Pickler.dispatch_table.maps[0],
    memoryview: reduce_memoryview,
    CodeType: reduce_code,
    cached_property: reduce_cached_property,
}


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """A cloudpickle pickler that names globals, and pickles memoryviews and objects of functools, too.

    Memoryviews arrive as read-only views of the bytes sent. Code is marked as such, with the version of Python that it is
    from.
    """

    def __init__(
        self,
        pieces: Pieces,
        buffers: list[pickle.PickleBuffer] | None,
        encoder: GlobalsEncoder,
        reducers: Reducers | None = None,
        *,
        root: object = None,
        inline: Collection[GlobalName] = (),
        shared: Collection[GlobalName] | None = None,
    ) -> None:
        # The pickler underneath looks for it once, while it is made; in a ChainMap, it takes three times as long to look up.
        self.dispatch_table = {**copyreg.dispatch_table, **_REDUCERS, **(reducers or {})}
        super().__init__(pieces, PROTOCOL, buffer_callback=None if buffers is None else buffers.append)
        self._encoder = encoder
        #: The function that is pickled itself even if it is a global.
        self._root = root
        #: Globals that are being pickled themselves.
        self._inline = inline
        #: Globals with a state that are only named; None: none, and nobody asks which are met.
        self._shared = shared
        self._namespaces: dict[str, _Namespace] = {}
        #: Globals whose values are part of what is pickled, and those that functions in it use.
        self.referred: dict[GlobalName, None] = {}
        self.needs: dict[GlobalName, None] = {}
        #: Globals that functions in it name and that don't exist.
        self.lacks: set[GlobalName] = set()
        #: As in GlobalsEncoder.
        self.modules: set[str] = set()
        #: Globals with a state that were met and not shared.
        self.met: dict[GlobalName, None] = {}

    def reducer_override(self, obj: Any) -> Any:
        """See pickle.Pickler."""
        kind = type(obj)
        if kind is FunctionType or kind is LruCacheWrapper or issubclass(kind, type):
            name = None if obj is self._root else name_of_definition(obj)
            if name is not None and (name[0], name[1].partition(".")[0]) not in self._inline:
                return self._named(name)
            return self._reduce_definition(kind, obj)
        if kind is ModuleType:
            return self._reduce_module(obj)
        if "_keeps_captures_pristine" in vars(kind):
            # Code that is bytes already.
            self.modules |= obj.code_modules
        if managers.may_be_there():
            reduced = managers.reduce_object(obj)
            if reduced is not NotImplemented:
                return reduced
        if issubclass(kind, BaseException):
            return self._reduce_exception(obj)
        return self._reduce_global(obj) if kind is object or self._shared is not None else NotImplemented

    def _reduce_exception(self, error: BaseException) -> Any:
        named = NotImplemented if self._shared is None else self._reduce_global(error)
        if named is not NotImplemented or pickles_itself(type(error)):
            return named
        return reduce_exception(error)

    def _reduce_global(self, obj: object) -> Any:
        """Name an object that is a global with a state, or take note of it."""
        name = self._encoder.name_of(obj)
        if name is None or name in self._inline:
            return NotImplemented
        if type(obj) is object or name in (self._shared or ()):
            return self._named(name)
        self.met[name] = None
        return NotImplemented

    def _reduce_definition(self, kind: type, obj: Any) -> Any:
        if kind is LruCacheWrapper:
            return obj.__qualname__ if is_found_by_name(obj) else reduce_lru_cache(obj)
        if kind is FunctionType and is_single_dispatch(obj):
            return reduce_single_dispatch(obj)
        reduced = super().reducer_override(obj)
        if issubclass(kind, type):
            # cloudpickle takes the main module of multiprocessing's children for one that others can import.
            is_of_main = obj.__module__ in MAINS
            if is_made_by_cloudpickle(reduced) or (is_of_main and reduced is NotImplemented):
                home = sys.modules.get(obj.__module__)
                self._need_annotations(obj, {} if home is None else vars(home))
                return reduce_class(obj, MAIN if is_of_main else obj.__module__, is_not_found_by_name)
        if reduced is NotImplemented:
            self.modules.add(obj.__module__)
        return reduced

    def _needed(self, name: GlobalName) -> None:
        self._encoder.need(name)
        self.needs[name] = None

    def _need_annotations(self, definition: Any, variables: dict[str, Any]) -> None:
        """Take along what annotations that are text refer to, for `typing.get_type_hints`: what others can't import."""
        key = self._encoder.namespace_of(variables) or ""
        for name in names_in_annotations(definition):
            value = variables.get(name)
            if issubclass(type(value), FunctionType | type) and name_of_definition(value) is not None:
                self._needed((key, name))

    def _named(self, name: GlobalName) -> tuple[Any, ...]:
        first = (name[0], name[1].partition(".")[0])
        self._needed(first)
        self.referred[first] = None
        return global_of, name

    def _function_reduce(self, obj: FunctionType) -> Any:
        if obj.__module__ in MAINS:
            return self._dynamic_function_reduce(obj)
        return super()._function_reduce(obj)

    def _dynamic_function_reduce(self, func: FunctionType) -> tuple[Any, ...]:
        make, arguments, (state, slots), *rest = super()._dynamic_function_reduce(func)
        key = self._encoder.namespace_of(func.__globals__)
        if key is not None:
            code, _, *others = arguments
            arguments = (code, self._namespace(key, func.__globals__), *others)
            for name in slots["__globals__"]:
                self._needed((key, name))
            self._need_annotations(func, func.__globals__)
            names = _extract_code_globals(func.__code__)
            self.lacks.update((key, name) for name in names if name not in func.__globals__)
            self.modules |= _importable_names(func.__code__, func.__globals__.get("__package__"))
            slots["__globals__"] = {}
        if slots["__module__"] in MAINS:
            slots["__module__"] = MAIN
        return make, arguments, (state, slots), *rest

    def _namespace(self, key: str, variables: Mapping[str, Any]) -> "_Namespace":
        # One object for each, so that the pickle has it once.
        known = self._namespaces.get(key)
        if known is None:
            known = self._namespaces[key] = _Namespace(globals_of, key, _facts(key, variables))
        return known

    def _reduce_module(self, module: ModuleType) -> Any:
        name = module.__name__
        if name in MAINS or not is_registered(name) or sys.modules.get(name) is not module:
            self.modules.add(name)
            return NotImplemented
        for attribute in vars(module):
            if not attribute.startswith("__"):
                self._encoder.need((name, attribute))
                self.needs[name, attribute] = None
        return module_of, (name, _facts(name, vars(module)))


class _GroupPickler(ByValuePickler):
    """Pickles globals; others that they refer to are only named."""

    def __init__(self, pieces: Pieces, encoder: GlobalsEncoder, names: tuple[GlobalName, ...]) -> None:
        super().__init__(pieces, None, encoder, FRESH_REDUCERS, inline=names)

    def persistent_id(self, part: object) -> GlobalName | None:
        """See pickle.Pickler."""
        name = self._encoder.name_of(part)
        if name is None or name in self._inline:
            return None
        self._named(name)
        return name


class _Namespace:
    """Stands for a module or its dictionary in a pickle."""

    def __init__(self, give: Callable[..., Any], key: str, facts: Mapping[str, Any]) -> None:
        self._reduced = (give, (key, facts))

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def _facts(key: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: variables[name] for name in _FACTS if variables.get(name) is not None}
    return facts | {"__name__": key}


def _importable_names(code: CodeType, package: object) -> set[str]:
    """Names in a function that it might import, if there are such modules."""
    names = set(names_in(code))
    return names | {f"{package}.{name}" for name in names} if isinstance(package, str) and package else names


# --- A pickle, and the groups before it -------------------------------------------------------------------------------


def prologue(encoder: GlobalsEncoder) -> list[Piece]:
    """Give the beginning of a pickle that brings what is needed, in front of the pickle that needs it; none without need."""
    if encoder.is_empty:
        return []
    groups = encoded_groups(encoder.groups())
    return [
        b"".join(
            (
                pickle.PROTO,
                bytes((PROTOCOL,)),
                pickle.GLOBAL,
                f"{bring.__module__}\n{bring.__name__}\n".encode(),
                pickle.BINBYTES8,
                len(groups).to_bytes(8, "little"),
                groups,
                pickle.TUPLE1,
                pickle.REDUCE,
                pickle.POP,
            )
        )
    ]


def pickled_code(code: Any, modules: set[str] | None = None) -> tuple[bytes, list[Group]]:
    """Pickle code by value, apart from the globals that it needs. Raises the errors of cloudpickle, or of a value.

    The names of modules that it may import are added to `modules`.

    What the code captures is in the pickle, so that each call can have it as it is now. But where the code also uses it by
    its global name, as with a sentinel that is a default, it is that global.
    """
    shared: set[GlobalName] = set()
    while True:
        encoder, pieces = GlobalsEncoder(), list[Piece]()
        pickler = ByValuePickler(
            Pieces(pieces), None, encoder, FRESH_REDUCERS, root=_own(code), shared=shared
        )
        pickler.dump(code)
        used = pickler.met.keys() & pickler.needs.keys() - _bound(code, encoder)
        if not used:
            groups = encoder.groups()
            if modules is not None:
                modules |= encoder.modules | pickler.modules
            return b"".join(pieces), groups
        shared |= used


def _bound(code: Any, encoder: GlobalsEncoder) -> set[GlobalName]:
    """Give the name of the object that a method is bound to, which is never shared."""
    name = encoder.name_of(code.__self__) if type(code) is MethodType else None
    return set() if name is None else {name}


def _own(code: Any) -> object:
    """Give the function that has to be pickled itself, as it captures something; None for one that any call can share."""
    inner: Any = code
    while type(inner) is partial or type(inner) is MethodType:
        inner = getattr(inner, "func" if type(inner) is partial else "__func__")
    captures_something = type(inner) is FunctionType and (
        inner.__closure__ or inner.__defaults__ or inner.__kwdefaults__ or vars(inner)
    )
    return inner if captures_something else None
