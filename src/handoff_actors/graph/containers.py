"""The types of containers in which results are looked for, their members, and copies of them with other members."""

import copy
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import is_not
from typing import Any, Final, TypeVar

from msgspec import Struct

from handoff_actors.attributes import own_attribute

PartT = TypeVar("PartT")

#: Values of these types are no containers. The search asks for these first, as most values are of them.
PLAIN: Final = frozenset({int, float, str, bytes, bool, type(None), complex, bytearray})
_ABSENT: Final = object()
#: Types that are remembered; a program has far fewer.
_TYPES_KEPT: Final = 1024


class Container(Struct, frozen=True):
    """A type of containers."""

    #: Lists the members of a container.
    members: Callable[[Any], Collection[object]]
    #: Copies a container with other members, which come in the order of `members`.
    copy: Callable[[Any, Sequence[object]], object]
    #: Lists members that must be known before the run: keys, and the members of sets.
    fixed: Callable[[Any], Collection[object]] = lambda _: ()


@lru_cache(_TYPES_KEPT)
def container_of(kind: type) -> Container | None:
    """Return how to treat values of a type; None if they are not looked into. Subclasses of other types are not."""
    if kind in _CONTAINERS:
        return _CONTAINERS[kind]
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _NAMED_TUPLE
    if isinstance(getattr(kind, "__dataclass_fields__", None), dict):
        return _DATACLASS
    return None


def replaced(value: object, kind: type[PartT], replace: Callable[[PartT], object]) -> object:
    """Return a value with other objects in the place of those of one type, which is not plain; itself if it has none."""
    return _replaced(value, kind, replace, {})


def _replaced(
    value: object, kind: type[PartT], replace: Callable[[PartT], object], copies: dict[int, object]
) -> object:
    if isinstance(value, kind):
        return replace(value)
    own: type = type(value)
    container = None if own in PLAIN else container_of(own)
    if container is None:
        return value
    if id(value) not in copies:
        # A container that holds itself stays as it is.
        copies[id(value)] = value
        members = container.members(value)
        if not PLAIN.issuperset(map(type, members)):
            new = [_replaced(member, kind, replace, copies) for member in members]
            if any(map(is_not, new, members)):
                copies[id(value)] = container.copy(value, new)
    return copies[id(value)]


def _itself(value: Collection[object]) -> Collection[object]:
    return value


def _none(_: object) -> Collection[object]:
    return ()


def _copy_mapping(value: dict[object, object], members: Sequence[object]) -> object:
    copied = copy.copy(value)
    copied.update(zip(value, members, strict=True))
    return copied


def _field_values(value: Any) -> list[object]:
    return [own_attribute(value, field.name, _ABSENT) for field in fields(value)]


def _copy_dataclass(value: Any, members: Sequence[object]) -> object:
    copied = copy.copy(value)
    for field, member in zip(fields(value), members, strict=True):
        if member is not _ABSENT:
            # Frozen ones have no other way.
            object.__setattr__(copied, field.name, member)
    return copied


_MAPPING: Final = Container(dict.values, _copy_mapping, _itself)
_SET: Final = Container(_none, lambda value, _: value, _itself)
_NAMED_TUPLE: Final = Container(_itself, lambda value, members: tuple.__new__(type(value), members))
_DATACLASS: Final = Container(_field_values, _copy_dataclass)
_CONTAINERS: Final[dict[type, Container]] = {
    list: Container(_itself, lambda _, members: list(members)),
    tuple: Container(_itself, lambda _, members: tuple(members)),
    deque: Container(_itself, lambda value, members: deque(members, value.maxlen)),
    slice: Container(lambda value: (value.start, value.stop, value.step), lambda _, members: slice(*members)),
    dict: _MAPPING,
    OrderedDict: _MAPPING,
    defaultdict: _MAPPING,
    set: _SET,
    frozenset: _SET,
}
