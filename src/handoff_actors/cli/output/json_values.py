"""JSON for programs: any value as JSON that every parser reads, however odd the value is.

Containers, dataclasses and structs become arrays and objects, whose keys are text. NaN and the infinities become the
strings "NaN", "Infinity" and "-Infinity", dates, UUIDs, decimals and paths their usual text, bytes `{"base64": ...}`,
arrays of numpy nested arrays. All else becomes `{"repr": ...}`, and so do arrays and bytes that are large, and values
within themselves.
"""

import json
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from pathlib import PurePath
from typing import Any, Final

import msgspec

from handoff_actors.text import repr_of, str_of

#: Larger arrays and bytes are only described.
MOST_ELEMENTS: Final = 10_000
MOST_BYTES: Final = 65_536
#: Parsers, and Python's own writer, bound how deeply values may be nested.
_MOST_DEPTH: Final = 100
#: Python refuses to write larger integers as decimals.
_MOST_BITS: Final = 10_000

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


def to_json(value: object, *, indent: int | None = None) -> str:
    """Write a value as JSON."""
    return json.dumps(json_value(value), allow_nan=False, indent=indent)


def json_value(value: object) -> JsonValue:
    """Convert a value to what JSON has. See the module."""
    return _Converter().convert(value)


def json_fields(value: object) -> dict[str, object]:
    """Return the fields of a dataclass or a struct by name."""
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    assert is_dataclass(value)
    return {field.name: getattr(value, field.name) for field in fields(value)}


def json_keys(keys: Iterable[object]) -> list[str]:
    """Return texts for keys, such as ids of functions: each one's `str`, or its `repr` where that would be ambiguous."""
    keys = list(keys)
    texts = [str_of(key) for key in keys]
    if len(set(texts)) == len(texts):
        return texts
    seen = set[str]()
    ambiguous = {text for text in texts if text in seen or seen.add(text)}  # type: ignore[func-returns-value]
    return [repr_of(key) if text in ambiguous else text for key, text in zip(keys, texts, strict=True)]


class _Converter:
    def __init__(self) -> None:
        #: The containers around the value.
        self._around: set[int] = set()

    def convert(self, value: object) -> JsonValue:
        match value:
            case None | bool():
                return value
            case int():
                return int(value) if value.bit_length() <= _MOST_BITS else _described(value)
            case float():
                return float(value) if isfinite(value) else _not_finite(value)
            case str():
                return str(value)
            case bytes() | bytearray() | memoryview():
                return _bytes(value)
            case _:
                return self._within(value)

    def _within(self, value: object) -> JsonValue:
        if id(value) in self._around or len(self._around) >= _MOST_DEPTH:
            return _described(value)
        self._around.add(id(value))
        try:
            return self._structure(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - users' containers and fields raise what they like
            return _described(value)
        finally:
            self._around.discard(id(value))

    def _structure(self, value: object) -> JsonValue:
        match value:
            case Mapping():
                return self._object(value)
            case list() | tuple() | set() | frozenset():
                return [self.convert(part) for part in _in_order(value)]
            case PurePath():
                return str(value)
            case type():
                return _described(value)
            case _ if isinstance(value, msgspec.Struct) or is_dataclass(value):
                return {name: self.convert(part) for name, part in json_fields(value).items()}
            case _:
                return self._foreign(value)

    def _object(self, value: Mapping[Any, object]) -> JsonValue:
        keys = json_keys(value)
        if len(set(keys)) < len(keys):
            return _described(value)
        return {key: self.convert(part) for key, part in zip(keys, value.values(), strict=True)}

    def _foreign(self, value: object) -> JsonValue:
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            if value.size > MOST_ELEMENTS:
                return {**_described(value), "shape": list(value.shape), "dtype": str(value.dtype)}
            return self.convert(value.tolist())
        if numpy is not None and isinstance(value, numpy.generic):
            inner = value.item()
            # Of some types, such as long doubles, an item is the same again.
            return _described(value) if isinstance(inner, numpy.generic) else self.convert(inner)
        return self.convert(msgspec.to_builtins(value))


def _in_order(value: Iterable[object]) -> Iterable[object]:
    if isinstance(value, set | frozenset):
        try:
            return sorted(value)
        except TypeError:
            return value
    return value


def _not_finite(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 - only NaN differs from itself


def _bytes(value: bytes | bytearray | memoryview) -> JsonValue:
    nbytes = value.nbytes if isinstance(value, memoryview) else len(value)
    if nbytes > MOST_BYTES:
        return {**_described(bytes(value[:16])), "nbytes": nbytes}
    return {"base64": b64encode(bytes(value)).decode()}


def _described(value: object) -> dict[str, JsonValue]:
    return {"repr": repr_of(value)}
