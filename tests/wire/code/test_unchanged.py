"""Globals are recognised as unchanged only if nothing about them has changed."""

import abc
import enum
import sys
import types
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from handoff_actors.wire.code import drafts
from handoff_actors.wire.code.unchanged import fingerprint_of, is_same
from handoff_actors.wire.payload import encode_code


def function(value: int, factor: int = 2, *, offset: int = 0) -> int:
    return value * factor + offset


class Plain:
    limit = 3

    def method(self) -> int:
        return 1

    @staticmethod
    def fixed() -> int:
        return 1

    @classmethod
    def made(cls) -> "Plain":
        return cls()

    @property
    def value(self) -> int:
        return 1


class Child(Plain):
    __slots__ = ("extra",)

    def method(self) -> int:
        return super().method()


@dataclass
class Data:
    number: int = 1


class Colour(enum.Enum):
    RED = 1


class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self) -> int: ...


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - as users write it


@pytest.mark.parametrize(
    "value", [1, "text", None, sys, function, Plain, Child, Data, Colour, Abstract, Pair]
)
def test_definitions_and_plain_values_are_recognised(value: object) -> None:
    first, second = fingerprint_of(value), fingerprint_of(value)

    assert first is not None
    assert second is not None
    assert is_same(first, second)


class WithList:
    seen: list[int] = []  # noqa: RUF012 - as users write it


class WithWrapper:
    method = staticmethod(len)


def with_list(seen: list[int] = []) -> list[int]:  # noqa: B006 - as users write it
    return seen


def with_attribute() -> int:
    return 1


vars(with_attribute)["calls"] = []


def closure() -> Callable[[], int]:
    value = 1
    return lambda: value


@pytest.mark.parametrize(
    "value", [[], {}, WithList, WithWrapper, with_list, with_attribute, closure(), object(), Plain()]
)
def test_values_with_a_state_are_not_recognised(value: object) -> None:
    assert fingerprint_of(value) is None


@pytest.mark.parametrize("change", ["attribute", "method", "new attribute", "defaults", "code"])
def test_changed_definition_is_told_apart(change: str) -> None:
    class Owner:
        limit = 1

        def method(self, factor: int = 2) -> int:
            return factor

    before = fingerprint_of(Owner)
    if change == "attribute":
        Owner.limit = 2
    elif change == "method":
        Owner.method = lambda self, factor=2: factor + len([self])  # type: ignore[method-assign]
    elif change == "new attribute":
        Owner.more = 1  # type: ignore[attr-defined]
    elif change == "defaults":
        Owner.method.__defaults__ = (3,)
    else:
        Owner.method.__code__ = (lambda self, factor=2: factor).__code__
    after = fingerprint_of(Owner)

    assert before is not None
    assert after is not None
    assert not is_same(before, after)


def program(source: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = types.ModuleType("__main__")
    exec(source, vars(module))
    monkeypatch.setitem(sys.modules, "__main__", module)
    return vars(module)


def test_global_that_appears_or_goes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = program("def helper(): return limit\ndef use(): return helper()", monkeypatch)
    without = encode_code(variables["use"])
    variables["limit"] = 5
    with_limit = encode_code(variables["use"])
    del variables["limit"]

    assert without != with_limit
    assert encode_code(variables["use"]) == without


def test_few_drafts_are_kept_and_no_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "_kept", {})
    monkeypatch.setattr(drafts, "_MOST_KEPT", 2)
    variables = program("a, b, c = 1, 2, bytes(100_000)\ndef use(): return a, b, c", monkeypatch)

    encode_code(variables["use"])

    assert 0 < len(drafts._kept) <= 2
    assert ("__main__", "c") not in drafts._kept
