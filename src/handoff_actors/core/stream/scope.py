"""Counts what is alive of an item, or of the results of one call of a generator."""

from msgspec import Struct


class Scope(Struct, eq=False):
    """What has come of one thing. It is over once nothing of it is alive: waits, is worked on, or is a result that nobody has taken."""

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
