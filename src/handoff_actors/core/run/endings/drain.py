"""The values of a run are copied off nodes that leave.

A value that only leaving nodes hold is copied to one that stays, whether or not a function still needs it: the caller
may ask for it until it lets the run go. A copy that fails is tried on every other node; a value that none can take is
lost with its node, and made again if it is needed; so is what serialize hooks have made, as it is for one node only. A
leaving node that runs nothing and holds nothing that is not
elsewhere has nothing more to do with the run, which is then closed there.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from handoff_actors.core.run.endings.completion import Completion
from handoff_actors.core.run.endings.recovery import Recovery
from handoff_actors.core.run.events import RunEffect, SendToNode
from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.core.run.facts.phases import SENT
from handoff_actors.core.run.facts.story import StoryLog
from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.runs import Copied, Copy, Failed

if TYPE_CHECKING:
    from handoff_actors.core.run.facts.state import RunState


class Drain:
    """The values of one run that have to move."""

    def __init__(
        self,
        run: RunId,
        scheduler: Scheduler,
        recovery: Recovery,
        result_fetch: ResultFetch,
        completion: Completion,
        stories: StoryLog,
    ) -> None:
        self._run = run
        self._scheduler = scheduler
        self._state: RunState = scheduler.sources.state
        self._recovery = recovery
        self._result_fetch = result_fetch
        self._completion = completion
        self._stories = stories
        #: Nodes that leave and still have to do with the run.
        self._leaving: set[str] = set()
        #: Values to find a place for, in this order.
        self._todo: dict[Index, None] = {}
        self._may_find_a_place = False
        #: Values on their way, and where to.
        self._copying: dict[Index, str] = {}
        #: Nodes that could not take a value.
        self._refused: set[tuple[Index, str]] = set()
        #: Bytes that have been sent to each node, so that all get their share.
        self._nbytes: dict[str, int] = {}
        #: Functions that were sent out before a value was copied, and know only of its old place.
        self._unaware: dict[Index, set[tuple[Index, Attempt]]] = {}

    def look(self, node: NodeState, now: float) -> None:
        """Take note of a node that has come, or offers something new."""
        self._may_find_a_place = True
        if node.is_leaving and node.name not in self._leaving:
            self._leaving.add(node.name)
            self._stories.note_node("leaving", node.name, now)
            self._todo.update(
                (index, None) for index in self._state.held_by(node.name) if self._is_for_all(index)
            )
            self._find_other_places_than(node.name)

    def node_gone(self, name: str) -> None:
        """Forget a node that is gone or has closed the run; it is off the holders already."""
        self._leaving.discard(name)
        self._refused = {refusal for refusal in self._refused if refusal[1] != name}
        self._find_other_places_than(name)

    def made(self, index: Index, name: str) -> None:
        """Take note of a value that has been stored on a node."""
        if name in self._leaving and self._is_for_all(index):
            self._todo[index] = None
            self._may_find_a_place = True

    def copied(self, name: str, message: Copied, now: float) -> None:
        """Take note of values that a node has copied, or could not copy."""
        for index in message.copied:
            if self._copying.get(index) == name:
                del self._copying[index]
                self._state.add_holder(index, name)
                self._stories.note("drained", index, name, now, "the node that had it leaves")
                self._unaware[index] = self._sent_dependents(index)
        for index in message.missing:
            if self._copying.get(index) == name:
                del self._copying[index]
                self._refused.add((index, name))
                self._todo[index] = None
                self._may_find_a_place = True

    def is_unaware(self, failed: Failed) -> bool:
        """Tell whether a function lacked a value only because it was sent before that had moved."""
        lost = failed.lost
        if lost is None or (failed.index, failed.attempt) not in self._unaware.get(lost, ()):
            return False
        return self._state.is_available(lost)

    @property
    def is_copying_any(self) -> bool:
        """True if nodes have been asked for copies of values, and have not answered."""
        return bool(self._copying)

    def is_copying(self, index: Index) -> bool:
        """Tell whether a node has been asked for a copy of the value, and has not answered."""
        return index in self._copying

    def forget(self, indices: Collection[Index]) -> None:
        """Move values no more that nobody needs; they must not be on their way."""
        discard_all(indices, self._todo, self._unaware)
        if self._refused:
            gone = set(indices)
            self._refused = {refusal for refusal in self._refused if refusal[0] not in gone}

    @property
    def leaving(self) -> Collection[str]:
        """Names of the nodes that leave and still have to do with the run."""
        return self._leaving

    def holders(self) -> set[str]:
        """Name every node that has some stored value, or is fetching a copy of one."""
        return self._state.holders() | set(self._copying.values())

    def settle(self, now: float) -> list[RunEffect]:
        """Do what follows, after each event."""
        if not self._leaving or not self._completion.is_moving_values:
            return []
        effects: list[RunEffect] = []
        for message in self._copies():
            self._completion.sent_to(message.name)
            effects.append(message)
        for name in self._free_to_go():
            effects += self._completion.close_at(name)
            self._recovery.lose_all_of(name, now, f"node {name!r} leaves")
            self.node_gone(name)
        return effects

    def _copies(self) -> list[SendToNode]:
        if not (self._todo and self._may_find_a_place):
            return []
        self._may_find_a_place = False
        todo, self._todo = self._todo, {}
        staying = [node for node in self._scheduler.nodes.values() if not node.is_leaving]
        batches: dict[str, list[Ref]] = {}
        for index in todo:
            if self._is_at_risk(index) and index not in self._copying:
                self._find_place(index, staying, batches)
        return [SendToNode(name, Copy(self._run, refs)) for name, refs in batches.items()]

    def _free_to_go(self) -> list[str]:
        return [name for name in sorted(self._leaving) if self._is_free(self._scheduler.nodes[name])]

    def _find_place(self, index: Index, staying: list[NodeState], batches: dict[str, list[Ref]]) -> None:
        willing = [node for node in staying if (index, node.name) not in self._refused]
        usable = [node for node in willing if node.usable]
        if usable:
            node = min(
                usable, key=lambda node: (node.is_out_of_use, self._nbytes.get(node.name, 0), node.name)
            )
            ref = self._scheduler.sources.ref(index, node.name)
            self._nbytes[node.name] = self._nbytes.get(node.name, 0) + ref.nbytes
            self._copying[index] = node.name
            batches.setdefault(node.name, []).append(ref)
        elif willing or not staying:
            self._todo[index] = None

    def _is_for_all(self, index: Index) -> bool:
        return not self._state.is_for_one_node(index) and index not in self._state.parted

    def _is_at_risk(self, index: Index) -> bool:
        stored = self._state.stored.get(index)
        return stored is not None and bool(stored.holders) and self._leaving.issuperset(stored.holders)

    def _is_free(self, node: NodeState) -> bool:
        held = set(self._state.held_by(node.name))
        if node.sent or any(not self._is_for_all(index) and self._sent_dependents(index) for index in held):
            return False
        return all(
            held.isdisjoint(busy)
            for busy in (self._todo.keys(), self._copying.keys(), self._result_fetch.pending)
        )

    def _find_other_places_than(self, name: str) -> None:
        off = [index for index, target in self._copying.items() if target == name]
        # A value that has been lost meanwhile is made again, and the outcome of this copy must not count.
        off += [index for index in self._copying if not self._state.is_available(index)]
        for index in off:
            self._copying.pop(index, None)
            self._todo[index] = None
        self._may_find_a_place = True

    def _sent_dependents(self, index: Index) -> set[tuple[Index, Attempt]]:
        state = self._state
        return {
            (dependent, state.attempt[dependent])
            for dependent in self._scheduler.locality.dependents_of(index)
            if state.phase[dependent] == SENT
        }
