"""Attributes of users' objects, some of which answer to every name: attribute dicts, stubs for remote calls, mocks."""

from types import MethodType
from typing import Any


def own_attribute(value: object, name: str, default: Any = None) -> Any:
    """Return an attribute that an object or its type really has, else `default`. Its `__getattr__` is not asked.

    A bound method has those of its function. For special methods `hasattr(type(value), name)` is enough, and as quick as the same question to the value.
    """
    if type(value) is MethodType:
        value = value.__func__
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return default
