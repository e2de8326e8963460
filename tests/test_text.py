import pytest

from handoff_actors.ids import RunId
from handoff_actors.text import (
    MOST_OF_DAG_NAME,
    MOST_OF_VALUE,
    brief_repr_of,
    dag_name_of,
    did_you_mean,
    encodable,
    exact,
    is_name,
    repr_of,
    shortened,
    str_of,
)
from handoff_actors.wire.codec import encode
from handoff_actors.wire.messages.runs import Assign


class Raising:
    """An object of which no text can be had."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error

    def __str__(self) -> str:
        raise self.error


class Odd(str):
    """A string that nothing can be done with."""

    __slots__ = ()

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __getitem__(self, _: object) -> str:
        raise RuntimeError("no part")


class Speaker:
    def __repr__(self) -> str:
        return Odd("odd")


@pytest.mark.parametrize("most", [130, 1000, 40, 5, 3])
def test_long_text_is_cut_in_the_middle_to_the_limit(most: int) -> None:
    text = "".join(chr(ord("a") + number % 26) for number in range(5000))

    cut = shortened(text, most)

    assert len(cut) <= max(most, len(" ... "))
    assert cut.startswith(text[: most // 4 - 20 if most > 100 else 0])
    assert (most < 120) == ("left out" not in cut)


def test_cut_text_says_how_much_is_left_out() -> None:
    cut = shortened("a" * 500 + "x" * 104_857_600 + "b" * 500, 1000)

    start, notice, end = cut.split(" ... ")
    count = int(notice.removesuffix(" characters left out").replace(",", ""))
    assert len(start) + count + len(end) == 104_858_600
    assert (set(start), set(end)) == ({"a"}, {"b"})


def test_short_text_is_left_alone() -> None:
    assert shortened("abc", 3) == "abc"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("größer", "größer"),
        ("data\udcff.csv\ud800", "data\\udcff.csv\\ud800"),
        ("a\0", "a\0"),
    ],
)
def test_encodable_text_shows_surrogates_as_escapes(text: str, expected: str) -> None:
    assert encodable(text) == expected
    assert encodable(text).encode()


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1), GeneratorExit(), RecursionError()])
def test_value_without_text_is_named_by_its_type(error: BaseException) -> None:
    kind = type(error).__name__

    assert repr_of(Raising(error)) == f"<Raising whose repr raises {kind}>"
    assert str_of(Raising(error)) == f"(its text is unavailable: str raises {kind})"


def test_ctrl_c_is_passed_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        repr_of(Raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        str_of(Raising(KeyboardInterrupt()))


@pytest.mark.parametrize(
    "value",
    ["x" * 1_000_000, b"x" * 10_000, list(range(10_000)), Odd("odd"), Speaker()],
    ids=["text", "bytes", "list", "subclass", "repr of a subclass"],
)
def test_repr_is_bounded_and_plain(value: object) -> None:
    text = repr_of(value)

    assert type(text) is str
    assert 0 < len(text) <= MOST_OF_VALUE


@pytest.mark.parametrize(
    ("dag_id", "name"),
    [("nightly", "nightly"), (("a", 1), "('a', 1)"), ("\udcff" * 20, "\\udcff\\udcff"), ("n" * 99, "nnn")],
)
def test_name_of_a_dag_fits_a_message(dag_id: object, name: str) -> None:
    text = dag_name_of(dag_id)

    assert text.startswith(name)
    assert len(text) <= MOST_OF_DAG_NAME
    assert encode([Assign(RunId(1), [], [], dag_name=text)])


def test_repr_of_plain_values_is_theirs() -> None:
    assert repr_of("a'b") == repr("a'b")
    assert repr_of(("x", 1)) == "('x', 1)"


def named_as_a_list() -> object:
    return type("list", (), {"__repr__": lambda self: "mine"})()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [None, "x"]}, "{'b': 1, 'a': [None, 'x']}"),
        (list(range(10**5)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"),
        (
            dict.fromkeys(range(10**5)),
            "{0: None, 1: None, 2: None, 3: None, 4: None, 5: None, 6: None, 7: None, 8: None, 9: None, ...}",
        ),
        ([Raising(SystemExit())], "[<Raising whose repr raises SystemExit>]"),
        (named_as_a_list(), "mine"),
        ([Speaker()], "[odd]"),
        ({}, "{}"),
        ([[[[[[[{}, {1: 2}]]]]]]], "[[[[[[[...]]]]]]]"),
        ([{1: {2: {3: {4: {5: {6: {}}}}}}}], "[{1: {2: {3: {4: {5: {...}}}}}}]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_brief_reprs_show_the_beginning(value: object, text: str) -> None:
    assert brief_repr_of(value, 100) == text


@pytest.mark.parametrize(
    "value", ["x" * 10**6, b"x" * 10**6, [b"x" * 10**5], 10**10_000], ids=lambda value: type(value).__name__
)
def test_brief_reprs_are_bounded(value: object) -> None:
    assert 0 < len(brief_repr_of(value, 100)) <= 100


def test_an_interrupt_ends_a_brief_repr() -> None:
    with pytest.raises(KeyboardInterrupt):
        brief_repr_of([Raising(KeyboardInterrupt())], 100)


@pytest.mark.parametrize("text", ["", "a\nb", "a\udcff", "\0", "x" * 256, "ü" * 128, "x" * 1_000_000])
def test_no_name(text: str) -> None:
    assert not is_name(text)


@pytest.mark.parametrize("text", ["a", "node 1", "ü" * 127])
def test_name(text: str) -> None:
    assert is_name(text)


def test_numbers_are_shown_as_they_were_given() -> None:
    assert [exact(number) for number in (1, 2.0, 0.5, 0.1234567, 86400, float("inf"))] == [
        "1",
        "2",
        "0.5",
        "0.1234567",
        "86400",
        "inf",
    ]


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("retries", "; did you mean max_retries?"),
        ("time_out", "; did you mean timeout?"),
        ("Pri", "; did you mean priority?"),
        ("colour", ""),
        ("", ""),
    ],
)
def test_unknown_name_is_answered_with_the_nearest_ones(name: str, question: str) -> None:
    assert did_you_mean(name, ["max_retries", "timeout", "priority", "x" * 1000]) == question
