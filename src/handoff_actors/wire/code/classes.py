"""Classes that travel by value, and are made again as they are: no code of theirs runs where they arrive.

A class statement calls code of the user's: a metaclass, `__init_subclass__` of a base, and for members of enumerations
`__new__` and `__init__`. That was done where the class comes from, with arguments that it does not keep, and its outcome is
in the attributes of the class and of the members. cloudpickle, which does the rest, would call it again; it also leaves out
slots, aliases of members, and what members have besides their values.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import EnumMeta, member
from types import MemberDescriptorType, resolve_bases
from typing import Any, Final

from cloudpickle.cloudpickle import (
    _class_getnewargs,
    _class_getstate,
    _class_setstate,
    _get_or_create_tracker_id,
    _lookup_class_or_track,
    _make_skeleton_class,
    _make_skeleton_enum,
)

#: What the metaclass of enumerations makes by itself.
_MADE_BY_ENUM_META: Final = frozenset(
    {
        "_generate_next_value_", "_member_names_", "_member_map_", "_member_type_", "_value2member_map_",
        "_hashable_values_", "_unhashable_values_", "_unhashable_values_map_",
    }
)  # fmt: skip
#: What each member has by itself.
_OF_ANY_MEMBER: Final = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})

#: The name, the value, and the arguments of `__new__` of the type that is mixed in.
_MemberParts = tuple[str, Any, tuple[Any, ...]]


def is_made_by_cloudpickle(reduced: Any) -> bool:
    """True if this is how cloudpickle reduces a class that travels by value."""
    return type(reduced) is tuple and reduced[0] in {_make_skeleton_class, _make_skeleton_enum}


def reduce_class(cls: type, module: str, is_sent: Callable[[type], bool]) -> tuple[Any, ...]:
    """Stand in for `__reduce__` of a class, which is to have this module's name; `is_sent` tells of others that travel so."""
    metaclass: type = type(cls)
    maker = next(kind for kind in type.mro(metaclass) if not is_sent(kind))
    variables, slot_state = _class_getstate(cls)
    attributes: dict[str, Any] = {"__module__": module, "__qualname__": cls.__qualname__}
    variables["__module__"] = module
    if issubclass(metaclass, EnumMeta):
        return _reduce_enum(cls, maker, attributes, variables)
    _, name, bases, more, tracker, _ = _class_getnewargs(cls)
    attributes = {**more, **attributes}
    if maker is type and bases is not cls.__bases__:
        # Generic ones. What else has stood there, such as NamedTuple, would take part in making the class.
        attributes["__orig_bases__"], bases = bases, cls.__bases__
    if "__slots__" in variables:
        attributes["__slots__"] = variables.pop("__slots__")
        variables = {
            name: value
            for name, value in variables.items()
            if type(value) is not MemberDescriptorType or value.__objclass__ is not cls
        }
    hook = next(base for base in cls.__mro__[1:] if "__init_subclass__" in vars(base))
    arguments = maker, metaclass, name, bases, attributes, tracker, is_sent(hook)
    return make_class, arguments, (variables, slot_state), None, None, _class_setstate


def make_class(
    maker: Any,
    metaclass: type,
    name: str,
    bases: tuple[Any, ...],
    attributes: Mapping[str, Any],
    tracker: str,
    has_hook: bool,
) -> type:
    """Make a class without most of its attributes, as a class statement does where `maker` is the metaclass.

    `maker` is what the class's own metaclass derives from and is not sent itself: `type`, in most cases. With `has_hook`, a
    base has an `__init_subclass__` that is not to be called.
    """
    resolved = resolve_bases(bases)
    if resolved is not bases:
        attributes = {**attributes, "__orig_bases__": bases}

    def made_with(bases: tuple[type, ...]) -> type:
        namespace = maker.__prepare__(name, bases)
        namespace.update(attributes)
        made: type = maker.__new__(metaclass, name, bases, namespace)
        maker.__init__(made, name, bases, namespace)
        return made

    made = _made_behind_shield(made_with, resolved) if has_hook else made_with(resolved)
    # The same class again, where it has come before, or comes from.
    known: type = _lookup_class_or_track(tracker, made)
    return known


