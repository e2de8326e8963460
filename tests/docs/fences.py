"""The fenced blocks of a page, with their titles."""

import re
from typing import NamedTuple

from tests.docs.pages import path_of

_FENCE = re.compile(r'^```(\w*)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
#: The beginning of the title of a block that can't be run alone. The file named after it has the whole.
PART_OF = "part of "


class Fence(NamedTuple):
    """One fenced block."""

    language: str
    title: str
    text: str

    @property
    def is_part(self) -> bool:
        """True if it can't be run alone."""
        return self.title.startswith(PART_OF)


#: The text behind the last fence.
NOTHING = Fence("", "", "")


def fences(page: str) -> list[Fence]:
    """Every fenced block of a page, in order."""
    text = path_of(page).read_text(encoding="utf-8")
    found = [Fence(*parts) for parts in _FENCE.findall(text)]
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(found), f"{page} has an odd fence"
    return found
