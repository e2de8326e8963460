"""Makes others' text harmless to a terminal: characters that move its cursor, clear it or reorder text become visible.

Escapes look as in `repr`, so a backslash that was there before stays single: escaping twice is the same as once.
"""

import re
from functools import cache

#: An ESC begins a colour only as ESC [ digits m. Any other may do what it likes to a terminal.
_COLOUR = r"\[[0-9;:]*m"
#: C0 but for tab and newline, DEL and C1; then characters that reorder letters or end lines, and that can't be encoded.
#: A list, not Unicode's categories: the zero-width joiners that emoji and some scripts need are of the same one as bidi controls.
_CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
_HARMFUL = rf"\r\n|\x1b(?!{_COLOUR})|(?!\x1b){_CONTROL}"


def escape_name(text: str) -> str:
    """Escape a name, an id or an address: one line of printable characters, any other shown as `repr` shows it."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _shown(character) for character in text)


def escape_text(text: str) -> str:
    """Escape control characters as `repr` does, except for newlines, tabs and colours (SGR sequences).

    A carriage return before a newline is dropped.
    """
    # Two looks, as this is done to every line that functions print: most have nothing of the kind, and a lone set of
    # characters is searched for several times as fast as alternatives are.
    if text.isprintable() or _pattern(_CONTROL).search(text) is None:
        return text
    return _pattern(_HARMFUL).sub(lambda found: "\n" if found[0] == "\r\n" else _shown(found[0]), text)


@cache
def _pattern(expression: str) -> re.Pattern[str]:
    # Half a millisecond, which few programs and workers need.
    return re.compile(expression)


def _shown(character: str) -> str:
    return repr(character)[1:-1]
