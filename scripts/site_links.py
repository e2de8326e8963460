"""For Markdown: turn links to sources, which work in the repository and not on the site, into text."""

import re
from typing import Any
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

SOURCES = re.compile(r"(?:\.\./)+(?:benchmarks|examples|scripts|src|tests)(?:/|$)")
#: After inline Markdown, which makes the links, and before any processor that changes their targets.
PRIORITY = 15


class LinksToSources(Treeprocessor):
    """Turns links to sources into code."""

    def run(self, root: Element) -> None:
        """See Markdown's Treeprocessor."""
        for link in root.iter("a"):
            if SOURCES.match(link.get("href", "")):
                link.tag = "code"
                link.attrib.clear()


class LinksExtension(Extension):
    """The extension that adds `LinksToSources`."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's own name
        """See Markdown's Extension."""
        md.treeprocessors.register(LinksToSources(md), "links_to_sources", PRIORITY)


def makeExtension(**options: Any) -> LinksExtension:  # noqa: N802 - Markdown's own name
    """Make the extension, as Markdown asks for it by this name."""
    return LinksExtension(**options)
