"""The fenced blocks of a page, with their titles."""

import re
from typing import NamedTuple

from tests.docs.pages import DOCS

_FENCE = re.compile(r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Fence(NamedTuple):
    """One fenced block."""

    language: str
    title: str
    text: str


#: The text behind the last fence.
NOTHING = Fence("", "", "")


def fences(page: str) -> list[Fence]:
    """Every fenced block of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [Fence(*found) for found in _FENCE.findall(text)]
