"""Names of the code of a run's functions."""

from typing import TYPE_CHECKING

from handoff_actors.graph.naming import code_name

if TYPE_CHECKING:
    from handoff_actors.graph.plan import Plan
    from handoff_actors.ids import Index

__all__ = ["code_name", "code_of"]


def code_of(plan: "Plan", index: "Index") -> str:
    """Return the name of a function's code."""
    return code_name(plan.templates[plan.template_of[index]].code)
