"""The nodes that each function of a run may go to: any, or the one that it is pinned to, collocated on, or has inputs made for."""

from collections.abc import Callable, Collection, Iterable, Mapping

from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.core.run.facts.part import ProgramPart
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.avoidance import Avoidance
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.program import Sources
from handoff_actors.core.run.scheduling.ready_queue import Destination
from handoff_actors.core.run.scheduling.requirements import RequirementClass, Requirements
from handoff_actors.core.run.scheduling.time_left import TimeLeft
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index


def _has_constraints(plan: Plan) -> bool:
    """True if not every function of a plan may go wherever others with its requirements may."""
    return any(plan.node_of) or bool(plan.groups) or bool(plan.hooks)


class Destinations:
    """The destinations of all functions of one run."""

    def __init__(
        self,
        plan: Plan,
        state: RunState,
        needs: Requirements,
        sources: Sources,
        avoidance: Avoidance,
        time_left: TimeLeft,
    ) -> None:
        self._plan = plan
        self._state = state
        self._needs = needs
        self._sources = sources
        self._avoidance = avoidance
        self._time_left = time_left
        #: The node chosen for each collocated group.
        self.group_node: dict[int, str] = {}
        #: Not every function may go wherever others with its requirements may.
        self.has_constraints = _has_constraints(plan)
        self._unconstrained = [Destination(need, None) for need in needs.classes]

    def add(self, part: ProgramPart, added: Plan) -> None:
        """Take functions that are in the plan by now; `added` is the plan of these alone."""
        for group in part.groups:
            self.group_node.pop(group, None)
        self._unconstrained += [
            Destination(need, None) for need in self._needs.classes[len(self._unconstrained) :]
        ]
        self.has_constraints = self.has_constraints or _has_constraints(added)

    def remove(self, indices: Collection[Index]) -> None:
        """Forget functions that are over."""
        discard_all(indices, self._sources.reserved)

    def reserve(self, index: Index, name: str) -> None:
        """Note that a function is to run on a node, for which its inputs are made."""
        self._sources.reserved[index] = name
        self.place_group(index, name)

    def place_group(self, index: Index, name: str) -> None:
        """Note that a function goes to a node, and with it its collocated group if it is the first of that."""
        group = self._plan.group_of[index]
        if group >= 0:
            self.group_node.setdefault(group, name)

    def node_gone(self, name: str) -> None:
        """Drop all reservations of a node that is gone."""
        self._drop(name, lambda _: True)

    def drop_for(self, node: NodeState) -> None:
        """Drop the reservations that a node can't honour any more, since it leaves or offers less."""
        self._drop(node.name, lambda need: node.is_leaving or not node.could_ever_hold(need))

    def _drop(self, name: str, is_void: Callable[[RequirementClass], bool]) -> None:
        peaks = self._needs.peak_of_group
        self.group_node = {
            group: node
            for group, node in self.group_node.items()
            if node != name or not is_void(peaks[group])
        }
        self._sources.reserved = {
            index: node
            for index, node in self._sources.reserved.items()
            if node != name or not is_void(self._minimum_need(index))
        }

    def _minimum_need(self, index: Index) -> RequirementClass:
        """The least that a node must offer for a function: enough for every member of its collocated group."""
        group = self._plan.group_of[index]
        return self._needs.of[index] if group < 0 else self._needs.peak_of_group[group]

    def of_each(self, indices: Iterable[Index]) -> Mapping[Destination, list[Index]]:
        """The nodes that functions may go to now, each with the functions that may go there, in order."""
        groups: dict[Destination, list[Index]] = {}
        if self.has_constraints or self._avoidance.is_needed or self._time_left.is_on:
            for index in indices:
                groups.setdefault(self.of(index), []).append(index)
            return groups
        need_of, unconstrained = self._needs.of, self._unconstrained
        need: RequirementClass | None = None
        for index in indices:
            if need is not need_of[index]:
                need = need_of[index]
                group = groups.setdefault(unconstrained[need.number], [])
            group.append(index)
        return groups

    def of(self, index: Index) -> Destination:
        """The nodes that a function may go to now."""
        failed_on = self._avoidance.failed_on(index)
        length = self._time_left.length(index) if self._time_left.is_on else 0
        if not self.has_constraints:
            plain = self._unconstrained[self._needs.of[index].number]
            is_plain = not (failed_on or length)
            return plain if is_plain else plain._replace(failed_on=failed_on, length=length)
        target = self.target_of(index)
        hook = self._plan.hook_of.get(index)
        ahead_of = None
        if hook is not None and hook.consumer not in self._sources.reserved:
            ahead_of = self.of(hook.consumer)
        return Destination(self._placing_need(index, target), target, ahead_of, failed_on, length)

    def target_of(self, index: Index) -> str | None:
        """The only node that a function can go to now; None if any will do."""
        pinned = self._plan.node_of[index]
        if pinned is not None:
            return pinned
        hook = self._plan.hook_of.get(index)
        if hook is not None:
            made_on = self._sources.nodes.get(self._state.node[hook.producer] or "")
            is_fit = (
                made_on is not None
                and not made_on.is_leaving
                and made_on.has_python_for(self._needs.of[index])
            )
            return made_on.name if made_on is not None and is_fit else None
        return self._sources.reserved.get(index) or self.group_node.get(self._plan.group_of[index])

    def _placing_need(self, index: Index, target: str | None) -> RequirementClass:
        """The room that a node must have for a function.

        For the first member of a collocated group, room for the whole group, if any node can offer that.
        """
        group = self._plan.group_of[index]
        if group < 0 or target is not None:
            return self._needs.of[index]
        whole = self._needs.sum_of_group[group]
        nodes = self._sources.nodes.values()
        can_be = any(node.could_ever_hold(whole) for node in nodes if not node.is_leaving)
        return whole if can_be else self._needs.peak_of_group[group]