def _made_behind_shield(made_with: Callable[[tuple[type, ...]], type], bases: tuple[type, ...]) -> type:
    """Make a class with another base, whose hook does nothing, and take that base away again.

    Python allows that for bases of the same layout, such as a sibling of the class that has the hook.
    """
    of_bases = (kind for base in bases for kind in base.__mro__[:-1])
    owner = next(kind for kind in of_bases if "__init_subclass__" in vars(kind))
    namespace = {name: value for name, value in vars(owner).items() if name == "__orig_bases__"}
    namespace["__init_subclass__"] = classmethod(_do_nothing)

    def made_behind(namespace: dict[str, Any]) -> type:
        root: Any = owner.__base__
        made = made_with((type.__new__(type(root), "Shield", (root,), namespace), *bases))
        type.__dict__["__bases__"].__set__(made, bases)
        return made

    try:
        return made_behind(namespace)
    except TypeError:
        # Instances of the sibling have no dictionary.
        return made_behind({**namespace, "__slots__": ()})


def _do_nothing(*_arguments: Any, **_options: Any) -> None:
    """Stand in for `__init_subclass__` and `__init__`."""


# --- Enumerations -----------------------------------------------------------------------------------------------------


def _reduce_enum(
    cls: Any, maker: type, attributes: Mapping[str, Any], variables: dict[str, Any]
) -> tuple[Any, ...]:
    members: Mapping[str, Any] = cls.__members__
    for name in (*members, *_MADE_BY_ENUM_META):
        variables.pop(name, None)
    parts: list[_MemberParts] = [(name, each._value_, _new_args(cls, each)) for name, each in members.items()]
    more = {name: _more_of(each) for name, each in members.items() if each._name_ == name}
    boundary = {"boundary": variables["_boundary_"]} if variables.get("_boundary_") is not None else {}
    kind = maker, type(cls), cls.__name__, cls.__bases__, attributes
    arguments = *kind, parts, boundary, _get_or_create_tracker_id(cls)
    return make_enum, arguments, (variables, more), None, None, _complete_enum


def make_enum(
    maker: Any,
    metaclass: type,
    name: str,
    bases: tuple[type, ...],
    attributes: Mapping[str, Any],
    parts: Iterable[_MemberParts],
    boundary: Mapping[str, Any],
    tracker: str,
) -> type:
    """Make an enumeration with its members and their aliases, without its other attributes."""
    namespace = maker.__prepare__(name, bases)
    namespace.update(attributes)
    values: Iterator[_MemberParts] = iter(list(parts))

    def new(cls: Any, *_arguments: Any) -> Any:
        _, value, arguments = next(values)
        data_type = cls._member_type_
        made = data_type.__new__(cls, *arguments)
        made._value_ = value
        return made

    namespace["__new__"], namespace["__init__"] = new, _do_nothing
    for part in parts:
        namespace[part[0]] = member(part[1])
    made = maker.__new__(metaclass, name, bases, namespace, **boundary)
    type.__delattr__(made, "__init__")
    known: type = _lookup_class_or_track(tracker, made)
    return known


def _complete_enum(cls: Any, state: tuple[dict[str, Any], Mapping[str, Mapping[str, Any]]]) -> None:
    variables, more = state
    # The metaclass keeps the `__new__` that has made the members; the enumeration's own is among its variables, if it has one.
    for name in ("__new__", "__new_member__"):
        if name not in variables and name in vars(cls):
            type.__delattr__(cls, name)
    _class_setstate(cls, (variables, {}))
    for name, attributes in more.items():
        vars(cls._member_map_[name]).update(attributes)


def _new_args(cls: Any, each: Any) -> tuple[Any, ...]:
    data_type = cls._member_type_
    if data_type is object:
        return ()
    if hasattr(data_type, "__getnewargs__"):
        arguments: tuple[Any, ...] = data_type.__getnewargs__(each)
        return arguments
    reduced = data_type.__reduce__(each)
    return reduced[1] if isinstance(reduced, tuple) and reduced[0] is cls else (each._value_,)


def _more_of(each: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(each).items() if name not in _OF_ANY_MEMBER}
