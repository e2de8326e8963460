"""The functions that a part of a plan belongs to, for errors about the part."""

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import cached_property

from handoff_actors.graph.plan import CallSpec, Plan
from handoff_actors.ids import FunctionId, Index
from handoff_actors.wire.messages.jobs import Ref, Template


def users_of_package(plan: Plan, templates: Iterable[Template], index: Index) -> set[Index]:
    """Return the functions that need a directory, or modules, of which the app has this value."""
    blame = Blame(plan)
    needing = [
        template.number for template in templates if index in {ref.index for ref in _packages_of(template)}
    ]
    return {user for number in needing for user in blame.users(PlanPart.TEMPLATE, number)}


def _packages_of(template: Template) -> Iterator[Ref]:
    if template.environment is not None and template.environment.package is not None:
        yield template.environment.package
    if template.modules is not None:
        yield template.modules.definitions


class PlanPart(Enum):
    """A kind of part, which the plan numbers."""

    TEMPLATE = "template"
    CONSTANTS = "constants"
    VALUE = "value"


class Blame:
    """Finds the functions of a plan that use a part of it, also by way of inline functions and hooks among their arguments."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def first(self, part: PlanPart, number: int) -> FunctionId:
        """Return the id of the first function that uses the part."""
        return self._plan.ids[self.users(part, number)[0]]

    def users(self, part: PlanPart, number: int) -> list[Index]:
        """List the functions that use the part."""
        return self._users.get((part, number), [])

    @cached_property
    def _users(self) -> dict[tuple[PlanPart, int], list[Index]]:
        plan = self._plan
        found: dict[tuple[PlanPart, int], list[Index]] = {}
        for index, args in enumerate(plan.args):
            pending = [CallSpec(plan.template_of[index], args, plan.constants_of[index])]
            while pending:
                call = pending.pop()
                found.setdefault((PlanPart.TEMPLATE, call.template), []).append(index)
                if call.constants >= 0:
                    found.setdefault((PlanPart.CONSTANTS, call.constants), []).append(index)
                for spec in call.args:
                    if isinstance(spec, CallSpec):
                        pending.append(spec)
                    elif isinstance(spec, int) and spec < 0:
                        found.setdefault((PlanPart.VALUE, ~spec), []).append(index)
        return found
