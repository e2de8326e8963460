"""Text that is made of what users supply: it never raises, it is bounded, and it can be encoded as UTF-8.

Ids, names, exceptions and log records are users' objects. Their `__repr__` and `__str__` may raise, exit or return
megabytes, and strings may have lone surrogates, as file names that are not UTF-8 do. So whatever of them goes into an
error, a message or a line is made here, where it is made.
"""

from collections.abc import Iterable
from itertools import islice
from reprlib import Repr
from typing import Final

#: Characters of an exception's text that travel as the reason of a failure, and that errors repeat.
MOST_OF_REASON: Final = 32 * 1024
#: Characters of the text and of the traceback that an exception is sent with.
MOST_OF_TRACEBACK: Final = 256 * 1024
#: Characters of an id, or another value, in an error.
MOST_OF_VALUE: Final = 1000
#: With less room than that, no words say what was left out.
_ROOM_FOR_NOTICE: Final = 120

#: Names that an unknown one is compared with, and that an error lists.
_MOST_COMPARED: Final = 2000
_MOST_NAMED: Final = 3
_FEW_LETTERS: Final = 3

#: Of the name of a node or a resource, in UTF-8.
MAX_NAME_BYTES: Final = 255
#: Characters of the name that monitors show for a DAG.
MOST_OF_DAG_NAME: Final = 64
#: The rule, for error messages.
NAME_RULE: Final = f"a name is printable and has 1 to {MAX_NAME_BYTES} bytes"


def is_name(text: str) -> bool:
    """True if this may be the name of a node or a resource, which members show on their terminals and keep."""
    return 0 < len(text) <= MAX_NAME_BYTES and text.isprintable() and len(text.encode()) <= MAX_NAME_BYTES


def check_node_name(name: str | None) -> None:
    """Raise ValueError unless a node may have this name; None and "" stand for a name that is made for it."""
    if name and not is_name(name):
        raise ValueError(f"name={name[:MAX_NAME_BYTES]!r}: {NAME_RULE}")


def check_kept_name(name: object) -> None:
    """Raise ValueError unless a value may be kept under this name."""
    if not (isinstance(name, str) and is_name(name)):
        raise ValueError(
            f"name={name!r}: a value is kept under 1 to {MAX_NAME_BYTES} bytes of printable text"
        )


def encodable(text: str) -> str:
    r"""Return the text with lone surrogates as `repr` shows them, as in \udcff; all else can be encoded."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters: the beginning and the end, and between them how much was left out."""
    if len(text) <= most:
        return text
    notice = " ... "
    if most >= _ROOM_FOR_NOTICE:
        notice = f" ... {len(text):,} characters left out ... "
        notice = f" ... {len(text) - most + len(notice):,} characters left out ... "
    kept = max(0, most - len(notice))
    return f"{text[: kept - kept // 2]}{notice}{text[len(text) - kept // 2 :]}"


def named(function_id: object, facts: str = "") -> str:
    """Return a function's id as `repr` shows it, with what there is to say about the function beyond that."""
    return repr_of(function_id) + (f" ({facts})" if facts else "")


def repr_of(value: object, most: int = MOST_OF_VALUE) -> str:
    """Return the repr of a user's value, shortened. If that raises, the text says so."""
    kind = type(value)
    if kind is str and len(value) > most:  # type: ignore[arg-type]  # a str has a length
        value = shortened(value, most)  # type: ignore[arg-type]
    try:
        return shortened(_plain(repr(value)), most)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's __repr__ raises what it likes
        return f"<{_name(kind)} whose repr raises {_name(type(error))}>"


def brief_repr_of(value: object, most: int) -> str:
    """Return what `repr_of` does, without making the whole text of large lists, dicts and strings first."""
    try:
        return shortened(_BRIEF.repr(value), most)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's __repr__ raises what it likes
        return f"<{_name(type(value))} whose repr raises {_name(type(error))}>"


def str_of(value: object, most: int = MOST_OF_VALUE) -> str:
    """Return the text of a user's value, such as an exception, shortened. If that raises, the text says so."""
    try:
        return shortened(_plain(str(value)), most)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's __str__ raises what it likes
        return f"(its text is unavailable: str raises {_name(type(error))})"


def exact(number: float) -> str:
    """Return a number that a user has given, as they would write it: 1 and 1.0 as "1", without rounding."""
    return f"{number:.12g}"


def dag_name_of(dag_id: object) -> str:
    """Return the name that monitors show for a DAG: its id as text, shortened, which any message can carry."""
    return shortened(encodable(str_of(dag_id)), MOST_OF_DAG_NAME)


def type_name_of(value: object) -> str:
    """Return the name of a value's type, with its module unless it is built in."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return shortened(name, MAX_NAME_BYTES)


class _BriefRepr(Repr):
    """Texts of the first elements of built-in collections, and of the ends of strings."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = MOST_OF_VALUE
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 10

    def repr1(self, value: object, level: int) -> str:
        """Return the text of a part. The base class goes by the names of types, and hides errors of users' own."""
        if type(value) in _COLLECTIONS:
            return super().repr1(value, level)
        if type(value) is bytes and len(value) > MOST_OF_VALUE:
            return f"{value[:MOST_OF_VALUE]!r}..."
        return repr_of(value)

    def repr_dict(self, value: dict[object, object], level: int) -> str:
        """Return the text of a dict in its own order; the base class sorts it."""
        if not value or level <= 0:
            return "{...}" if value else "{}"
        items = list(islice(value.items(), self.maxdict))
        parts = [f"{self.repr1(key, level - 1)}: {self.repr1(part, level - 1)}" for key, part in items]
        return f"{{{', '.join(parts)}{', ...' if len(value) > len(items) else ''}}}"


_COLLECTIONS: Final = frozenset({dict, frozenset, list, set, str, tuple})
_BRIEF: Final = _BriefRepr()


def near(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of `names` that `name` may have been meant to be, the likeliest first. Few of very many are compared."""
    from difflib import get_close_matches  # noqa: PLC0415 - only errors need it

    compared = list(islice(names, _MOST_COMPARED))
    # Few letters are the beginning of much; of ids such as "load-1" even one is telling.
    beginnings = (name.lower(),) if len(name) >= _FEW_LETTERS else (f"{name.lower()}-",)
    beginning = [other for other in compared if other.lower().startswith(beginnings)][:_MOST_NAMED]
    like = get_close_matches(name, [other for other in compared if len(other) <= MAX_NAME_BYTES], _MOST_NAMED)
    return list(dict.fromkeys([*beginning, *like]))[:_MOST_NAMED]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a question to put behind an error about an unknown name; "" if no other name is near."""
    found = near(name, names)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _plain(text: str) -> str:
    # A subclass may have methods of its own.
    return text if type(text) is str else str.__str__(text)


def _name(kind: type) -> str:
    return shortened(type.__dict__["__qualname__"].__get__(kind), MAX_NAME_BYTES)
