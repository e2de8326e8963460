"""Values as YAML that every version of it reads alike: block style, and double quotes around all but plain words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

YamlValue = str | int | bool | Sequence["YamlValue"] | Mapping[str, "YamlValue"]

#: Other texts could be read as numbers, dates, keys, or comments.
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_/.-]*")
#: Words that some version of YAML reads as no text.
_NO_TEXTS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})
_ESCAPED: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_INDENT: Final = "  "
_BYTE, _PLANE = 0xFF, 0xFFFF
_SURROGATES: Final = range(0xD800, 0xE000)


def yaml_of(document: Mapping[str, YamlValue]) -> str:
    """Write one document, with a newline at its end. Raises ValueError for text that no YAML can hold."""
    return "".join(f"{line}\n" for line in _lines(document))


def is_unicode(text: str) -> bool:
    """False for text that no file can hold. An argument that was no UTF-8 has lone surrogates."""
    return not any(ord(letter) in _SURROGATES for letter in text)


def _lines(value: YamlValue) -> Iterator[str]:
    """Write a mapping or a sequence that is not empty."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _entry(f"{_quoted(key)}:", part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _item(part)
    else:
        yield _scalar(value)


def _entry(key: str, value: YamlValue) -> Iterator[str]:
    if _is_scalar(value):
        yield f"{key} {_scalar(value)}"
        return
    yield key
    yield from (_INDENT + line for line in _lines(value))


def _item(value: YamlValue) -> Iterator[str]:
    first, *others = _lines(value) if not _is_scalar(value) else [_scalar(value)]
    yield f"- {first}"
    yield from (_INDENT + line for line in others)


def _is_scalar(value: YamlValue) -> bool:
    return isinstance(value, str | int) or not value


def _scalar(value: YamlValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    return "{}" if isinstance(value, Mapping) else "[]"


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXTS:
        return text
    if not is_unicode(text):
        raise ValueError(f"{text!r} is not Unicode text")
    return '"' + "".join(map(_letter, text)) + '"'


def _letter(letter: str) -> str:
    if letter in _ESCAPED:
        return _ESCAPED[letter]
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code <= _BYTE else f"\\u{code:04x}" if code <= _PLANE else f"\\U{code:08x}"
