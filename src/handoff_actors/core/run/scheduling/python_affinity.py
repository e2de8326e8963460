"""Python affinity: the functions that run only on nodes with the app's minor version of Python.

Importable code is pickled by reference, and runs wherever its module can be imported. Code pickled by value contains
bytecode, which another minor version can't run. Such a function needs a node of the app's version, and so does one that
takes a constant, or the result of an inline function, with code by value in it, or whose result has such a serialize hook.
A result's contents are unknown until it exists: see `wire.pickling`.
"""

from collections.abc import Sequence

from msgspec import Struct

from handoff_actors.graph.plan import ArgSpec, CallSpec, Plan
from handoff_actors.ids import Index


class PythonAffinity(Struct, frozen=True):
    """The parts of a program that contain code by value, by their numbers in its plan."""

    #: The only minor version of Python that can load them, for example "3.11".
    python: str = ""
    templates: frozenset[int] = frozenset()
    constants: frozenset[int] = frozenset()
    values: frozenset[int] = frozenset()

    def may_bind_other_functions(self, plan: Plan) -> bool:
        """True if functions whose own template is by reference may need a part that contains code by value."""
        return bool(self.constants or self.values or 0 < len(self.templates) < len(plan.templates))

    def binds(self, plan: Plan, index: Index) -> bool:
        """True if a function, or an inline call among its arguments, needs code by value."""
        own = plan.template_of[index] in self.templates or plan.constants_of[index] in self.constants
        return own or self._is_within(plan.args[index])

    def _is_within(self, args: Sequence[ArgSpec]) -> bool:
        pending = list(args)
        # Shared calls are entered once: paths through diamonds of them are far more than calls.
        entered: set[int] = set()
        while pending:
            spec = pending.pop()
            if isinstance(spec, CallSpec):
                if spec.template in self.templates or spec.constants in self.constants:
                    return True
                if id(spec) not in entered:
                    entered.add(id(spec))
                    pending += spec.args
            elif isinstance(spec, int) and ~spec in self.values:
                return True
        return False


NO_AFFINITY = PythonAffinity()
