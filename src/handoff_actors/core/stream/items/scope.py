"""Counts what is alive of an item, or of the results of one call of a generator."""

from msgspec import Struct


class Scope(Struct, eq=False):
    """A count of the parts of one thing that are alive: wait, are worked on, or are results that were not taken. It is over at 0."""

    #: What it is part of, in which it counts as one until it is over.
    parent: "Scope | None" = None
    alive: int = 0

    def part(self) -> "Scope":
        """Begin a scope within this one."""
        self.alive += 1
        return Scope(self)

    def end(self, count: int = 1) -> "list[Scope]":
        """Note that so much has ended. Returns the scopes that are over with that, from the inside out."""
        over: list[Scope] = []
        scope: Scope | None = self
        while scope is not None:
            scope.alive -= count
            assert scope.alive >= 0, "something has ended twice"
            if scope.alive:
                break
            over.append(scope)
            scope, count = scope.parent, 1
        return over
