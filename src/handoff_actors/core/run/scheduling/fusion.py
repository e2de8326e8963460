"""Fusion: functions that are sent together, and run one after the other on one worker, without a round trip each.

A fused group is a chain or a small subtree: the inputs of each member are done already, or results of earlier members.
Fusion pays where functions take less time than sending one takes. So only functions whose template is known to be quick
are fused, and only in their first attempt: a function that has failed, or has turned out slow, is sent by itself from
then on, so that blame, time limits and retries are as certain as without fusion. See HyperQueue, and Dask's graph
fusion, for the same idea.
"""

from collections.abc import Collection

from handoff_actors.core.run.facts.phases import WAITING
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.requirements import OVERHEAD_S, RequirementClass, Requirements
from handoff_actors.ids import Index

#: A fused group is about this much work at most, so that no other function waits long for its worker.
MAX_FUSED_S = 0.002
MAX_FUSED = 128
#: Functions that could run side by side are fused only if each takes less than this, about the cost of sending one.
MAX_SIBLING_S = 0.00005


class Fusion:
    """Chooses the members of the fused groups of one run."""

    def __init__(self, program: Program, state: RunState, needs: Requirements) -> None:
        self._plan = program.plan
        self._state = state
        self._needs = needs
        self._templates = program.templates
        self._may_fuse_template: list[bool] = []

    def add(self) -> None:
        """Take templates that are in the plan by now."""
        known = self._may_fuse_template
        for template in self._templates[len(known) :]:
            # Coroutines run concurrently anyway, and a time limit needs to know when its function began.
            is_alone = template.is_async or template.is_stage
            known.append(not is_alone and template.timeout is None)

    def fused_behind(self, head: Index, node: NodeState) -> list[Index]:
        """Choose the functions to fuse behind one that is sent to a node, in the order in which they are to run."""
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

    def _makes_any_ready(self, dependents: Collection[Index]) -> bool:
        """True if a dependent lacks only this input. In wide graphs most functions have no such dependent."""
        return 1 in map(self._state.missing.__getitem__, dependents)

    def _max_members(self, need: RequirementClass) -> int:
        return 0 if need.seconds is None else min(MAX_FUSED, int(MAX_FUSED_S / (need.seconds + OVERHEAD_S)))

    def _is_fusible(self, index: Index) -> bool:
        plan = self._plan
        return (
            self._may_fuse_template[plan.template_of[index]]
            and plan.group_of[index] < 0
            and plan.templates[plan.template_of[index]].run_if != "failure"
            and index not in plan.hook_of
            and (self._state.attempt[index] <= 1 or self._state.tries(index) <= 1)
        )

    def _can_fuse(self, index: Index, head: Index, node: NodeState, fused: set[Index]) -> bool:
        plan, state = self._plan, self._state
        producers = plan.producers[index]
        return (
            state.missing[index] <= len(fused)
            and self._claims_the_same(self._needs.of[index], self._needs.of[head], node, len(fused))
            and state.phase[index] == WAITING
            and state.tries(index) == 0
            and state.missing[index] == sum(map(fused.__contains__, producers))
            and plan.node_of[index] in (None, node.name)
            and plan.priority[index] >= plan.priority[head]
            and self._is_fusible(index)
            and self._needs.warm.get(index) == self._needs.warm.get(head)
            and (not state.stored or state.stored.keys().isdisjoint(producers))
        )

    def _claims_the_same(
        self, need: RequirementClass, of_head: RequirementClass, node: NodeState, size: int
    ) -> bool:
        """True if a function has the head's claim and is async if the head is. The node must have the Python of both."""
        if need is of_head:
            return True
        is_same = (
            need.is_async == of_head.is_async and need.cost == of_head.cost and node.has_python_for(need)
        )
        return is_same and size < self._max_members(need)
