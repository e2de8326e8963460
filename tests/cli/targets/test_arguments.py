"""Words of the command line as arguments of users' functions."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
import pytest

from handoff_actors.cli.targets.arguments import bind


class Colour(Enum):
    RED = "red"


@dataclass
class Size:
    width: int


def given(function: Callable[..., Any], *words: str) -> Any:
    arguments = bind("jobs:make", function, words)
    return function(*arguments.positional, **arguments.named)


def untyped(a: Any = None, *rest: Any, **others: Any) -> Any:
    return a, rest, others


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (int, "5", 5),
        (int, "-5", -5),
        (float, "5", 5.0),
        (float, "1e3", 1000.0),
        (float, "inf", float("inf")),
        (bool, "true", True),
        (bool, "0", False),
        (str, "5", "5"),
        (str, '"quoted"', '"quoted"'),
        (bytes, "abc", b"abc"),
        (Path, "5", Path("5")),
        (Path | None, "null", None),
        (int | None, "null", None),
        (int | str, "5", 5),
        (int | str, "five", "five"),
        (list[int], "[1, 2]", [1, 2]),
        (tuple[int, ...], "[1, 2]", (1, 2)),
        (dict[str, list[float]], '{"a": [1]}', {"a": [1.0]}),
        (list[Path], '["a"]', [Path("a")]),
        (Literal["a", 5], "5", 5),
        (Colour, "red", Colour.RED),
        (Size, '{"width": 3}', Size(3)),
        (dt.date, "2024-01-02", dt.date(2024, 1, 2)),
        (complex, "[1]", [1]),
        ("NotImported", "[1]", [1]),
    ],
)
def test_a_value_is_what_the_annotation_says(annotation: object, text: str, expected: object) -> None:
    def make(n: object) -> object:
        return n

    make.__annotations__ = {"n": annotation}

    value = given(make, f"n={text}")
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("[1]", [1]),
        ("007", "007"),
        ("NaN", "NaN"),
        ("text", "text"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_without_annotation_is_json_or_text(text: str, expected: object) -> None:
    assert given(untyped, text) == (expected, (), {})


def test_arguments_are_given_by_position_and_by_name() -> None:
    assert given(untyped, "1", "http://x/?a=b", "k=a=b") == (1, ("http://x/?a=b",), {"k": "a=b"})
    assert given(untyped, "a=1") == (1, (), {})
    assert given(partial(untyped, 1), "2") == (1, (2,), {})


def parametrised(n: int, sizes: list[int] | None = None) -> tuple[int, list[int] | None]:
    return n, sizes


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "missing a required argument: 'n'"),
        (["1", "[2]", "3"], "too many positional arguments"),
        (["m=1"], "there is no parameter 'm'"),
        (["1", "n=2"], "multiple values for argument 'n'"),
        (["n=1", "n=2"], "argument 'n' is given twice"),
        (["x"], "n='x' is no int"),
        (["1.5"], "n='1.5' is no int"),
        (["1", "2,3"], "sizes='2,3' is no list[int] | None, in JSON"),
        (["1", '["a"]'], "Expected `int`, got `str` - at `$[0]`"),
    ],
)
def test_wrong_arguments_are_told_with_the_signature(words: list[str], complaint: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        given(parametrised, *words)

    assert complaint in raised.value.message
    if "twice" not in complaint:
        assert "make(n: int, sizes: list[int] | None = None)" in raised.value.message
        assert raised.value.message.endswith("as in: jobs:make n=...")
