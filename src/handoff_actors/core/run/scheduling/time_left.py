"""Keeps functions away from nodes that end before they would.

The machine of a node may be lent to it until a known time. A function is sent there only if it can end before the node begins to
drain: by its time limit, or, without one, by the time that functions of its kind usually take. Functions of which nothing is known
are sent: if they take too long, the node's end is a loss like any other. Where a function has to wait in a node's queue, the ones
before it are taken to last as long as it does.

All of that costs nothing as long as no node has an end.
"""

from collections.abc import Collection, Mapping, Sequence
from math import ceil, inf, log2
from typing import Final

from handoff_actors.core.run.facts.phases import DONE
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.durations import SAMPLE
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.requirements import SMOOTHING
from handoff_actors.escaping import escape_name
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.moving_average import smoothed
from handoff_actors.text import exact
from handoff_actors.wire.messages.jobs import Template

#: Lengths of functions that differ by less than this factor are one: those of one length wait in one lane.
_STEPS_PER_DOUBLING: Final = 4
#: Shorter ones fit before any end.
_SHORTEST_S: Final = 0.01
#: A queued function needs this multiple of its own time.
QUEUED: Final = 2.0


class TimeLeft:
    """The time that functions of one run take, against the time that nodes have left."""

    def __init__(self, plan: Plan, templates: Sequence[Template], state: RunState) -> None:
        self._plan = plan
        self._state = state
        self._templates = templates
        self._usual: dict[int, float] = {}
        #: True once some node has an end.
        self.is_on = False

    def assume(self, usual_s: Sequence[float | None]) -> None:
        """Start from durations of earlier runs, by kind."""
        self._usual = {kind: seconds for kind, seconds in enumerate(usual_s) if seconds is not None}

    def note_end(self) -> None:
        """Take note that some node has an end. From then on durations matter."""
        if self.is_on:
            return
        self.is_on = True
        for index in range(min(SAMPLE, self._plan.size)):
            if self._state.phase[index] == DONE and not self._state.is_reused(index):
                self.learn(index, self._state.ran_s[index])

    def learn(self, index: Index, seconds: float) -> None:
        """Record the duration of a function."""
        kind = self._plan.template_of[index]
        self._usual[kind] = smoothed(self._usual.get(kind), seconds, SMOOTHING)

    # --- Functions ----------------------------------------------------------------------------------------------

    def takes_s(self, index: Index) -> float:
        """The seconds that a node must have left for a function."""
        return self._of_kind(self._plan.template_of[index])

    def longest_s(self, kinds: Collection[int]) -> float:
        """The seconds that the longest of the functions of these kinds takes."""
        return max(map(self._of_kind, kinds), default=0.0)

    def length(self, index: Index) -> int:
        """The length of a function, as far as it matters for where it may go; 0 fits before any end."""
        seconds = self.takes_s(index)
        return 0 if seconds <= _SHORTEST_S else 1 + ceil(_STEPS_PER_DOUBLING * log2(seconds / _SHORTEST_S))

    def _of_kind(self, kind: int) -> float:
        limit_s = self._templates[kind].timeout
        return self._usual.get(kind, 0.0) if limit_s is None else limit_s

    # --- Nodes --------------------------------------------------------------------------------------------------

    def has_time(self, node: NodeState, index: Index, now: float, multiple: float = 1.0) -> bool:
        """True if the function can end before the node does."""
        return not self.is_on or multiple * self.takes_s(index) <= node.seconds_offered(now)

    def in_time(self, nodes: list[NodeState], index: Index, now: float) -> list[NodeState]:
        """The nodes of these on which the function can end before they do."""
        return [node for node in nodes if self.has_time(node, index, now)]

    def most_left_s(self, nodes: Collection[NodeState], now: float) -> float:
        """The seconds that one of these nodes, or one that it starts, has left at most."""
        return max((node.seconds_offered(now) for node in nodes), default=-inf)

    # --- For people ---------------------------------------------------------------------------------------------

    def why_not(self, node: NodeState, index: Index, now: float) -> str:
        """Say why a function is not sent to a node that ends; "" if it may be."""
        if self.has_time(node, index, now):
            return ""
        ends = "ends" if node.workers else "starts nodes that end"
        left = exact(round(node.seconds_offered(now), 1))
        return f"{ends} in {left} s, and the function {self._takes(index)}"

    def why_none(self, nodes: Mapping[str, NodeState], index: Index, now: float) -> str:
        """Say that these nodes, which could run a function otherwise, end too soon."""
        ends = ", ".join(
            f"{escape_name(repr(name))} in {exact(round(node.seconds_offered(now), 1))} s"
            for name, node in sorted(nodes.items())
        )
        return f"{self._takes(index)}, and the nodes that could run it end sooner ({ends})"

    def _takes(self, index: Index) -> str:
        takes = exact(round(self.takes_s(index), 1))
        limit_s = self._templates[self._plan.template_of[index]].timeout
        return f"usually takes {takes} s" if limit_s is None else f"may take {takes} s by its time limit"
