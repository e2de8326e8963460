"""Pages that say which test shows something name tests that there are."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS

TESTS = Path(__file__).parents[1]
DEFINED = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
NAMED = re.compile(r"`(test_\w+)`")


@pytest.mark.parametrize("page", ["failure.md", "security.md"])
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    named = set(NAMED.findall((DOCS / page).read_text(encoding="utf-8")))
    there = {name for path in TESTS.rglob("test_*.py") for name in DEFINED.findall(path.read_text("utf-8"))}

    assert named
    assert named <= there, named - there


def test_every_attack_has_a_test() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    _, _, rows = text.partition("| attack | outcome | shown by |\n| --- | --- | --- |\n")
    attacks = [row for row in rows.partition("\n\n")[0].splitlines() if row.startswith("|")]

    assert attacks
    assert [row for row in attacks if not NAMED.search(row.split("|")[3])] == []
