"""Names of code, for people."""

from functools import partial
from typing import TYPE_CHECKING

from handoff_actors.attributes import own_attribute

if TYPE_CHECKING:
    from handoff_actors.graph.plan import Plan
    from handoff_actors.ids import Index


def code_name(code: object) -> str:
    """Return the name of a callable, as its author knows it."""
    while isinstance(code, partial):
        code = code.func
    # Whatever wraps a function may say so.
    code = own_attribute(code, "__wrapped__", code)
    return str(own_attribute(code, "__qualname__", type(code).__qualname__))


def code_of(plan: "Plan", index: "Index") -> str:
    """Return the name of a function's code."""
    return code_name(plan.templates[plan.template_of[index]].code)
