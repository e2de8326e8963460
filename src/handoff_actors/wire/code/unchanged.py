"""Tells whether a global is as it was when it was last encoded, without encoding it.

Programs send the same functions and classes again with each run and each argument, and an encoding takes 100 times as long
as this. A list or an object with a state is never recognised: only its encoding shows whether it has changed.
"""

from _collections import _tuplegetter  # type: ignore[import-not-found]  # fields of named tuples
from collections.abc import Iterable
from enum import Enum
from operator import is_
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, Final

#: Objects that make up a global.
Fingerprint = tuple[Any, ...]

_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes, ModuleType})
_DESCRIPTORS: Final = frozenset(
    {GetSetDescriptorType, MemberDescriptorType, WrapperDescriptorType, _tuplegetter}
)
#: Attributes of a function that nothing changes.
_OF_METHODS: Final = frozenset({"__isabstractmethod__"})
#: Attributes that abstract classes and named tuples have.
_OF_DEFINITIONS: Final = frozenset(
    {"_abc_impl", "_fields", "_field_defaults", "_make", "_replace", "_asdict"}
)


def fingerprint_of(value: Any) -> Fingerprint | None:
    """Give the parts of a global; None for one that may change while its parts stay the same objects."""
    kind = type(value)
    if kind in _PLAIN:
        return (value,)
    parts: list[Any] = [value]
    if kind is FunctionType:
        is_known = _add_function(value, parts)
    else:
        is_known = issubclass(kind, type) and _add_class(value, parts)
    return tuple(parts) if is_known else None


def is_same(one: Fingerprint, other: Fingerprint) -> bool:
    """True if all parts are the same objects."""
    return len(one) == len(other) and all(map(is_, one, other))


def _add_function(function: FunctionType, parts: list[Any]) -> bool:
    keywords = function.__kwdefaults__ or {}
    parts += (function, function.__code__, function.__defaults__, *keywords.values())
    return (
        vars(function).keys() <= _OF_METHODS
        and _are_plain(function.__defaults__ or ())
        and _are_plain(keywords.values())
        # Methods that use super() have their class in a cell.
        and all(cell.cell_contents is parts[0] for cell in function.__closure__ or ())
    )


def _add_class(owner: type, parts: list[Any]) -> bool:
    parts.append(owner.__bases__)
    is_enum = issubclass(owner, Enum)
    for name, attribute in vars(owner).items():
        parts.append(attribute)
        kind = type(attribute)
        if kind is FunctionType:
            is_known = _add_function(attribute, parts)
        elif kind is staticmethod or kind is classmethod:
            is_known = _add_wrapped(attribute.__func__, parts)
        elif kind is property:
            accessors = attribute.fget, attribute.fset, attribute.fdel
            is_known = all(_add_wrapped(accessor, parts) for accessor in accessors)
        else:
            is_known = kind in _PLAIN or kind in _DESCRIPTORS or is_enum
        # Special names hold annotations, fields, what dataclasses write and the like, which belong to the definition.
        if not is_known and not _is_special(name):
            return False
    return True


def _is_special(name: str) -> bool:
    return (name.startswith("__") and name.endswith("__")) or name in _OF_DEFINITIONS


def _add_wrapped(function: Any, parts: list[Any]) -> bool:
    return function is None or (type(function) is FunctionType and _add_function(function, parts))


def _are_plain(values: Iterable[object]) -> bool:
    return all(type(value) in _PLAIN for value in values)
