"""Numbers of things that come and go: those that are free again are given out first."""

from collections.abc import Iterable
from typing import Any


class Numbering:
    """The numbers from 0 on."""

    def __init__(self, count: int) -> None:
        """`count` numbers are taken."""
        self._count = count
        self._free: list[int] = []

    def take(self, count: int) -> list[int]:
        """Take so many numbers: first free ones, then new ones, in order."""
        if not count:
            return []
        free = self._free
        reused = free[: -count - 1 : -1]
        del free[-count:]
        start = self._count
        self._count += count - len(reused)
        return [*reused, *range(start, self._count)]

    def give_back(self, numbers: Iterable[int]) -> None:
        """Let numbers be taken again."""
        self._free.extend(numbers)


def discard_all(numbers: Iterable[int], *facts: dict[int, Any] | set[int]) -> None:
    """Remove what is known about numbers, if anything: of most kinds of facts there are none at all."""
    for known in facts:
        if not known:
            continue
        if isinstance(known, set):
            known.difference_update(numbers)
            continue
        for number in numbers:
            known.pop(number, None)
