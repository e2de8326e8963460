"""Names of functions that other functions have added, for people: ids of them are numbers, which say little.

A function that was added in place of another one, as its result, goes by the other one's id. Errors and stories name both.
"""

from collections.abc import Mapping

from handoff_actors.core.run.facts.part import ProgramPart
from handoff_actors.graph.naming import short_code_name
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index
from handoff_actors.text import named


class Origins:
    """The functions of one run, as people know them."""

    def __init__(self, plan: Plan, part_of: Mapping[Index, ProgramPart]) -> None:
        """`part_of` has the parts that were added to the run, by the indices of their functions."""
        self._plan = plan
        self._part_of = part_of

    def stand_in(self, index: Index) -> str:
        """Return the id that the function has in its own graph, as `repr` shows it, if it goes by another one's; else ""."""
        part = self._part_of.get(index)
        return part.result_name if part is not None and part.parent == index else ""

    def facts(self, index: Index) -> str:
        """Say more about a function than its id does; "" for one that no function has added."""
        part = self._part_of.get(index)
        if part is None or part.parent < 0:
            return ""
        if part.parent == index:
            name = part.result_name
            return f"in {name}, which it has returned as its result" if name else ""
        name = short_code_name(self._plan.templates[self._plan.template_of[index]].code)
        number = _number(self._plan.ids[index])
        if number is not None and number < part.items * part.stages:
            return f"{name} of item {number // part.stages}"
        return name

    def name(self, index: Index) -> str:
        """Return a function's id, as `repr` shows it, with what there is to say beyond that."""
        return named(self._plan.ids[index], self.facts(index))


def _number(function_id: FunctionId) -> int | None:
    """Return the number that a function has in its graph, with which `child_id` has made its id; None for one outside."""
    last = function_id[-1] if isinstance(function_id, tuple) else str(function_id).rpartition("/")[2]
    digits = str(last).rpartition(".")[2]
    return int(digits) if digits.isdecimal() else None
