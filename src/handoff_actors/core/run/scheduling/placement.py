"""Placement policies: the choice among the nodes that have room for a function."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.ids import FunctionId, Resources

#: Moving this many bytes counts as much as having no spare resources at all.
MOVE_NBYTES = 100_000_000


class Need(Struct, frozen=True):
    """A function that is ready to be placed."""

    #: The function's id.
    function_id: FunctionId
    #: The claim: cpu in cores, memory in MB, gpu in devices, others in units of their own.
    cost: Resources
    #: Bytes of its stored input. An object of `per_worker` counts as 100 MB, here and below.
    input_nbytes: int
    #: Bytes of its stored input that each node holds, by node name; negative where they would have to go through the app.
    held: Mapping[str, int]
    #: True for a coroutine function, which takes no worker.
    is_async: bool = False


class PlacementPolicy(Protocol):
    """A rule that chooses a node for a function. A user's own is wrapped, so that it can't change the nodes."""

    def choose(self, need: Need, nodes: Sequence[NodeState]) -> NodeState | None:
        """One of `nodes`, which come in the order of their names, or None to wait until something changes.

        They have room, or, if none has, may queue the function. Pinned and collocated functions are placed without it.
        """
        ...


class MostSpare:
    """The node whose scarcest relevant resource has the largest spare share after the claim.

    Bytes that would have to move count against it; ties go to the node that holds most of the input, then to one that
    differs from session to session, so that many apps do not all choose the same. On a node where functions wait, more is claimed than the node has, and its spare share is negative: so moving the
    input and waiting next to it are compared on the same scale.
    """

    def choose(self, need: Need, nodes: Sequence[NodeState]) -> NodeState | None:
        """Choose the node with the largest spare share."""
        return max(nodes, key=lambda node: self._rank(need, node), default=None)

    def prefers_to_stay(self, need: Need, node: NodeState, others: Sequence[NodeState]) -> bool:
        """True if a function queued on `node` is at least as well off there as on any of `others`."""
        rank = self._rank(need, node, is_there=True)[:2]
        return all(self._rank(need, other)[:2] <= rank for other in others)

    def _rank(self, need: Need, node: NodeState, *, is_there: bool = False) -> tuple[float, int, int]:
        held = need.held.get(node.name, 0)
        share = spare_share(node, need.cost, is_async=need.is_async, is_claimed=is_there)
        return share - (need.input_nbytes - held) / MOVE_NBYTES, held, node.load.tie


class FirstAvailable:
    """The first node, by name, that has room."""

    def choose(self, need: Need, nodes: Sequence[NodeState]) -> NodeState | None:  # noqa: ARG002 - the policy's shape
        """Choose the first node."""
        return nodes[0] if nodes else None


class LoadBalanced:
    """The node with the fewest functions per worker, of all runs and apps; ties go as with `MostSpare`."""

    def choose(self, need: Need, nodes: Sequence[NodeState]) -> NodeState | None:  # noqa: ARG002 - the policy's shape
        """Choose the least loaded node."""
        return min(nodes, key=_functions_per_worker, default=None)


class Locality:
    """The node that holds most of the input; ties go to the one with the largest spare share, then as with `MostSpare`."""

    def choose(self, need: Need, nodes: Sequence[NodeState]) -> NodeState | None:
        """Choose the node nearest to the data."""
        return max(
            nodes,
            key=lambda node: (
                need.held.get(node.name, 0),
                spare_share(node, need.cost, is_async=need.is_async),
                node.load.tie,
            ),
            default=None,
        )


POLICIES: Mapping[str, PlacementPolicy] = {
    "most_spare": MostSpare(),
    "first_available": FirstAvailable(),
    "load_balanced": LoadBalanced(),
    "locality": Locality(),
}


def spare_share(
    node: NodeState, cost: Mapping[str, float], *, is_async: bool = False, is_claimed: bool = False
) -> float:
    """Share of the scarcest resource in `cost` that is left after the claim, of all runs and apps as far as is known.

    A sync function takes a worker, and a core where it says nothing about cores. Negative where functions wait. With
    `is_claimed`, the claim is already among the node's.
    """
    return node.load.spare_share(cost, is_async=is_async, is_claimed=is_claimed)


def _functions_per_worker(node: NodeState) -> tuple[float, int]:
    load = node.load
    return (load.all_busy + load.coroutines) / max(1, node.workers), -load.tie
