"""Which functions are sent along with another one, to run right behind it on the same worker, without a round trip each.

A unit is a chain or a small subtree: each member takes only what is done, or what earlier members make. That pays where
functions take less than it costs to hand one out; so only those join whose like are known to be quick, and only for
their first attempt: whatever did not end well, or turned out slow, is sent by itself from then on, so that blame, time
limits and retries are as certain as without units. See HyperQueue and Dask's graph fusion for the same thought.
"""

from collections.abc import Sequence

from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.requirements import OVERHEAD_S, RequirementClass, Requirements
from handoff_actors.core.run.state import WAITING, RunState
from handoff_actors.ids import Index

#: A unit is about this much work at limit, so that nobody waits long for its worker.
MAX_FUSED_S = 0.002
MAX_FUSED = 128
#: Of functions that could run side by side, only those quicker than handing one out run one after the other instead.
MAX_SIBLING_S = 0.00005


class Fusion:
    """The units of one run."""

    def __init__(self, program: Program, state: RunState, needs: Requirements) -> None:
        self._plan = program.plan
        self._state = state
        self._needs = needs
        # A coroutine runs beside others anyway, and of what has a time limit it must be known when it began.
        self._may_fuse_template = [not t.is_async and t.timeout is None for t in program.templates]

    def fused_behind(self, head: Index, node: NodeState) -> list[Index]:
        """The functions to send along with one that goes to a node, in the order in which they are to run."""
        plan, need = self._plan, self._needs.of[head]
        limit = self._max_members(need)
        if limit <= 1 or not self._is_fusible(head) or not self._makes_any_ready(plan.dependents[head]):
            return []
        members, fused = [head], {head}
        has_siblings = need.seconds is not None and need.seconds <= MAX_SIBLING_S
        for member in members:
            for dependent in plan.dependents[member]:
                if len(members) == limit:
                    return members[1:]
                if dependent not in fused and self._can_fuse(dependent, head, node, fused):
                    members.append(dependent)
                    fused.add(dependent)
                    if not has_siblings:
                        break
        return members[1:]

    def _makes_any_ready(self, dependents: Sequence[Index]) -> bool:
        """Whether any of them will be ready once this one is done: of wide graphs limit functions have none such."""
        return 1 in map(self._state.missing.__getitem__, dependents)

    def _max_members(self, need: RequirementClass) -> int:
        return 0 if need.seconds is None else min(MAX_FUSED, int(MAX_FUSED_S / (need.seconds + OVERHEAD_S)))

    def _is_fusible(self, index: Index) -> bool:
        plan = self._plan
        return (
            self._may_fuse_template[plan.template_of[index]]
            and plan.group_of[index] < 0
            and index not in plan.hook_of
            and self._state.attempt[index] <= 1
        )

    def _can_fuse(self, index: Index, head: Index, node: NodeState, fused: set[Index]) -> bool:
        plan, state = self._plan, self._state
        producers = plan.producers[index]
        return (
            state.missing[index] <= len(fused)
            and self._claims_the_same(self._needs.of[index], self._needs.of[head], node, len(fused))
            and state.phase[index] == WAITING
            and state.attempt[index] == 0
            and state.missing[index] == sum(map(fused.__contains__, producers))
            and plan.node_of[index] in (None, node.name)
            and plan.priority[index] >= plan.priority[head]
            and self._is_fusible(index)
            and (not state.stored or state.stored.keys().isdisjoint(producers))
        )

    def _claims_the_same(
        self, need: RequirementClass, of_head: RequirementClass, node: NodeState, size: int
    ) -> bool:
        """Whether a function can go along: it claims the same, and where only that differs, its code can run there, too."""
        if need is of_head:
            return True
        is_same = (
            need.is_async == of_head.is_async and need.cost == of_head.cost and node.has_python_for(need)
        )
        return is_same and size < self._max_members(need)
