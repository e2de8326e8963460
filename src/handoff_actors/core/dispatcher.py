"""Which ready function goes to which node, and what is called back from a node that has too much.

A function goes to a node that could start it now; among several, the run's policy chooses. Where none could, it goes to
one that may queue a few more, so that no worker ever waits for a message; otherwise it waits here. When nothing waits
here any more and a node runs dry, others are asked to give back what they have not started.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from handoff_actors.core.candidate import Candidate
from handoff_actors.core.needs import NeedClass, Needs
from handoff_actors.core.placement import Need, Policy
from handoff_actors.core.program import Program
from handoff_actors.core.progress import READY, Progress
from handoff_actors.core.ready import ReadyLane, ReadyQueue
from handoff_actors.core.run_events import Observed, RunEffect, Tell
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages import Assign, Job, Recall, Template, Ticket

#: Less work than this is not worth calling back.
WORTH_RECALLING_S = 0.002


@dataclass(slots=True)
class _Batch:
    templates: list[Template] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)


class Dispatcher:
    """Sends what is ready to where it fits."""

    def __init__(
        self, run: RunId, program: Program, progress: Progress, policy: Policy, max_concurrency: int | None
    ) -> None:
        self._run = run
        self._program = program
        self._plan = program.plan
        self._progress = progress
        self._policy = policy
        self._max_concurrency = max_concurrency
        self.needs = Needs(self._plan)
        self.candidates: dict[str, Candidate] = {}
        self.in_flight = 0
        #: Nodes that have been chosen for groups, and for functions whose inputs are made for one node.
        self.group_node: dict[int, str] = {}
        self.reserved: dict[Index, str] = {}
        self._ready = ReadyQueue(self._plan)

    # --- In and out ---------------------------------------------------------------------------------------------

    def push(self, index: Index) -> None:
        """A function is ready."""
        target = self._target(index)
        self._ready.push(index, self._placing_need(index, target), target)

    def sent(self, index: Index, node: Candidate) -> None:
        """Book a function on a node."""
        node.add(index, self.needs.of[index])
        self.in_flight += 1

    def back(self, index: Index, node: Candidate | None) -> None:
        """Take a function off a node's books."""
        if node is not None:
            node.remove(index)
        self.in_flight -= 1

    def node_gone(self, name: str) -> None:
        """Forget what was planned for a node."""
        self.candidates.pop(name, None)
        self.group_node = {group: node for group, node in self.group_node.items() if node != name}
        self.reserved = {index: node for index, node in self.reserved.items() if node != name}

    def lanes(self) -> list[ReadyLane]:
        """What is ready and has not been sent."""
        return self._ready.lanes()

    # --- Sending ------------------------------------------------------------------------------------------------

    def dispatch(self, observe: Callable[[Observed], None] | None = None) -> list[RunEffect]:
        """Send what there is room for, one message for each node."""
        batches: dict[str, _Batch] = {}
        full: set[ReadyLane] = set()
        lanes = self._ready.lanes()
        while lanes and (self._max_concurrency is None or self.in_flight < self._max_concurrency):
            lane = lanes[0] if len(lanes) == 1 else min(lanes, key=lambda lane: lane.first)
            index = lane.first[2]
            node = None
            if self._progress.phase[index] != READY:
                lane.pop()
            elif self._target(index) != lane.target:
                # Its node has been chosen, or lost, since it came here.
                self.push(lane.pop())
            else:
                node = self._choose(index, lane)
                if node is None:
                    full.add(lane)
                else:
                    lane.pop()
                    self._send(index, node, batches)
                    if observe is not None:
                        observe(Observed("assigned", index, node.name, self._progress.attempt[index]))
            if node is None or not len(lane):
                lanes = [lane for lane in self._ready.lanes() if lane not in full]
        return [Tell(name, Assign(self._run, batch.templates, batch.jobs)) for name, batch in batches.items()]

    def _send(self, index: Index, node: Candidate, batches: dict[str, _Batch]) -> None:
        batch = batches.get(node.name)
        if batch is None:
            batch = batches[node.name] = _Batch()
        for template in self._program.templates_of(index):
            if template not in node.templates:
                node.templates.add(template)
                batch.templates.append(self._program.templates[template])
        self.sent(index, node)
        attempt = self._progress.set_sent(index, node.name)
        if self._progress.stored:
            self._note_moves(index, node)
        batch.jobs.append(
            self._program.job(index, attempt, node, self._progress, self.candidates, self.reserved)
        )

    def _note_moves(self, index: Index, node: Candidate) -> None:
        moved = sum(
            stored.nbytes
            for producer in self._plan.producers[index]
            if (stored := self._progress.stored.get(producer)) is not None and node.name not in stored.holders
        )
        if moved:
            self._progress.moved[index] = self._progress.moved.get(index, 0) + moved

    # --- Choosing -----------------------------------------------------------------------------------------------

    def _choose(self, index: Index, lane: ReadyLane) -> Candidate | None:
        hook = self._plan.hook_of.get(index)
        if hook is not None and not self._reserve(hook.consumer):
            return None
        node = self._place(index, lane.need, self._eligible(lane.target))
        group = self._plan.group_of[index]
        if node is not None and group >= 0:
            self.group_node.setdefault(group, node.name)
        return node

    def _place(self, index: Index, need: NeedClass, nodes: list[Candidate]) -> Candidate | None:
        fitting = [node for node in nodes if node.fits(need)]
        if len(fitting) > 1:
            return self._policy.choose(self._describe(index, need), fitting)
        if fitting:
            return fitting[0]
        queueable = [node for node in nodes if node.may_queue(need)]
        return min(
            queueable,
            key=lambda node: node.counts.get(need.number, 0) / max(1, node.slots(need)),
            default=None,
        )

    def _eligible(self, target: str | None) -> list[Candidate]:
        if target is None:
            return [node for node in self.candidates.values() if node.usable]
        node = self.candidates.get(target)
        return [node] if node is not None and node.usable else []

    def _reserve(self, consumer: Index) -> bool:
        """Choose a function's node before its inputs are made, since they are made for that node."""
        if consumer in self.reserved:
            return True
        target = self._target(consumer)
        need = self._placing_need(consumer, target)
        nodes = [node for node in self._eligible(target) if node.could_ever_hold(need)]
        node = self._policy.choose(self._describe(consumer, need), nodes) if nodes else None
        if node is None:
            return False
        self.reserved[consumer] = node.name
        group = self._plan.group_of[consumer]
        if group >= 0:
            self.group_node.setdefault(group, node.name)
        return True

    def _target(self, index: Index) -> str | None:
        pinned = self._plan.node_of[index]
        if pinned is not None:
            return pinned
        hook = self._plan.hook_of.get(index)
        if hook is not None:
            made_on = self._progress.node[hook.producer]
            return made_on if made_on in self.candidates else None
        return self.reserved.get(index) or self.group_node.get(self._plan.group_of[index])

    def _placing_need(self, index: Index, target: str | None) -> NeedClass:
        """What a node must have room for: all of a group, for the first of its members."""
        group = self._plan.group_of[index]
        if group >= 0 and target is None:
            whole = self.needs.of_group[group]
            if any(node.could_ever_hold(whole) for node in self.candidates.values()):
                return whole
        return self.needs.of[index]

    def _describe(self, index: Index, need: NeedClass) -> Need:
        total = 0
        held: dict[str, int] = {}
        for producer in self._plan.producers[index] if self._progress.stored else ():
            stored = self._progress.stored.get(producer)
            if stored is not None:
                total += stored.nbytes
                for holder in stored.holders:
                    held[holder] = held.get(holder, 0) + stored.nbytes
        return Need(self._plan.ids[index], need.cost, total, held)

    # --- Calling back -------------------------------------------------------------------------------------------

    def rebalance(self, now: float) -> list[RunEffect]:
        """Ask nodes for what they have not started, where others have nothing to do."""
        if len(self.candidates) < 2 or self.lanes():  # noqa: PLR2004 - a pair
            return []
        effects: list[RunEffect] = []
        for node in self.candidates.values():
            if node.is_recalling or not node.sent or now < node.quiet_until:
                continue
            tickets = [ticket for need in self._classes_on(node) for ticket in self._surplus(node, need)]
            if tickets:
                node.is_recalling = True
                effects.append(Tell(node.name, Recall(self._run, tickets)))
        return effects

    def _classes_on(self, node: Candidate) -> Iterable[NeedClass]:
        return [need for need in self.needs.classes if node.counts.get(need.number)]

    def _surplus(self, node: Candidate, need: NeedClass) -> list[Ticket]:
        excess = node.excess(need)
        if excess <= 0:
            return []
        if need.seconds is not None and excess * need.seconds < WORTH_RECALLING_S * max(1, node.slots(need)):
            return []
        room = sum(
            max(0, other.slots(need) - other.counts.get(need.number, 0))
            for other in self.candidates.values()
            if other is not node and other.usable and other.fits(need)
        )
        count = min(room, (excess + 1) // 2)
        movable = [
            index
            for index, sent_as in reversed(node.sent.items())
            if sent_as is need and self._target(index) is None
        ]
        return [Ticket(index, self._progress.attempt[index]) for index in movable[:count]]
