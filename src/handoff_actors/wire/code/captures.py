"""Tells whether a function captures anything that calling it can change."""

import sys
from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from functools import partial
from itertools import chain
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

from handoff_actors.wire.code.functools_objects import LruCacheWrapper

_IMMUTABLE: Final = frozenset(
    {
        type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented), object,
        CodeType, ModuleType, MethodDescriptorType, WrapperDescriptorType,
    }
)  # fmt: skip
#: Types of modules that need not be imported for this.
_IMMUTABLE_BY_NAME: Final = frozenset(
    {
        ("re", "Pattern"), ("uuid", "UUID"), ("decimal", "Decimal"), ("fractions", "Fraction"),
        ("datetime", "date"), ("datetime", "datetime"), ("datetime", "time"), ("datetime", "timedelta"),
        ("datetime", "timezone"), ("zoneinfo", "ZoneInfo"), ("logging", "Logger"), ("logging", "RootLogger"),
        ("operator", "itemgetter"), ("operator", "attrgetter"), ("pathlib", "PurePosixPath"),
        ("pathlib", "PureWindowsPath"), ("pathlib", "PosixPath"), ("pathlib._local", "PosixPath"),
        ("pathlib._local", "PurePosixPath"), ("ipaddress", "IPv4Address"),
        ("ipaddress", "IPv6Address"),
    }
)  # fmt: skip
#: Attributes of a function that wrapping gives it, and nothing changes.
_OF_WRAPPERS: Final = frozenset({"__wrapped__", "__signature__", "__type_params__"})


class Captures:
    """The variables that a function captures, and whether their values can change."""

    def __init__(self, function: object) -> None:
        #: Each with its present content. Functions may rebind them, whatever they contain.
        self.cells: list[tuple[CellType, object]] = []
        self._seen: set[int] = set()
        self.are_immutable = self._is_immutable(function)

    def restore_cells(self) -> None:
        """Give each variable the content that it had."""
        for cell, content in self.cells:
            try:
                is_same = cell.cell_contents is content
            except ValueError:
                # A function has deleted it.
                is_same = False
            if not is_same:
                cell.cell_contents = content

    def _is_immutable(self, value: Any) -> bool:
        kind = type(value)
        if kind in _IMMUTABLE or id(value) in self._seen:
            return True
        self._seen.add(id(value))
        if kind is FunctionType:
            return self._is_immutable_function(value)
        if kind is tuple or kind is frozenset:
            return all(map(self._is_immutable, value))
        if kind is partial:
            return not vars(value) and all(
                map(self._is_immutable, chain((value.func,), value.args, value.keywords.values()))
            )
        if kind is BuiltinFunctionType:
            # A function's is its module, a method's its object.
            return self._is_immutable(value.__self__)
        if kind is MethodType:
            return self._is_immutable(value.__self__) and self._is_immutable(value.__func__)
        if kind is LruCacheWrapper:
            return self._is_immutable(value.__wrapped__)
        return (
            issubclass(kind, type | Enum)
            or (kind.__module__, kind.__qualname__) in _IMMUTABLE_BY_NAME
            or kind.__module__ == "numpy.dtypes"
            or _is_marked(kind)
            or _is_read_only_array(value)
            or self._is_frozen_dataclass(value)
        )

    def _is_immutable_function(self, function: FunctionType) -> bool:
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                continue
            self.cells.append((cell, content))
        captured = chain(
            (content for _, content in self.cells),
            function.__defaults__ or (),
            (function.__kwdefaults__ or {}).values(),
            _wrapped_by(function),
        )
        # A list, as cells are added meanwhile.
        return vars(function).keys() <= _OF_WRAPPERS and all(map(self._is_immutable, list(captured)))

    def _is_frozen_dataclass(self, value: Any) -> bool:
        parameters = getattr(type(value), "__dataclass_params__", None)
        if parameters is None or not parameters.frozen:
            return False
        return all(self._is_immutable(getattr(value, field.name, None)) for field in fields(value))


def _wrapped_by(function: FunctionType) -> Iterator[object]:
    if "__wrapped__" in vars(function):
        yield vars(function)["__wrapped__"]


def _is_marked(kind: type) -> bool:
    """True for classes of this package whose objects give each call a fresh state by themselves."""
    return vars(kind).get("_keeps_captures_pristine") is True


def _is_read_only_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return (
        numpy is not None
        and type(value) is numpy.ndarray
        and not value.flags.writeable
        and not value.dtype.hasobject
    )
