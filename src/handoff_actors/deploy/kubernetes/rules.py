"""The rules of Kubernetes for names, labels, images and quantities, so that mistakes are told before anything is applied.

Each function returns its argument, or raises ValueError, which says what is wrong with it and shows one that is right.
"""

import re
from collections.abc import Mapping
from typing import Final

#: Kubernetes adds a hyphen and ten characters to the name of a StatefulSet, in a label of its pods, which may have 63.
MOST_OF_A_SET: Final = 52
MOST_OF_A_LABEL: Final = 63
_MOST_OF_A_DOMAIN: Final = 253
_MOST_OF_AN_IMAGE: Final = 255

_LABEL: Final = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_DNS_LABEL: Final = re.compile(_LABEL)
_DNS_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_WORD: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_HOST: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PATH: Final = "[a-z0-9]+(?:(?:[.]|_{1,2}|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"(?P<name>(?:{_HOST}(?:\.{_HOST})*(?::[0-9]+)?/)?{_PATH}(?:/{_PATH})*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z0-9]+)*:[0-9a-fA-F]{32,})?"
)
_QUANTITY: Final = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]{1,3})?)(?P<unit>[A-Za-z]*)")
_BYTES: Final[Mapping[str, int]] = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{letter}i": 1 << 10 * power for power, letter in enumerate("KMGT", start=1)
}
_CORES: Final[Mapping[str, float]] = {"": 1.0, "m": 0.001}


def check_set_name(text: str) -> str:
    """Check the name of a StatefulSet and of its Service, a DNS label that begins with a letter."""
    if not _DNS_LABEL.fullmatch(text) or not text[0].isalpha():
        raise ValueError(
            f"{text!r} is no name of a Service: that has lower-case letters, digits and hyphens, as in handoff-2, "
            "and begins with a letter"
        )
    return _within(text, MOST_OF_A_SET)


def check_namespace(text: str) -> str:
    """Check the name of a namespace, a DNS label."""
    if not _DNS_LABEL.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name of a namespace: that has lower-case letters, digits and hyphens, as in batch-2"
        )
    return _within(text, MOST_OF_A_LABEL)


def check_object_name(text: str) -> str:
    """Check the name of a Secret, a DNS name."""
    if not _DNS_DOMAIN.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name of a Secret: that has lower-case letters, digits, hyphens and dots, as in handoff-key"
        )
    return _within(text, _MOST_OF_A_DOMAIN)


def check_image(text: str) -> str:
    """Check the reference of an image: name, tag and digest."""
    found = _IMAGE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no reference of an image; one looks like registry.example/team/handoff:1.2"
        )
    _within(found["name"], _MOST_OF_AN_IMAGE)
    return text


def check_label_key(text: str) -> str:
    """Check the key of a label or a taint, or the name of a resource: a word, with a domain in front or without."""
    *prefix, word = text.split("/", 1)
    if not _WORD.fullmatch(word) or (prefix and not _DNS_DOMAIN.fullmatch(prefix[0])):
        raise ValueError(f"{text!r} is no key of Kubernetes; one looks like disk or example.org/disk")
    for part in prefix:
        _within(part, _MOST_OF_A_DOMAIN)
    _within(word, MOST_OF_A_LABEL)
    return text


def check_label_value(text: str) -> str:
    """Check the value of a label or a taint, which may be empty."""
    if text and not _WORD.fullmatch(text):
        raise ValueError(
            f"{text!r} is no value of a label: that has letters, digits, and -, _ or . between them, as in fast-2"
        )
    return _within(text, MOST_OF_A_LABEL)


def nbytes_of(quantity: str) -> int:
    """Return the bytes of an amount of memory, such as 8Gi."""
    number, unit = _parts(quantity)
    if unit == "m":
        raise ValueError(
            f"{quantity!r} are thousandths of bytes on Kubernetes; for mebibytes write {number}Mi"
        )
    if unit not in _BYTES:
        raise ValueError(f"{quantity!r} is no amount of memory; one looks like 8Gi or 500M")
    return round(float(number) * _BYTES[unit])


def cores_of(quantity: str) -> float:
    """Return the cores of an amount of CPU, such as 2, 0.5 or 500m."""
    number, unit = _parts(quantity)
    if unit not in _CORES or not float(number):
        raise ValueError(f"{quantity!r} is no amount of CPU; one looks like 2, 0.5 or 500m")
    return float(number) * _CORES[unit]


def _parts(quantity: str) -> tuple[str, str]:
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity of Kubernetes; one looks like 2, 500m or 8Gi")
    return found["number"], found["unit"]


def _within(text: str, most: int) -> str:
    if len(text) > most:
        raise ValueError(f"{text!r} has {len(text)} characters, and may have {most}")
    return text
