"""Code that nothing changes: it is pickled once, however often it is sent."""

from functools import partial
from typing import Any

from handoff_actors.wire.code.by_value_pickler import pickled_code
from handoff_actors.wire.code.namespaces import Group


class UnchangingCode(partial[Any]):
    """A plain function with arguments that keep their state for good. Workers get an ordinary partial."""

    # No attribute: those of a partial would be sent along.
    __slots__ = ("_pickled",)

    _pickled: tuple[bytes, list[Group], set[str]]

    def pickled(self, modules: set[str] | None) -> tuple[bytes, list[Group]]:
        """Return the same as `pickled_code`."""
        try:
            main, groups, used = self._pickled
        except AttributeError:
            used = set[str]()
            main, groups = pickled_code(partial(self.func, *self.args), used)
            self._pickled = main, groups, used
        if modules is not None:
            modules |= used
        return main, groups
