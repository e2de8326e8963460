"""Checks that the nodes could hold all workers of a stream at once, as they all stay."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from handoff_actors.core.resources import holds
from handoff_actors.core.stream.stages.stage import StreamStage
from handoff_actors.errors import AllocationError
from handoff_actors.ids import FunctionId, Resources


class WorkerNeed(NamedTuple):
    """The claim of one worker of a stage."""

    function_id: FunctionId
    cost: Resources
    #: The only node that it may be on; None: any.
    node: str | None


def needs_of(stages: Iterable[StreamStage]) -> list[WorkerNeed]:
    """List what the workers of a stream's stages claim, the least that there are of each."""
    needs: list[WorkerNeed] = []
    for stage in stages:
        function = stage.vertex.function
        if function.cost:
            node = function.node if isinstance(function.node, str) else None
            needs += [WorkerNeed(function.id, dict(function.cost), node)] * stage.least
    return needs


def check_capacity(needs: Iterable[WorkerNeed], offers: Mapping[str, Resources]) -> None:
    """Raise AllocationError if the nodes can't hold all of these at once, by the names of nodes and what they offer.

    The largest claims go first, each to the first node with room for it: where that fails, some other way may be left in rare
    cases. So it is asked only once the workers have in vain been waited for.
    """
    spare = {name: dict(offer) for name, offer in sorted(offers.items())}
    for need in sorted(needs, key=lambda each: (each.node is None, -_share(each.cost, offers))):
        names = [name for name in spare if need.node in {None, name}]
        name = next((name for name in names if holds(spare[name], need.cost)), None)
        if name is None:
            reason = (
                f"needs {need.cost} for each of its workers, and the other workers of the stream leave none of the nodes enough:"
                " all hold their claims as long as the stream lasts, so use a smaller cost or parallelism, or more nodes"
            )
            raise AllocationError(need.function_id, need.cost, offers, reason)
        for resource, amount in need.cost.items():
            spare[name][resource] = spare[name].get(resource, 0.0) - amount


def _share(cost: Mapping[str, float], offers: Mapping[str, Resources]) -> float:
    totals: dict[str, float] = {}
    for offer in offers.values():
        for resource, amount in offer.items():
            totals[resource] = totals.get(resource, 0.0) + amount
    return max(
        (amount / totals[name] if totals.get(name) else 1.0 for name, amount in cost.items()), default=0.0
    )
