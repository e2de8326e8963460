"""Each call of code by value has what the code captures as it was when the code was encoded."""

import collections
import datetime as dt
import enum
import fnmatch
import functools
import math
import pathlib
import pickle
import random
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from handoff_actors.errors import SerializationError
from handoff_actors.integrations.calls import Callers
from handoff_actors.wire.code import managers
from handoff_actors.wire.code.captures import Captures
from handoff_actors.wire.code.unchanging import UnchangingCode
from handoff_actors.wire.loaded_code import LoadedCode
from handoff_actors.wire.payload import encode_code
from handoff_actors.wire.pickling import pickled


def loaded(code: Callable[..., Any]) -> LoadedCode:
    _, by_reference, encoded = encode_code(code)
    return LoadedCode(by_reference=by_reference, encoded=encoded)


class Job:
    def __init__(self) -> None:
        self.left = [1, 2, 3]
        self.count = 0

    def run(self) -> list[int]:
        return [self.left.pop(0) for _ in range(len(self.left))]

    def __call__(self) -> int:
        self.count += 1
        return self.count


def closure_over_list() -> Callable[[], list[int]]:
    left = [1, 2, 3]

    def take() -> list[int]:
        return [left.pop(0) for _ in range(len(left))]

    return take


def closure_over_number() -> Callable[[], int]:
    count = 0

    def add() -> int:
        nonlocal count
        count += 1
        return count

    return add


def closure_over_function() -> Callable[[], int]:
    add = closure_over_number()
    return lambda: add() + 0


def closure_over_deleted() -> Callable[[], int]:
    count = 3

    def use() -> int:
        nonlocal count
        value = count
        del count
        return value

    return use


def closure_over_random() -> Callable[[], float]:
    generator = random.Random(42)
    return lambda: generator.random() + 0


def closure_over_array() -> Callable[[], float]:
    array = np.zeros(3)

    def add() -> float:
        array[0] += 1
        return float(array.sum())

    return add


def with_default() -> Callable[[], list[int]]:
    def collect(seen: list[int] = []) -> list[int]:  # noqa: B006 - as users write it
        seen.append(1)
        return list(seen)

    return collect


def with_keyword_default() -> Callable[[], int]:
    def add(*, counts: dict[str, int] = {"n": 0}) -> int:  # noqa: B006 - as users write it
        counts["n"] += 1
        return counts["n"]

    return add


def with_attribute() -> Callable[[], int]:
    def add() -> int:
        add.count += 1  # type: ignore[attr-defined]
        return add.count  # type: ignore[attr-defined, no-any-return]

    add.count = 0  # type: ignore[attr-defined]
    return add


def generator_of_numbers() -> Callable[[], int]:
    numbers = iter([1, 2, 3])
    return lambda: next(numbers)


def collect(seen: list[int], number: int) -> list[int]:
    seen.append(number)
    return seen


def wrapped() -> Callable[[], int]:
    inner = closure_over_number()

    @functools.wraps(inner)
    def wrapper() -> int:
        return inner()

    return wrapper


MUTABLE = [
    Job().run, Job(), closure_over_list(), closure_over_random(), closure_over_array(), with_default(),
    with_keyword_default(), with_attribute(), generator_of_numbers(), functools.partial(collect, [], 1),
    functools.partial(collect, seen=[], number=2), collections.deque([1, 2]).popleft, iter([1, 2]).__next__,
    {1: 2}.popitem, functools.partial(Job().run),
]  # fmt: skip
REBINDING = [closure_over_number(), closure_over_function(), closure_over_deleted(), wrapped()]


@pytest.mark.parametrize("code", [*MUTABLE, *REBINDING])
def test_each_call_has_the_captures_as_encoded(code: Callable[[], Any]) -> None:
    arrived = loaded(code)

    first, second, third = (arrived.load()() for _ in range(3))

    assert first == second == third == code()


@dataclass(frozen=True)
class Frozen:
    number: int = 1
    inner: "Frozen | None" = None


@dataclass(frozen=True)
class FrozenWithList:
    numbers: list[int] = field(default_factory=list)


class Colour(enum.Enum):
    RED = 1


def read_only() -> np.ndarray[Any, Any]:
    array = np.ones(3)
    array.flags.writeable = False
    return array


def capturing(value: object) -> Callable[[], object]:
    return lambda: value


def optional(value: object = None, *, other: object = "text") -> object:
    return value, other


@pytest.mark.parametrize(
    "value",
    [
        1, "text", b"bytes", None, (1, ("a", None)), frozenset({1}), 1j, range(3), ..., Colour.RED, Colour, Frozen(),
        Frozen(2, Frozen()), re.compile("a"), dt.date(2026, 1, 1), pathlib.PurePosixPath("a"), read_only(), np, len,
        optional, np.dtype("f8"), functools.partial(optional, 1), functools.lru_cache(optional), str.upper, Job,
        object(), capturing(3), Frozen(inner=Frozen()).__eq__, functools.wraps(optional)(capturing(1)), int.__add__,
    ],
)  # fmt: skip
def test_code_with_immutable_captures_is_loaded_once(value: object) -> None:
    assert Captures(capturing(value)).are_immutable

    arrived = loaded(capturing(1))
    assert arrived.load() is arrived.load()


