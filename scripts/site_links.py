"""For Markdown: links to sources, which a reader of the repository can follow and the site doesn't have, become text."""

import re
from typing import Any
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

SOURCES = re.compile(r"(?:\.\./)+(?:benchmarks|examples|scripts|src|tests)(?:/|$)")
#: After inline Markdown, which makes the links, and before whatever changes where they lead.
PRIORITY = 15


class LinksToSources(Treeprocessor):
    """Turns them into code."""

    def run(self, root: Element) -> None:
        """See Markdown."""
        for link in root.iter("a"):
            if SOURCES.match(link.get("href", "")):
                link.tag = "code"
                link.attrib.clear()


class LinksExtension(Extension):
    """Adds the above."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's own name
        """See Markdown."""
        md.treeprocessors.register(LinksToSources(md), "links_to_sources", PRIORITY)


def makeExtension(**options: Any) -> LinksExtension:  # noqa: N802 - Markdown's own name
    """See Markdown."""
    return LinksExtension(**options)
