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
        free = self._free
        reused = [free.pop() for _ in range(min(count, len(free)))] if free else []
        start = self._count
        self._count += count - len(reused)
        return [*reused, *range(start, self._count)]

    def give_back(self, number: int) -> None:
        """Let a number be taken again."""
        self._free.append(number)


def discard_all(facts: dict[int, Any] | set[int], numbers: Iterable[int]) -> None:
    """Remove what is known about numbers, if anything: of most kinds of facts there are none at all."""
    if not facts:
        return
    if isinstance(facts, set):
        facts.difference_update(numbers)
        return
    for number in numbers:
        facts.pop(number, None)
