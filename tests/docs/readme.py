"""The snippets of the README, as a reader would copy them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets(language: str) -> list[str]:
    """Every fenced block in that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def snippet(language: str, containing: str) -> str:
    """The one fenced block in that language with this text in it."""
    [found] = [block for block in snippets(language) if containing in block]
    return found


def commands(block: str) -> list[list[str]]:
    """The commands of a shell block, each as its words; comments are left out."""
    lines = (line.split("#")[0].split() for line in block.splitlines())
    return [words for words in lines if words]
