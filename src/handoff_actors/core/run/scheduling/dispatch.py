"""Bookkeeping of the functions that have been sent to nodes, and the content of the messages that send them."""

from collections.abc import Callable, Collection, Iterable, Sequence

from handoff_actors.core.run.events import FunctionObserved
from handoff_actors.core.run.facts.normal_path import set_sent
from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.core.run.facts.part import ProgramPart
from handoff_actors.core.run.facts.phases import PhaseEvent
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.fusion import Fusion
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.program import AssignBatch, Program, Sources
from handoff_actors.core.run.scheduling.requirements import Requirements
from handoff_actors.graph.plan import CallSpec
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Job, Rank


class Dispatch:
    """The functions of one run that are on nodes, queued or running."""

    def __init__(
        self,
        program: Program,
        state: RunState,
        sources: Sources,
        needs: Requirements,
        whole: ProgramPart,
        *,
        may_fuse: bool,
    ) -> None:
        self._program = program
        self._plan = program.plan
        self._state = state
        self._sources = sources
        self._needs = needs
        self._fusion = Fusion(program, state, needs) if may_fuse else None
        #: The next member after each member of a fused group that is on a node.
        self._follower: dict[Index, Index] = {}
        self._with_calls: set[Index] = set()
        self._observe: Callable[[FunctionObserved], None] | None = None
        self._now = 0.0
        self.in_flight = 0
        self.add(whole)

    def add(self, part: ProgramPart) -> None:
        """Take functions that are in the plan by now."""
        args = self._plan.args
        self._with_calls.update([index for index in part.indices if CallSpec in map(type, args[index])])
        if self._fusion is not None:
            self._fusion.add()

    def copied(self, index: Index, copy: Index) -> None:
        """Take a function that is as another one."""
        if index in self._with_calls:
            self._with_calls.add(copy)

    def remove(self, indices: Iterable[Index]) -> None:
        """Forget functions that are no more in the plan."""
        discard_all(indices, self._with_calls)

    def begin(self, now: float, observe: Callable[[FunctionObserved], None] | None) -> None:
        """Set the time, and the observer, of the functions that are sent from now on."""
        self._now, self._observe = now, observe

    def send(self, indices: Sequence[Index], node: NodeState, batch: AssignBatch, rank: Rank) -> None:
        """Put functions of one requirement class into a message, with the functions fused behind each."""
        node.add(indices, self._needs.of[indices[0]], self._now)
        self._record_sent(indices, node, batch)
        then: dict[Index, tuple[Job, ...]] = {}
        if self._fusion is not None:
            dependents = self._plan.dependents
            for head in indices:
                members = self._fusion.fused_behind(head, node) if dependents[head] else ()
                if members:
                    then[head] = self._send_fused(head, members, node, batch)
        batch.jobs += self._program.jobs(indices, node, self._sources, then, rank)

    def completed(self, indices: Collection[Index], node: NodeState) -> None:
        """Take functions that have succeeded off a node. The function fused behind one inherits its claim."""
        self.in_flight -= len(indices)
        if self._follower:
            indices = [index for index in indices if not self._is_succeeded(index, node)]
        node.remove(indices)

    def _is_succeeded(self, index: Index, node: NodeState) -> bool:
        """Tell whether another function takes over the claim of one that has succeeded."""
        follower = self._follower.pop(index, None)
        if follower not in node.followers or index in node.followers:
            return False
        node.hand_over_claim(index, follower)
        return True

    def returned(self, index: Index, node: NodeState) -> None:
        """Take a function that has not ended well off a node's books."""
        self._follower.pop(index, None)
        node.remove([index])
        self.in_flight -= 1
        self._state.change(index, PhaseEvent.RETURNED)

    def _send_fused(
        self, head: Index, members: list[Index], node: NodeState, batch: AssignBatch
    ) -> tuple[Job, ...]:
        self._follower.update(zip([head, *members], members, strict=False))
        for index in members:
            # In its turn it takes over the claim of its head: see `NodeState.hand_over_claim`.
            node.add_follower(index, self._needs.of[head])
        self._record_sent(members, node, batch)
        return tuple(self._program.jobs(members, node, self._sources))

    def _record_sent(self, indices: Sequence[Index], node: NodeState, batch: AssignBatch) -> None:
        """Record functions as sent, and add the templates that the node lacks to the message."""
        template_of, known, with_calls = self._plan.template_of, node.templates, self._with_calls
        for index in indices:
            if template_of[index] not in known or (with_calls and index in with_calls):
                self._add_templates(index, node, batch)
        self.in_flight += len(indices)
        set_sent(self._state, indices, node.name, self._now)
        if self._observe is not None:
            for index in indices:
                self._observe(FunctionObserved("assigned", index, node.name, self._state.tries(index)))

    def _add_templates(self, index: Index, node: NodeState, batch: AssignBatch) -> None:
        for template in self._program.templates_of(index):
            if template not in node.templates:
                node.templates.add(template)
                batch.templates.append(self._program.templates[template])
