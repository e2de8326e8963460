"""Inputs that a function of a plan can do without, and the conditions on which it runs."""

from handoff_actors.graph.function import RunIf
from handoff_actors.graph.plan import ArgSpec, Plan, results_within
from handoff_actors.ids import Index


def run_if_of(plan: Plan, index: Index) -> RunIf:
    """Say when a function runs; a serialize hook runs as its consumer does."""
    hook = plan.hook_of.get(index)
    return plan.templates[plan.template_of[index if hook is None else hook.consumer]].run_if


def conditions_among(plan: Plan, index: Index) -> tuple[ArgSpec, ...]:
    """Return the conditions of a function: the last of its args."""
    args = plan.args[index]
    return args[len(args) - plan.templates[plan.template_of[index]].conditions :]


def tolerates(plan: Plan, index: Index, producer: Index) -> bool:
    """True if the function runs even if this input has failed or was skipped: any that is no condition, with `run_if`.

    A serialize hook needs the result that it works on, too.
    """
    if run_if_of(plan, index) == "success":
        return False
    hook = plan.hook_of.get(index)
    if hook is None:
        return producer not in results_within(conditions_among(plan, index))
    return producer != hook.producer and tolerates(plan, hook.consumer, producer)
