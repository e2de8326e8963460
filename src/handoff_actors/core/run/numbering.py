"""Numbers of things that come and go: those that are free again are given out first."""


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
