"""Bookkeeping of the functions that have been sent to nodes, and the content of the messages that send them."""

from collections.abc import Callable, Iterable

from handoff_actors.core.run.events import FunctionObserved
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
        self._with_calls.difference_update(indices)

    def begin(self, now: float, observe: Callable[[FunctionObserved], None] | None) -> None:
        """Set the time, and the observer, of the functions that are sent from now on."""
        self._now, self._observe = now, observe

    def send(self, index: Index, node: NodeState, batch: AssignBatch, rank: Rank) -> None:
        """Put a function into a message, with the functions fused behind it."""
        node.add(index, self._needs.of[index], self._now)
        attempt = self._record_sent(index, node, batch)
        members = self._fusion.fused_behind(index, node) if self._fusion is not None else None
        then = self._send_fused(index, members, node, batch) if members else ()
        batch.jobs.append(self._program.job(index, attempt, node, self._sources, then, rank))

    def completed(self, index: Index, node: NodeState) -> None:
        """Take a function that has succeeded off a node. The function fused behind it inherits its claim."""
        follower = self._follower.pop(index, None)
        if follower in node.followers and index not in node.followers:
            node.hand_over_claim(index, follower)
        else:
            node.remove(index)
        self.in_flight -= 1

    def returned(self, index: Index, node: NodeState) -> None:
        """Take a function that has not ended well off a node's books."""
        self._follower.pop(index, None)
        node.remove(index)
        self.in_flight -= 1
        self._state.change(index, PhaseEvent.RETURNED)

    def _send_fused(
        self, head: Index, members: list[Index], node: NodeState, batch: AssignBatch
    ) -> tuple[Job, ...]:
        self._follower.update(zip([head, *members], members, strict=False))
        jobs: list[Job] = []
        for index in members:
            # In its turn it takes over the claim of its head: see `NodeState.hand_over_claim`.
            node.add_follower(index, self._needs.of[head])
            attempt = self._record_sent(index, node, batch)
            jobs.append(self._program.job(index, attempt, node, self._sources))
        return tuple(jobs)

    def _record_sent(self, index: Index, node: NodeState, batch: AssignBatch) -> int:
        """Record a function as sent, add the templates that the node lacks to the message, and return the attempt's number."""
        if self._plan.template_of[index] not in node.templates or index in self._with_calls:
            for template in self._program.templates_of(index):
                if template not in node.templates:
                    node.templates.add(template)
                    batch.templates.append(self._program.templates[template])
        self.in_flight += 1
        attempt = self._state.set_sent(index, node.name, self._now)
        if self._observe is not None:
            self._observe(FunctionObserved("assigned", index, node.name, self._state.tries(index)))
        return attempt
