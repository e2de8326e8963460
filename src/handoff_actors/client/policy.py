"""Placement policies of a user's own: what they are asked, and the read-only view of a node that they get."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.placement import Need
from handoff_actors.errors import HandoffError
from handoff_actors.text import repr_of, str_of


class NodeView:
    """A node as a `Policy` sees it. Read-only; attributes always have their present values.

    A run has one view of each node, so a policy may keep views, compare them with `is`, or use them as keys. A node
    that leaves and comes back gets a new view.
    """

    __slots__ = ("_state",)

    def __init__(self, state: NodeState) -> None:
        self._state = state

    @property
    def name(self) -> str:
        """Name of the node, unique in its cluster."""
        return self._state.name

    @property
    def address(self) -> str:
        """Address at which other members reach the node, such as "tcp://10.0.0.1:7070"."""
        return self._state.address

    @property
    def python(self) -> str:
        """Minor version of its Python, such as "3.12"; "" if unknown."""
        return self._state.python

    @property
    def capabilities(self) -> Mapping[str, float]:
        """Total resources: cpu in cores, memory in MB, gpu in devices, others in units of their own."""
        return MappingProxyType(self._state.capabilities)

    @property
    def spare(self) -> Mapping[str, float]:
        """Resources not claimed: `capabilities` minus the claims of this session's functions and, as last heard, of all others.

        Functions that wait count, too.
        """
        return MappingProxyType(self._state.spare)

    @property
    def workers(self) -> int:
        """Number of processes that run sync functions."""
        return self._state.workers

    @property
    def spare_workers(self) -> int:
        """Number of workers that no function keeps busy, or waits for, as far as is known."""
        return self._state.spare_workers

    @property
    def functions(self) -> int:
        """Number of functions of this run that are on the node, running or queued."""
        return len(self._state.sent)

    def __repr__(self) -> str:
        return f"<NodeView {self.name!r}: {dict(self.spare)} spare>"


@runtime_checkable
class Policy(Protocol):
    """A rule that chooses nodes for functions. Any object with this method is one."""

    def choose(self, need: Need, nodes: Sequence[NodeView]) -> NodeView | None:
        """Return one of `nodes` for a function that is ready, or None to wait until something changes.

        Functions with a `node=` of their own are placed without asking. An exception ends the run.

        :param need: The function: its id, its cost, and where its stored inputs are.
        :param nodes: The nodes that have room for the function, or, if none has, those that may queue it, by name.
        :returns: One of the very objects in `nodes`, or None.
        """
        ...


class UserPolicy:
    """A user's policy as the scheduler calls it. Turns views back into nodes, and reports mistakes as such."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        #: The latest view of each node, by name.
        self._views: dict[str, tuple[NodeState, NodeView]] = {}

    def choose(self, need: Need, nodes: Sequence[NodeState]) -> NodeState | None:
        """See PlacementPolicy. Raises HandoffError for a choice that is none of `nodes`, and where the policy raises."""
        views = [self._view(node) for node in nodes]
        chosen = self._chosen(need, views)
        if chosen is None:
            return None
        for node, view in zip(nodes, views, strict=True):
            if view is chosen:
                return node
        raise HandoffError(
            f"allocation_strategy {repr_of(self._policy)} chose {repr_of(chosen)} for function {repr_of(need.function_id)}, "
            f"which is none of the nodes that it was given: {', '.join(node.name for node in nodes)}"
        )

    def _chosen(self, need: Need, views: Sequence[NodeView]) -> NodeView | None:
        try:
            return self._policy.choose(need, views)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # Even an exit: the machine that asks would be left half way.
            raise HandoffError(
                f"allocation_strategy {repr_of(self._policy)} raised {type(error).__name__} when asked for the node of "
                f"function {repr_of(need.function_id)}: {str_of(error)}"
            ) from error

    def _view(self, node: NodeState) -> NodeView:
        state, view = self._views.get(node.name, (None, None))
        if view is None or state is not node:
            view = NodeView(node)
            self._views[node.name] = (node, view)
        return view
