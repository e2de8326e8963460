"""What pages quote: lines that commands and nodes print, where names, addresses and numbers may be others."""

import re
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker

from tests.docs.fences import fences

#: Titles of blocks that quote.
QUOTES = ("log", "printed")
_TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ", re.MULTILINE)
#: In this order: an address has numbers.
_OTHERS = (
    (re.compile(r"tcp://[\w.:\[\]-]*\d"), "ADDRESS"),
    (re.compile(r"\b[0-9a-f]{16,32}\b"), "ID"),
    # Files are in other directories.
    (re.compile(r"(?<![\w.])/[\w./-]+/(?=[\w.-])"), ""),
    (re.compile(r"\bn\d\b"), "NODE"),
    (re.compile(r"(?<![\w.])\d[\d.,]*"), "#"),
)


def quoted(page: str) -> list[str]:
    """The lines that a page quotes, in order."""
    return [
        line for fence in fences(page) if fence.title in QUOTES for line in fence.text.splitlines() if line
    ]


def is_printed(line: str, text: str) -> bool:
    """True if a quoted line is one of this text's, or a part of one; "..." stands for anything."""
    wanted = f"...{_common(line)}...\n"
    checker = OutputChecker()
    return any(
        checker.check_output(wanted, f"<{_common(each)}>\n", ELLIPSIS | NORMALIZE_WHITESPACE)
        for each in _TIME.sub("", text).splitlines()
    )


def check_quoted(page: str, beginning: str, text: str) -> None:
    """Fail unless the page quotes one line that begins so, and that line is printed in the text."""
    [line] = [line for line in quoted(page) if line.startswith(beginning)]
    assert is_printed(line, text), f"{page} has\n{line}\nwhich is not in\n{text}"


def _common(line: str) -> str:
    for pattern, name in _OTHERS:
        line = pattern.sub(name, line)
    return line
