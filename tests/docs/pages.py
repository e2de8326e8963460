"""The pages, and their snippets as a reader would copy them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
README = "README.md"
#: The README and all pages of the documentation, relative to its folder.
PAGES = [README, *sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))]


def path_of(page: str) -> Path:
    """The file of a page."""
    return DOCS.parent / page if page == README else DOCS / page


def snippets(page: str, language: str) -> list[str]:
    """Every fenced block of a page in that language, in order."""
    text = path_of(page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}(?: title=\"[^\"]*\")?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
