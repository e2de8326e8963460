"""Values of all kinds as JSON that every parser reads."""

import datetime as dt
import json
import uuid
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from handoff_actors.cli.output.json_values import MOST_BYTES, MOST_ELEMENTS, json_keys, to_json
from handoff_actors.report.breakdown import NOTHING

NAN, INFINITY = float("nan"), float("inf")


def read(value: object) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(to_json(value), parse_constant=refuse)


@dataclass
class Point:
    x: float
    tags: set[str]


class Colour(Enum):
    RED = "red"


class Broken:
    def __repr__(self) -> str:
        raise ValueError("no text")


class Torn(dict[str, int]):
    def __iter__(self) -> NoReturn:
        raise ValueError("no keys")


class Plain:
    def __repr__(self) -> str:
        return "plain"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([None, True, 10**50, "\udc80"], [None, True, 10**50, "\udc80"]),
        ([NAN, INFINITY, -INFINITY, 0.5], ["NaN", "Infinity", "-Infinity", 0.5]),
        ((1, [2], frozenset({3, 1})), [1, [2], [1, 3]]),
        ({1: "a", "1": "b", (1, 2): {None: 3}}, {"1": "a", "'1'": "b", "(1, 2)": {"None": 3}}),
        (Point(NAN, {"b", "a"}), {"x": "NaN", "tags": ["a", "b"]}),
        (NOTHING, dict.fromkeys(NOTHING.__struct_fields__, 0.0)),
        ([Colour.RED, Path("/a"), Decimal("1.50")], ["red", "/a", "1.50"]),
        ([dt.date(2024, 1, 2), uuid.UUID(int=1)], ["2024-01-02", str(uuid.UUID(int=1))]),
        ([b"hi", bytearray(b"hi"), memoryview(b"hi")], [{"base64": "aGk="}] * 3),
        (np.array([[1.5, np.nan], [2, 3]]), [[1.5, "NaN"], [2, 3]]),
        ([np.float32(0.5), np.int8(3), np.bool_(True), np.float64(np.inf)], [0.5, 3, True, "Infinity"]),
        (np.array([None, Point(1, set())], dtype=object), [None, {"x": 1, "tags": []}]),
        ([1 + 2j, Plain(), Point], [{"repr": "(1+2j)"}, {"repr": "plain"}, {"repr": repr(Point)}]),
        (deque([1]), {"repr": "deque([1])"}),
        ([Broken()], [{"repr": "<Broken whose repr raises ValueError>"}]),
    ],
)
def test_every_value_is_json(value: object, expected: object) -> None:
    assert read(value) == expected


def test_values_that_hold_themselves_end() -> None:
    ring: list[object] = [1]
    ring.append(ring)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    assert read(ring) == [1, {"repr": "[1, [...]]"}]
    assert "repr" in to_json(deep)


def test_large_values_are_described() -> None:
    array = read(np.zeros(MOST_ELEMENTS + 1))
    octets = read(bytes(MOST_BYTES + 1))

    assert array["shape"] == [MOST_ELEMENTS + 1]
    assert array["dtype"] == "float64"
    assert len(array["repr"]) < 1000
    assert octets["nbytes"] == MOST_BYTES + 1
    assert list(read(1 << 100_000)) == ["repr"]


def test_containers_that_raise_are_described() -> None:
    assert read([Torn(a=1)]) == [{"repr": "{'a': 1}"}]


def test_keys_that_read_alike_stay_apart() -> None:
    assert json_keys([1, "1", "a", (2,)]) == ["1", "'1'", "a", "(2,)"]
