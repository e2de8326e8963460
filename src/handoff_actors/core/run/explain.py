"""The reasons why each unfinished function of a run is where it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from handoff_actors.core.run.facts.phases import READY, RESTING, SENT
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.facts.story import NO_STORY, Story, StoryLog
from handoff_actors.core.run.nested_run import NestedRun
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index, Resources
from handoff_actors.text import repr_of


@dataclass(frozen=True, slots=True)
class Explanation:
    """The place of one unfinished function, and the reasons for it."""

    #: The function's id.
    function_id: FunctionId
    #: "waiting" for inputs, "ready" and waiting for a node, "sent" to one, or "resting" before its next try; "held" in the app,
    #: which has not yet given it to its open run: see `max_pending`.
    state: str
    #: The inputs that are not there yet.
    waits_for: tuple[FunctionId, ...]
    #: The resources that it claims.
    needs: Resources
    #: The node that it is on, or was on last.
    node: str | None
    #: The number of times it has been sent to a node.
    attempts: int
    #: By node: why that one has not been sent it, or will never start it.
    nodes: dict[str, str]
    #: The story of the function so far; empty if no fault is in it.
    story: Story
    #: The objects of `per_worker` that it needs, by name, and the nodes with workers that have them.
    warm: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: The function that has added it; None for those of the app.
    parent: FunctionId | None = None


def explain(
    plan: Plan,
    state: RunState,
    scheduler: Scheduler,
    stories: StoryLog,
    nested: NestedRun,
) -> Iterator[Explanation]:
    """Explain every function that is not done, in the order of the plan."""
    departures = stories.by_function()
    for index in state.unfinished():
        own = departures.get(index)
        story = NO_STORY if own is None else stories.story_of(index, own)
        yield explain_one(index, plan, state, scheduler, story, nested)


def explain_one(
    index: Index,
    plan: Plan,
    state: RunState,
    scheduler: Scheduler,
    story: Story,
    nested: NestedRun,
) -> Explanation:
    """Explain a function that is not done. `story` is its own; an empty one if no fault is in it."""
    phase = state.phase[index]
    where = {READY: "ready", SENT: "sent", RESTING: "resting"}.get(phase, "waiting")
    need = scheduler.needs.of[index]
    nodes = _why_not_sent(index, plan, scheduler) if phase == READY else {}
    if phase == SENT and state.cut_off:
        nodes |= _relayed_inputs(index, plan, state)
    if nested.is_on and phase in {READY, SENT}:
        reasons = {name: nested.why_not(index, name) for name in scheduler.nodes}
        nodes |= {name: reason for name, reason in reasons.items() if reason}
    waits_for = tuple(
        plan.ids[producer] for producer in plan.producers[index] if state.awaits(index, producer)
    )
    return Explanation(
        plan.ids[index],
        where,
        waits_for,
        need.cost,
        state.node[index],
        state.tries(index),
        nodes,
        story,
        _warm(index, plan, scheduler),
        plan.parent_of.get(index),
    )


def _why_not_sent(index: Index, plan: Plan, scheduler: Scheduler) -> dict[str, str]:
    """Say by node why a function that is ready has not been sent there."""
    need, target = scheduler.needs.of[index], scheduler.destinations.target_of(index)
    hook = plan.hook_of.get(index)
    is_declined = not scheduler.declined_by_policy.isdisjoint(
        {index, index if hook is None else hook.consumer}
    )
    nodes = {
        node.name: _why_not(node, need, target, scheduler.why_late(index, node), is_declined=is_declined)
        for node in scheduler.nodes.values()
    }
    if target is not None and target not in nodes:
        nodes[target] = "is not there"
    return nodes


def _warm(index: Index, plan: Plan, scheduler: Scheduler) -> dict[str, tuple[str, ...]]:
    specs = (plan.templates[number].warm for number in sorted(scheduler.needs.warm.get(index, ())))
    names = [spec.name for spec in specs if spec is not None]
    return dict(zip(names, map(tuple, map(sorted, scheduler.locality.warm_at(index))), strict=True))


def _relayed_inputs(index: Index, plan: Plan, state: RunState) -> dict[str, str]:
    """Name the inputs that come to the function's node through the app."""
    name = state.node[index] or ""
    unreachable = state.cut_off.get(name, set())
    stored = {producer: state.stored.get(producer) for producer in plan.producers[index]}
    relayed = {
        producer: value.holders
        for producer, value in stored.items()
        if value is not None and name not in value.holders and unreachable.issuperset(value.holders)
    }
    if not relayed:
        return {}
    inputs = ", ".join(repr_of(plan.ids[producer]) for producer in relayed)
    holders = ", ".join(sorted({repr(holder) for holders in relayed.values() for holder in holders}))
    return {name: f"gets no connection to {holders}: {inputs} comes through the app, which takes longer"}


def _why_not(
    node: NodeState, need: RequirementClass, target: str | None, late: str, *, is_declined: bool
) -> str:
    if target not in {None, node.name}:
        return f"the function is to run on {repr_of(target)}"
    if node.workers and (unusable := _why_unusable(node)):
        return unusable
    if not node.could_ever_hold(need):
        return (late if node.could_start_for(need) else "") or node.shortfall(need)
    if late:
        return late
    if not node.fits(need):
        return f"has {node.spare} and {node.spare_workers} workers to spare, and enough queued"
    if is_declined:
        return "has room; the policy has chosen none of the nodes that have"
    return "has room; other functions go first, or max_concurrency is reached"


def _why_unusable(node: NodeState) -> str:
    if node.is_leaving:
        return "leaves the cluster"
    if node.offer.suspect:
        return "has not been heard of for a while"
    if node.is_out_of_use:
        return f"is out of use: {node.offer.out_of_use}"
    if node.load.is_paused:
        return "has given back work and not said how it stands"
    return ""
