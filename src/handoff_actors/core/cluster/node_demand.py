"""The number of nodes that functions which wait could fill, by their claims.

First fit, the largest claims first: never more nodes than the functions fill side by side, and never a node for functions that
it could not run. A backlog that is done soon is no reason to start a machine for each function in it.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

from handoff_actors.core.resources import how_many
from handoff_actors.ids import Resources
from handoff_actors.wire.messages.members import Backlog

#: A worker of a new node should have at least this much work. Its start takes about as long.
WORTHWHILE_S: Final = 10.0
#: The claim of a function that claims nothing: nodes have one worker for each core.
_A_WORKER: Final[Mapping[str, float]] = {"cpu": 1.0}


def nodes_needed(
    backlogs: Sequence[Backlog], offer: Mapping[str, float], at_most: int, for_s: float | None = None
) -> int:
    """Count the nodes of such an offer, which are there for `for_s` seconds, that backlogs could use."""
    spare: list[Resources] = []
    for backlog in sorted(backlogs, key=lambda backlog: -_share(backlog, offer)):
        cost = backlog.cost or _A_WORKER
        is_too_long = for_s is not None and backlog.least_s > for_s
        if is_too_long or how_many(offer, cost, 1) == 0:
            continue
        count = _at_once(backlog)
        for node in spare:
            count -= _fill(node, cost, count)
        while count > 0 and len(spare) < at_most:
            node = dict(offer)
            count -= _fill(node, cost, count)
            spare.append(node)
    return len(spare)


def _share(backlog: Backlog, offer: Mapping[str, float]) -> float:
    """The largest share of a node that one of the functions takes."""
    cost = backlog.cost or _A_WORKER
    return max((amount / (offer.get(resource) or 1.0) for resource, amount in cost.items()), default=0.0)


def _at_once(backlog: Backlog) -> int:
    """The number of functions that should run side by side, so that each worker has enough to do."""
    if backlog.usual_s is None:
        return backlog.count
    return min(backlog.count, ceil(backlog.count * backlog.usual_s / WORTHWHILE_S) or 1)


def _fill(node: Resources, cost: Mapping[str, float], count: int) -> int:
    """Take the room of up to `count` functions from a node."""
    fitting = how_many(node, cost, count)
    for resource, amount in cost.items():
        node[resource] = node.get(resource, 0.0) - fitting * amount
    return fitting
