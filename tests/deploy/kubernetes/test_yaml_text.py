"""Values that are written as YAML are read as they were, by a reader of YAML 1.1, which knows the most words that are no texts."""

from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from handoff_actors.deploy.kubernetes.yaml_text import yaml_of

#: Without lone surrogates, which no file can hold.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers() | st.booleans(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3))
def test_documents_are_read_as_they_were(document: dict[str, Any]) -> None:
    assert yaml.safe_load(yaml_of(document)) == document


@pytest.mark.parametrize(
    "text",
    ["yes", "No", "ON", "null", "~", "1", "1.5", "0x1F", "1e3", "12:30:00", "2001-01-01", "", " ", "a: b", "a #b", "- a",
     "---", "...", "<<", "=", "%TAG", "{a}", "&a", "*a", "!a", "|", "\x00", "\x7f", "\ufeff", "\u2028", "😀", "y", "None", ".inf"],
)  # fmt: skip
def test_texts_that_look_like_something_else_stay_texts(text: str) -> None:
    document: dict[str, Any] = {text: text, "list": [text, [text], {text: text}]}

    assert yaml.safe_load(yaml_of(document)) == document


def test_a_document_looks_like_one_of_a_person() -> None:
    document: dict[str, Any] = {
        "kind": "Pod",
        "spec": {"hostUsers": False, "parts": [{"name": "a-1", "size": 2}, "x", ["y"]], "none": {}},
    }

    assert yaml_of(document) == (
        'kind: Pod\nspec:\n  hostUsers: false\n  parts:\n    - name: a-1\n      size: 2\n    - x\n    - - "y"\n  none: {}\n'
    )


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="is not Unicode text"):
        yaml_of({"a": "\udcff"})