@pytest.mark.parametrize(
    "value",
    [[1], {}, {1}, bytearray(), Job(), FrozenWithList(), np.ones(3), np.array([[]], object), ([],), random.Random(),
     functools.partial(optional, []), functools.lru_cache(capturing([])), Job().run, Frozen(inner=[]),  # type: ignore[arg-type]
     FrozenWithList().__eq__, with_attribute(), collections.deque()],
)  # fmt: skip
def test_code_with_mutable_captures_is_not_kept(value: object) -> None:
    assert not Captures(capturing(value)).are_immutable


def test_read_only_array_of_objects_may_change() -> None:
    array = np.array([[1]], object)
    array.flags.writeable = False

    assert not Captures(capturing(array)).are_immutable


def test_function_that_captures_itself_is_looked_at_once() -> None:
    def count(number: int) -> int:
        return 0 if number == 0 else 1 + count(number - 1)

    assert Captures(count).are_immutable
    assert loaded(count).load()(3) == 3


def test_variable_that_is_not_there_yet_is_no_obstacle() -> None:
    def use() -> int:
        return later

    if loaded(use) is None:
        later = 1

    with pytest.raises(NameError):
        loaded(use).load()()


def test_code_that_cannot_be_loaded_fails_each_time() -> None:
    arrived = LoadedCode(by_reference=False, encoded=b"junk")

    for _ in range(2):
        with pytest.raises(SerializationError):
            arrived.load()


def test_partial_with_attributes_is_not_kept() -> None:
    counted = functools.partial(optional)
    counted.calls = []  # type: ignore[attr-defined]

    assert not Captures(counted).are_immutable


def test_class_that_keeps_its_captures_itself_counts_as_immutable() -> None:
    class Ours:
        _keeps_captures_pristine = True

    def numbers() -> Iterator[int]:
        yield 1

    assert Captures(capturing(Ours())).are_immutable
    assert not Captures(numbers()).are_immutable


def test_code_by_reference_is_imported_once() -> None:
    arrived = LoadedCode(by_reference=True, encoded=b"math:sqrt")

    assert arrived.load() is arrived.load() is math.sqrt


def test_cached_function_of_an_importable_module_is_found_by_its_name() -> None:
    compiled = loaded(functools.partial(fnmatch._compile_pattern, "a"))  # type: ignore[attr-defined]

    assert compiled.load().func is fnmatch._compile_pattern  # type: ignore[attr-defined]


def test_globals_that_need_a_missing_module_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = types.ModuleType("only_here")
    exec("def work(): return 1", vars(here))
    monkeypatch.setitem(sys.modules, "only_here", here)
    main = types.ModuleType("__main__")
    exec("def use(): return work()", vars(main))
    vars(main)["work"] = vars(here)["work"]
    monkeypatch.setitem(sys.modules, "__main__", main)
    arrived = loaded(vars(main)["use"])
    monkeypatch.undo()

    with pytest.raises(SerializationError, match="a function needs module 'only_here'"):
        arrived.load()


def test_code_names_the_module_that_it_is_imported_from() -> None:
    assert LoadedCode(by_reference=True, encoded=b"math:sqrt").module == "math"
    assert loaded(capturing(1)).module == ""


def test_code_names_the_modules_that_it_may_import() -> None:
    class Within:
        class Inner:
            pass

        def use(self, escape: object) -> object:
            import uuid  # noqa: PLC0415

            return uuid, fnmatch.translate, escape, self

    modules: set[str] = set()
    encode_code(functools.partial(Within().use, re.escape), modules=modules)
    assert {"fnmatch", "re", "uuid"} <= modules

    by_reference: set[str] = set()
    encode_code(math.sqrt, modules=by_reference)
    assert by_reference == {"math"}


def test_call_of_an_executor_names_the_modules_of_its_function() -> None:
    modules: set[str] = set()

    encode_code(Callers(None).caller_of(fnmatch.translate), modules=modules)

    assert "fnmatch" in modules


def test_unchanging_code_is_encoded_once_and_is_a_partial_for_workers() -> None:
    code = UnchangingCode(functools.reduce, fnmatch.translate)
    first, again = set[str](), set[str]()

    encoded = encode_code(code, modules=first)

    assert encode_code(code, modules=again) is encode_code(code) is encoded
    assert encode_code(code, "another session") != encoded
    assert first == again
    assert "fnmatch" in first
    assert type(loaded(code).load()) is functools.partial


def test_program_without_multiprocessing_pays_nothing_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managers, "may_be_there", bool)

    assert pickled([1])[0] == [pickle.dumps([1], 5)]
    assert loaded(capturing([1])).load()() == [1]
