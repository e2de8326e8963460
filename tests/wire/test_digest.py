"""Digests: the same in every process for what is the same, and different for what does something else."""

import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from handoff_actors.wire.digest import Digester, digest_of

#: Parts of scripts, with everything that pickles don't write alike in every process.
SCRIPT = """
import math
from dataclasses import dataclass
from functools import partial
from handoff_actors.wire.digest import Digester

NAMES = {"alpha", "beta", "gamma", "delta"}
RATE = 0.5

@dataclass
class Config:
    names: set
    def count(self): return len(self.names)

def helper(value): return value * RATE

def main(config, limit=frozenset(NAMES)):
    known = {"one", "two", "three"}
    return [helper(math.sqrt(name in known)) for name in config.names | NAMES]

class Callable:
    def __call__(self): return main(Config(NAMES))

config = Config(NAMES)
for value in (main, partial(main, config), config, config.count, Config, Callable(), lambda: Config, NAMES, "abc", math):
    print(Digester().digest(value).hex())
"""

#: Functions of which no two do the same.
SOURCES = [
    "def main(x): return x + 1",
    "def main(x): return x + 2",
    "def main(x): return x - 1",
    "def main(x, y=1): return x + 1",
    "def main(x, *, y=1): return x + 1",
    "def main(x): return (lambda: x + 1)()",
    "def main(x): return x in {1}",
    "def main(x): return x in {2}",
    "def main(x): return x == (1, 'a')",
    "def main(x): return helper(x)\ndef helper(x): return x",
    "def main(x): return helper(x)\ndef helper(x): return -x",
    "def main(x): return helper(x)\ndef helper(x): return deeper(x)\ndef deeper(x): return x",
    "def main(x): return RATE\nRATE = 1",
    "def main(x): return RATE\nRATE = 2",
    "class Model:\n  def run(self): return 1\ndef main(x): return Model().run()",
    "class Model:\n  def run(self): return 2\ndef main(x): return Model().run()",
    "class Model:\n  RATE = 1\n  def run(self): return 1\ndef main(x): return Model().run()",
    "class Model:\n  RATE = 2\n  def run(self): return 1\ndef main(x): return Model().run()",
    "class Model:\n  run = property(lambda self: 2)\ndef main(x): return Model().run()",
    "class Model:\n  run = staticmethod(lambda: 2)\ndef main(x): return Model().run()",
    "class Base:\n  def run(self): return 1\nclass Model(Base): pass\ndef main(x): return Model().run()",
    "class Base:\n  def run(self): return 2\nclass Model(Base): pass\ndef main(x): return Model().run()",
    "def make(n):\n  def main(x): return x + n\n  return main\nmain = make(1)",
    "def make(n):\n  def main(x): return x + n\n  return main\nmain = make(2)",
    "def make(n):\n  def main(x): return n(x)\n  return main\nmain = make(lambda x: x)",
    "def make(n):\n  def main(x): return n(x)\n  return main\nmain = make(lambda x: -x)",
]


def digest(value: object) -> bytes:
    return Digester().digest(value)


def defined(source: str, name: str = "main", module: str = "elsewhere") -> Any:
    """A function or class, as a module of that name would have it."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(source, namespace)
    return namespace[name]


def printed(hash_seed: str, prefix: str = "") -> list[str]:
    command = [sys.executable, "-c", prefix + SCRIPT]
    done = subprocess.run(
        command, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True, text=True
    )
    return done.stdout.splitlines()


def test_processes_agree_wherever_in_its_file_something_is_defined() -> None:
    first, second = printed("1"), printed("2", prefix="\n# A comment.\n\n")

    assert first == second
    assert len(set(first)) == 10


@pytest.mark.parametrize("source", SOURCES)
def test_code_that_does_something_else_has_another_digest(source: str) -> None:
    found = digest(defined(source))

    assert found == digest(defined(source))
    assert found not in [digest(defined(other)) for other in SOURCES if other != source]


def test_containers_count_where_they_travel_with_the_code() -> None:
    def sources(module: str) -> set[bytes]:
        source = "def main(x): return TABLE\nTABLE = {'a': %d}"
        return {digest(defined(source % number, module=module)) for number in (1, 2)}

    assert len(sources("__main__")) == 2
    assert len(sources("elsewhere")) == 1


def test_code_of_other_modules_counts_by_name() -> None:
    def calling(other: FunctionType) -> bytes:
        main = defined("def main(x): return other(x)")
        main.__globals__["other"] = other
        return digest(main)

    one, same_name = (defined(f"def main(x): return {number}", module="library") for number in (1, 2))

    assert calling(one) == calling(same_name)


def test_functions_that_call_one_another_have_digests() -> None:
    source = "def main(x): return other(x)\ndef other(x): return main(x) + %d\nTABLE = [main]"

    assert digest(defined(source % 1)) == digest(defined(source % 1))
    assert digest(defined(source % 1)) != digest(defined(source % 2))


def test_a_function_that_is_in_what_it_captures_has_a_digest() -> None:
    source = "def main(x): return TABLE['main'], x\nTABLE = {'main': main}"

    assert digest(defined(source, module="__main__")) == digest(defined(source, module="__main__"))


def test_a_function_whose_captured_variable_is_not_set_has_a_digest() -> None:
    source = "def make():\n  def main(): return later\n  return main\n  later = 1\nmain = make()"

    assert digest(defined(source)) == digest(defined(source))


def test_definitions_are_digested_once() -> None:
    main = defined("def main(x): return x")
    digester = Digester()

    first = digester.digest([main, main])
    main.__code__ = defined("def main(x): return -x").__code__

    assert digester.digest([main, main]) == first
    assert digest([main, main]) != first


@dataclass
class Pair:
    left: object
    right: object = None


def test_equal_values_have_one_digest_whether_or_not_their_parts_are_identical() -> None:
    first, second = (bytes([1]).decode() * 2 for _ in range(2))

    assert first is not second
    assert digest([first, first]) == digest([first, second])
    assert digest({"a", "b"}) == digest({"b", "a"})
    assert digest(Pair({"a", "b"})) == digest(Pair({"b", "a"}))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, "1"),
        ([1, 2], (1, 2)),
        ({"a"}, ["a"]),
        ([["a"], "b"], [["a", "b"]]),
        (Pair(1), Pair(2)),
        (np.arange(3), np.arange(4)),
        (np.arange(3), np.array([0, 1, 3])),
        (partial(int, base=2), partial(int, base=3)),
    ],
)
def test_different_values_have_different_digests(left: object, right: object) -> None:
    assert digest(left) != digest(right)


def test_a_value_that_contains_itself_has_a_digest() -> None:
    def endless(first: int) -> list[object]:
        value: list[object] = [first]
        value.append(value)
        return value

    assert digest(endless(1)) == digest(endless(1))
    assert digest(endless(1)) != digest(endless(2))


def test_a_value_that_cannot_be_pickled_counts_by_its_type() -> None:
    assert digest(threading.Lock()) == digest(threading.Lock())
    assert digest(threading.Lock()) != digest(threading.Event())


def test_borders_between_parts_count() -> None:
    assert digest_of(b"ab", b"c") != digest_of(b"a", b"bc")
