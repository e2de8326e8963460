import re
import sys
import unicodedata

import pytest
from hypothesis import given, strategies as st

from handoff_actors.escaping import escape_name, escape_text

#: Characters that a terminal takes for commands, one by one and in sequence, among harmless letters.
PIECES = [
    "\x1b[31m", "\x1b[0;38:5:7m", "\x1b[m", "\x1b[2J", "\x1b]0;title\x07", "\x1b", "\x9b2J", "\x9b31m", "[31m", "m",
    "\r", "\n", "\t", "\b", "\x7f", "\x85", "\u200d", "\u200f", "\u202e", "\u2028", "\udc80", "\\x1b", "a", "\u4e00",
]  # fmt: skip
#: `st.characters` has no surrogates unless it is asked for them.
characters = st.one_of(st.characters(exclude_categories=()), st.sampled_from(PIECES))
texts = st.lists(characters).map("".join)
COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def is_harmful(character: str) -> bool:
    """Decide by Unicode's categories, where the code under test has a list."""
    if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
        return character not in "\n\t"
    is_bidi = unicodedata.bidirectional(character) in {
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
    }  # fmt: skip
    return is_bidi or character in "\u061c\u200e\u200f"


@given(texts)
def test_a_name_is_one_line_of_printable_characters(text: str) -> None:
    name = escape_name(text)

    assert name.isprintable()
    assert escape_name(name) == name
    name.encode()


@given(texts)
def test_a_name_has_each_character_as_repr_shows_it(text: str) -> None:
    shown = repr("'\"" + text)[1:-1].replace("\\'", "'").replace("\\\\", "\\")[2:]

    assert escape_name(text) == shown


@given(texts)
def test_text_has_no_control_characters_but_newlines_tabs_and_colours(text: str) -> None:
    escaped = escape_text(text)

    assert not any(map(is_harmful, COLOUR.sub("", escaped)))
    assert escape_text(escaped) == escaped
    escaped.encode()


def test_each_character_is_harmful_or_kept() -> None:
    every = map(chr, range(sys.maxunicode + 1))

    wrong = [
        character for character in every if (escape_text(character) != character) != is_harmful(character)
    ]

    assert wrong == []


@given(texts)
def test_text_keeps_every_letter_line_tab_and_colour(text: str) -> None:
    escaped = escape_text(text)

    harmless = [character for character in text if not is_harmful(character)]
    left = iter(escaped)
    assert all(character in left for character in harmless)
    assert escaped.count("\n") == text.count("\n")
    assert COLOUR.findall(escaped) == COLOUR.findall(text)


@given(st.lists(st.one_of(st.characters(), st.just("\x1b[1;31m"))).map("".join))
def test_harmless_text_is_not_touched(text: str) -> None:
    harmless = "".join(
        piece for piece in re.split(f"({COLOUR.pattern})", text) if not any(map(is_harmful, piece))
    )

    assert escape_text(harmless) == harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m\tand\n", "\x1b[31mred\x1b[0m\tand\n"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x1b\x1b[31m", "\\x1b\x1b[31m"),
        ("\x1b[31\nm", "\\x1b[31\nm"),
        ("\x9b31m", r"\x9b31m"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        (" 10%\r 20%\r\r\n", " 10%\\r 20%\\r\n"),
        ("root\u202etxt.exe", r"root\u202etxt.exe"),
        ("\U0001f469\u200d\U0001f52c", "\U0001f469\u200d\U0001f52c"),
    ],
)
def test_text_of_others(text: str, shown: str) -> None:
    assert escape_text(text) == shown
