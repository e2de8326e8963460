"""Which functions run only where Python has the minor version that the app has.

Code that can be imported goes by reference, and runs wherever its module can be imported. Code by value holds bytecode,
which another minor version can't run: such a function needs a node of the app's own version, and so does one that takes
a constant, or the result of an inline function, with code by value in it, or whose result has such a serialize hook. What
results have in them nobody knows before they are there: see `wire.pickling`.
"""

from collections.abc import Sequence

from msgspec import Struct

from handoff_actors.graph.plan import ArgSpec, CallSpec, Plan
from handoff_actors.ids import Index


class PythonAffinity(Struct, frozen=True):
    """What of a program has code by value in it, by the numbers that its plan has for it."""

    #: The only minor version of Python, for example "3.11", that can load it.
    python: str = ""
    templates: frozenset[int] = frozenset()
    constants: frozenset[int] = frozenset()
    values: frozenset[int] = frozenset()

    def may_bind_other_functions(self, plan: Plan) -> bool:
        """Whether a function whose own code is not affinity may need a affinity part all the same."""
        return bool(self.constants or self.values or 0 < len(self.templates) < len(plan.templates))

    def binds(self, plan: Plan, index: Index) -> bool:
        """Whether a function, or what is computed within it, needs something affinity."""
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
