"""The scheduler: decides which ready function goes to which node.

A function goes to a node that could start it now; among several, the run's policy chooses. If none could, it goes to a
node that may queue a few more, so that no worker ever waits for a message; otherwise it stays in the ready queue. Its
dependents may be sent with it, see `core.run.scheduling.fusion`.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping

from handoff_actors.core.run.events import FunctionObserved, SendToNode
from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.core.run.facts.part import ProgramPart, put
from handoff_actors.core.run.facts.phases import READY
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.avoidance import Avoidance
from handoff_actors.core.run.scheduling.data_locality import DataLocality
from handoff_actors.core.run.scheduling.destinations import Destinations
from handoff_actors.core.run.scheduling.dispatch import Dispatch
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.node_index import NodeIndexes, queue_rank
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.placement import POLICIES, LoadBalanced, MostSpare, PlacementPolicy
from handoff_actors.core.run.scheduling.program import AssignBatch, Program, Sources, no_error
from handoff_actors.core.run.scheduling.ready_queue import Destination, ReadyLane, ReadyQueue
from handoff_actors.core.run.scheduling.requirements import SMOOTHING, RequirementClass, Requirements
from handoff_actors.core.run.scheduling.session_load import Demand, SessionLoad
from handoff_actors.core.run.scheduling.time_left import QUEUED, TimeLeft
from handoff_actors.ids import Index, RunId
from handoff_actors.moving_average import smoothed
from handoff_actors.text import dag_name_of
from handoff_actors.wire.messages.jobs import Done, Rank
from handoff_actors.wire.messages.nested import Ancestor
from handoff_actors.wire.messages.runs import Assign, Failed

#: Up to this many nodes are scanned for each function, which costs less than keeping indexes of them.
MAX_SCANNED_NODES = 8


class Scheduler:
    """Sends ready functions to nodes that have room for them."""

    #: The time of the latest `dispatch`, and the time at which the next one may place a function that this one could not.
    _now = 0.0
    wake_at: float | None = None
    _dag_name: str | None = None

    def __init__(
        self,
        run: RunId,
        program: Program,
        state: RunState,
        policy: PlacementPolicy,
        load: SessionLoad,
        max_concurrency: int | None = None,
        parent: Ancestor | None = None,
    ) -> None:
        self._run, self._parent = run, parent
        self._load = load
        self._program, self._plan = program, program.plan
        self._state = state
        self._policy = policy
        is_custom = self._is_custom_policy = policy not in POLICIES.values()
        #: What it found no room for, as the session has been told.
        self._unplaced: set[Demand] = set()
        may_fuse = max_concurrency is None and not (is_custom or isinstance(policy, LoadBalanced))
        self._max_concurrency = max_concurrency
        whole = ProgramPart.whole(self._plan)
        self.needs = Requirements(self._plan, program.affinity, whole)
        self.locality = DataLocality(program, state, self.needs.warm, load.warm)
        #: `reserved` are the nodes chosen for functions whose inputs are made for one node.
        self.sources = Sources(state)
        #: All nodes that the run knows, in the order of their names.
        self.nodes = self.sources.nodes
        #: None as long as there are no more than MAX_SCANNED_NODES.
        self._indexes: NodeIndexes | None = None
        self._dispatch = Dispatch(program, state, self.sources, self.needs, whole, may_fuse=may_fuse)
        #: Functions for which the policy, when last asked, chose none of the nodes with room.
        self.declined_by_policy: set[Index] = set()
        #: The node for which each serialize hook was last sent to work.
        self._hook_made_for: dict[Index, str] = {}
        self._ready = ReadyQueue(self._plan)
        self.time_left = TimeLeft(self._plan, program.templates, state)
        self.avoidance = Avoidance()
        self.destinations = Destinations(
            self._plan, state, self.needs, self.sources, self.avoidance, self.time_left
        )

    @property
    def reserved(self) -> dict[Index, str]:
        """The node chosen for each function whose inputs are made for one node, by function."""
        return self.sources.reserved

    @property
    def in_flight(self) -> int:
        """Number of functions on nodes, queued or running."""
        return self._dispatch.in_flight

    def add_node(self, node: NodeState) -> None:
        """Add a node that has joined."""
        in_order = sorted([*self.nodes.items(), (node.name, node)])
        self.nodes.clear()
        self.nodes.update(in_order)
        if self._indexes is not None:
            self._indexes.add(node)
        elif len(self.nodes) > MAX_SCANNED_NODES:
            self._indexes = NodeIndexes(self.nodes.values(), self._load)

    def begin(self) -> None:
        """Take part in the load of the session."""
        self._load.begin(self._run, is_asked_always=self._is_custom_policy)

    def end(self) -> None:
        """Take part no more: nothing is sent from now on."""
        self._load.end(self._run)
        # Whoever gave it refers to this run: the run is to be freed as soon as nobody else does.
        self.sources.error_of = no_error

    # --- Functions that come and go -----------------------------------------------------------------------------

    def add(self, part: ProgramPart, added: Program) -> None:
        """Take functions that are in the plan by now."""
        self.needs.add(self._plan, part, added.plan, added.affinity)
        self._dispatch.add(part)
        self._ready.add(part)
        self.destinations.add(part, added.plan)

    def copied(self, index: Index, copy: Index) -> None:
        """Take a function that is as another one."""
        put(self.needs.of, [copy], [self.needs.of[index]])
        self._dispatch.copied(index, copy)
        self._ready.add(ProgramPart([copy], (), (), (), ()))

    def remove(self, indices: Collection[Index]) -> None:
        """Forget functions that are over."""
        self._dispatch.remove(indices)
        self._ready.remove(indices)
        self.avoidance.remove(indices)
        self.destinations.remove(indices)
        discard_all(indices, self.declined_by_policy)
        discard_all(indices, self._hook_made_for)
        requeued = self._state.requeued
        for index in requeued.intersection(indices) if requeued else ():
            requeued.discard(index)
            self._ready.withdraw(index)

    # --- In and out ---------------------------------------------------------------------------------------------

    def push(self, indices: Iterable[Index]) -> None:
        """Add functions that are ready."""
        for destination, alike in self.destinations.of_each(indices).items():
            self._ready.push(alike, destination)

    def assume(self, durations: Durations) -> None:
        """Start from durations of earlier runs."""
        usual_s = [durations.of(template.digest) for template in self._program.templates]
        self.needs.assume(usual_s)
        self._ready.assume(usual_s)
        self.time_left.assume(usual_s)

    def learn(self, entries: Iterable[Done]) -> None:
        """Record the durations of functions, but of those that ran for as long as their app liked."""
        need_of = self.needs.of
        entries = [entry for entry in entries if not need_of[entry.index].is_stage]
        for entry in entries:
            need = need_of[entry.index]
            need.seconds = smoothed(need.seconds, entry.ran_s, SMOOTHING)
        if self._ready.learns:
            for entry in entries:
                self._ready.learn(entry.index, entry.ran_s)
        if self.time_left.is_on:
            for entry in entries:
                self.time_left.learn(entry.index, entry.ran_s)

    def completed(self, indices: Collection[Index], node: NodeState) -> None:
        """Take functions that have succeeded off their node."""
        self.avoidance.remove(indices)
        self._dispatch.completed(indices, node)

    def returned(self, index: Index, node: NodeState) -> None:
        """Take a function that has not succeeded off its node. It rests until the caller decides what becomes of it."""
        self._dispatch.returned(index, node)

    def failed(self, failed: Failed, node: NodeState) -> None:
        """Take a function that has failed off its node, which it avoids from now on. It rests as in `returned`."""
        self.returned(failed.index, node)
        if failed.kind != "input":
            self.avoidance.failed(failed.index, node.name)

    def remove_node(self, name: str) -> None:
        """Remove a node that is gone, and all reservations of it."""
        del self.nodes[name]
        self.avoidance.node_gone(name)
        if self._indexes is not None:
            self._indexes.remove(name)
        self.destinations.node_gone(name)

    @property
    def has_ready(self) -> bool:
        """True if some function is ready and has not been sent."""
        return bool(self._ready.lanes())

    def first_ready(self) -> list[Index]:
        """The most urgent function of each lane that is ready and has not been sent."""
        firsts = (lane.first for lane in self._ready.lanes())
        return [index for index in firsts if self._state.phase[index] == READY]

    def ready_classes(self) -> set[int]:
        """Numbers of the requirement classes with functions that are ready and have not been sent."""
        # Functions that wait for another node than the one where they have failed keep no room from others.
        lanes = (lane for lane in self._ready.lanes() if not lane.destination.failed_on)
        return {lane.destination.need.number for lane in lanes}

    def waiting(self) -> list[tuple[RequirementClass, int, float]]:
        """Count the functions that are ready, that any node may run, and that the run may send now, by class.

        With the seconds that a node must have left for them.
        """
        counts: list[tuple[RequirementClass, int, float]] = []
        left = sys.maxsize if self._max_concurrency is None else self._max_concurrency - self.in_flight
        for lane in self._ready.lanes():
            if lane.destination.target is None and left > 0:
                least_s = self.time_left.takes_s(lane.first)
                counts.append((lane.destination.need, min(len(lane), left), least_s))
                left -= len(lane)
        return counts

    def is_outdated(self, index: Index) -> bool:
        """True if a serialize hook was sent to work for a node other than the one now chosen for its consumer."""
        hook = self._plan.hook_of.get(index)
        return hook is not None and self._hook_made_for.get(index) != self.reserved.get(hook.consumer)

    # --- Sending ------------------------------------------------------------------------------------------------

    def dispatch(
        self, now: float, observe: Callable[[FunctionObserved], None] | None = None
    ) -> list[SendToNode]:
        """Send ready functions as far as nodes have room, in one message for each node."""
        self._now = now
        # Of most events nothing follows here.
        messages = self._send_ready(now, observe) if self._ready.lanes() or self._unplaced else []
        self.wake_at = self.avoidance.wake_at(now)
        return messages

    def _send_ready(self, now: float, observe: Callable[[FunctionObserved], None] | None) -> list[SendToNode]:
        self._dispatch.begin(now, observe)
        batches: dict[str, AssignBatch] = {}
        full: set[ReadyLane] = set()
        while self._max_concurrency is None or self.in_flight < self._max_concurrency:
            lane = self._ready.most_urgent(full)
            if lane is None:
                break
            if not self._advance(lane, batches):
                full.add(lane)
        self._note_unplaced(full)
        is_watched = observe is not None
        return [
            SendToNode(
                name,
                Assign(
                    self._run,
                    batch.templates,
                    batch.jobs,
                    is_watched,
                    self._parent,
                    self.dag_name if batch.templates else "",
                ),
            )
            for name, batch in batches.items()
        ]

    @property
    def dag_name(self) -> str:
        """The name of the DAG, for monitors."""
        # A `cached_property` would have every other attribute be read in three times the time.
        if self._dag_name is None:
            self._dag_name = dag_name_of(self._plan.dag_id)
        return self._dag_name

    def _advance(self, lane: ReadyLane, batches: dict[str, AssignBatch]) -> bool:
        """Send, drop or requeue the first function of a lane. False if no node has room for it."""
        index = lane.first
        if self._state.phase[index] != READY:
            self._ready.pop(lane, 1)
            return True
        may_have_changed = self.destinations.has_constraints or self.time_left.is_on
        if may_have_changed and self.destinations.of(index) != lane.destination:
            # The node of its producer has been chosen, or lost, since it was queued; or its length is known by now.
            self.push(self._ready.pop(lane, 1)[0])
            return True
        node = self._choose(index, lane.destination)
        if node is None:
            return False
        batch = batches.get(node.name)
        if batch is None:
            batch = batches[node.name] = AssignBatch()
        indices, rank = self._ready.pop(lane, self._batch_size(lane, node))
        if len(indices) > 1:
            # Some may not be ready any more, or be there twice.
            indices = [each for each in dict.fromkeys(indices) if self._state.phase[each] == READY]
        self._send(indices, node, batch, rank)
        return True

    def _note_unplaced(self, full: set[ReadyLane]) -> None:
        if full or self._unplaced:
            demands = {(lane.destination.need.key, lane.destination.target) for lane in full}
            if demands != self._unplaced:
                self._unplaced = demands
                self._load.wait(self._run, demands)

    def _batch_size(self, lane: ReadyLane, node: NodeState) -> int:
        """Most functions of a lane to send to the node of the first: more than one only if there is no choice."""
        if (
            len(lane) == 1
            or self.destinations.has_constraints
            or self._is_custom_policy
            or lane.destination.length
            or lane.destination.need.is_stage
            or len(self.nodes) > 1
            or len(self._ready.lanes()) > 1
        ):
            return 1
        count = min(len(lane), node.room(lane.destination.need))
        if self._max_concurrency is not None:
            count = min(count, self._max_concurrency - self.in_flight)
        return max(1, count)

    def _send(self, indices: list[Index], node: NodeState, batch: AssignBatch, rank: Rank) -> None:
        """Send functions with the same destination, of which there is one at least."""
        if self._plan.hook_of:
            for index in indices:
                if index in self._plan.hook_of:
                    self._hook_made_for[index] = self.reserved[self._plan.hook_of[index].consumer]
        self.locality.sent(indices, node.name)
        self._dispatch.send(indices, node, batch, rank)

    # --- Choosing -----------------------------------------------------------------------------------------------

    def _choose(self, index: Index, destination: Destination) -> NodeState | None:
        need, target, ahead_of, failed_on, _ = destination
        if ahead_of is not None and not self._reserve(self._plan.hook_of[index].consumer, ahead_of):
            return None
        if target is None and self._is_custom_policy:
            eligible = self._in_time(self._eligible(need, target), index)
            node = self._place_by_custom_policy(index, need, eligible)
        elif target is None and self._indexes is not None and self._may_use_indexes and not failed_on:
            node = self._place_among_many(index, need, self._indexes)
        else:
            eligible = self._in_time(self._eligible(need, target, index), index)
            node = self._place(index, need, eligible)
        if node is not None:
            self.destinations.place_group(index, node.name)
        return node

    @property
    def _may_use_indexes(self) -> bool:
        return isinstance(self._policy, MostSpare) and not self.avoidance.out_of_use

    def _place(self, index: Index, need: RequirementClass, nodes: list[NodeState]) -> NodeState | None:
        first = [node for node in nodes if node.fits(need)]
        if not first:
            queueable = [node for node in nodes if node.may_queue(need)]
            if self.time_left.is_on:
                queueable = [node for node in queueable if self._may_queue(index, need, node)]
            first = sorted(queueable, key=lambda node: queue_rank(node, need))[:1]
        if first and len(nodes) > 1 and (held := self._input_by_node(index)):
            first = self._with_holders(index, need, first, held)
        if len(first) > 1:
            return self._ask_policy(index, need, first)
        return first[0] if first else None

    def _place_among_many(
        self, index: Index, need: RequirementClass, indexes: NodeIndexes
    ) -> NodeState | None:
        """Choose as `_place` does for `MostSpare`. No node without input of the function beats the roomiest of all."""
        first = indexes.roomiest(need) or indexes.shortest_queue(need)
        time_left = self.time_left
        if time_left.is_on and first and not time_left.has_time(first, index, self._now, QUEUED):
            # The best node ends soon, which few do: a scan finds the best of the others.
            return self._place(index, need, self._in_time(self._eligible(need, None, index), index))
        held = self._input_by_node(index)
        if first is None or not held:
            return first
        return self._ask_policy(index, need, self._with_holders(index, need, [first], held))

    def _place_by_custom_policy(
        self, index: Index, need: RequirementClass, nodes: list[NodeState]
    ) -> NodeState | None:
        # The policy is asked even if there is no choice: it may decline.
        fitting = [node for node in nodes if node.fits(need)]
        candidates = fitting or [node for node in nodes if self._may_queue(index, need, node)]
        return self._ask_policy(index, need, candidates) if candidates else None

    def _input_by_node(self, index: Index) -> Mapping[str, int]:
        """Bytes of input by node, for `MostSpare`; empty for other policies, which never wait for the holder of an input."""
        return self.locality.held(index) if isinstance(self._policy, MostSpare) else {}

    def _in_time(self, nodes: list[NodeState], index: Index) -> list[NodeState]:
        return self.time_left.in_time(nodes, index, self._now) if self.time_left.is_on else nodes

    def _may_queue(self, index: Index, need: RequirementClass, node: NodeState) -> bool:
        return node.may_queue(need) and self.time_left.has_time(node, index, self._now, QUEUED)

    def _with_holders(
        self, index: Index, need: RequirementClass, first: list[NodeState], held: Mapping[str, int]
    ) -> list[NodeState]:
        """Add to some nodes the holders of input that may queue the function, and sort all by name."""
        nodes = {node.name: node for node in first}
        holders = (self.nodes[name] for name in held if name in self.nodes)
        usable = (node for node in holders if node.usable and not node.is_out_of_use)
        nodes |= {node.name: node for node in usable if self._may_queue(index, need, node)}
        return [nodes[name] for name in sorted(nodes)]

    def should_stay(self, index: Index, node: NodeState) -> bool:
        """True if a function queued on a node should stay there, next to its input, instead of being recalled."""
        held = self._input_by_node(index)
        is_unfit = node.is_out_of_use or not node.usable
        if node.name not in held or is_unfit or not isinstance(self._policy, MostSpare):
            return False
        need, names = self.needs.of[index], set(self.nodes)
        if self._indexes is not None:
            roomiest = self._indexes.roomiest(need)
            names = {*held} if roomiest is None else {roomiest.name, *held}
        nodes = (self.nodes[name] for name in sorted(names) if name in self.nodes)
        others = [other for other in nodes if other is not node and other.usable and other.fits(need)]
        return self._policy.prefers_to_stay(self.locality.need(index, need), node, others)

    def _ask_policy(self, index: Index, need: RequirementClass, nodes: list[NodeState]) -> NodeState | None:
        node = self._policy.choose(self.locality.need(index, need), nodes)
        if node is None:
            self.declined_by_policy.add(index)
        else:
            self.declined_by_policy.discard(index)
        return node

    def _eligible(
        self, need: RequirementClass, target: str | None, index: Index | None = None
    ) -> list[NodeState]:
        """The nodes that take work; unless only these could do it, without those to avoid, for a function if one is given."""
        if target is None:
            usable = [node for node in self.nodes.values() if node.usable]
            nodes = self.avoidance.in_use(usable, need)
            return nodes if index is None else self.avoidance.elsewhere(index, nodes, need, self._now)
        node = self.nodes.get(target)
        return [node] if node is not None and node.usable else []

    def _reserve(self, consumer: Index, destination: Destination) -> bool:
        """Choose a function's node before its inputs exist, since they are made for that node."""
        need, target = destination.need, destination.target
        eligible = self._in_time(self._eligible(need, target), consumer)
        nodes = [node for node in eligible if node.could_ever_hold(need)]
        node = self._ask_policy(consumer, need, nodes) if nodes else None
        if node is None:
            return False
        self.destinations.reserve(consumer, node.name)
        return True

    def could_go_elsewhere(self, index: Index, node: NodeState) -> bool:
        """True if a function that is queued on a node could start on another one, and end before that does."""
        if not self.time_left.is_on:
            return True
        need = self.needs.of[index]
        others = (other for other in self._eligible(need, None) if other is not node and other.fits(need))
        return any(self.time_left.has_time(other, index, self._now) for other in others)

    def why_late(self, index: Index, node: NodeState) -> str:
        """Say, for people, why a node ends too soon for a function; "" if it doesn't."""
        return self.time_left.why_not(node, index, self._now)

    def room(self, need: RequirementClass) -> int:
        """Number of functions of a class that could start at once, over all nodes, beside those that are being recalled."""
        if self._indexes is not None and self._indexes.roomiest(need) is None:
            return 0
        nodes = self._eligible(need, None)
        room = sum(node.load.room(need) for node in nodes if node.has_python_for(need))
        return max(0, room - self._load.recalling)
