"""Expansion adds the graph that a function has returned to its run.

The function whose result is to be the parent's takes the parent's index: whatever depends on the parent, and every handle of
it, is the new function's without a change, so that a chain of expansions at the end of one another takes constant memory.
The functions beside it get indices of their own.

Large arguments of the new functions are parts of a value in the store of the node where the parent ran. They belong to a copy
of the parent, which counts as done, and runs again if the node is lost before they are needed no more.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from handoff_actors.core.run.endings.failures import Failures
from handoff_actors.core.run.endings.recovery import Recovery
from handoff_actors.core.run.endings.retries import Retries
from handoff_actors.core.run.events import FindResults, ResultsFound, RunEffect
from handoff_actors.core.run.facts.grown_graph import GrownGraph, in_place_of
from handoff_actors.core.run.facts.history import History
from handoff_actors.core.run.facts.phases import WAITING
from handoff_actors.core.run.facts.resumption import NO_FINGERPRINTS, NOTHING_FOUND
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.facts.story import StoryLog
from handoff_actors.core.run.growing.expanded_program import (
    ExpandedPrograms,
    Parent,
    UnknownTemplate,
    check_expansion,
    owner_id,
    plan_of,
)
from handoff_actors.core.run.growing.growing_program import GrowingProgram, dependents_of
from handoff_actors.core.run.growing.growth_bound import GrowthBound
from handoff_actors.core.run.growing.retention import Retention
from handoff_actors.core.run.observing import Observing
from handoff_actors.core.run.recording import Recording
from handoff_actors.core.run.scheduling.feasibility import Feasibility
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.core.run.take_over import TakeOver
from handoff_actors.errors import HandoffError, RemoteProtocolError, TooManyFunctions, ValueLost
from handoff_actors.graph.naming import short_code_name
from handoff_actors.graph.run_if import run_if_of
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Done, Expansion, GraphDigests

#: Said of a function whose graph refers to code that has not arrived.
_CODE_MISSING: Final = "the code of its graph was not sent along"
_OTHER_GRAPH: Final = (
    "its node was lost with arguments that it had made for the functions that it added, and called again it has returned "
    "another graph"
)


#: Of graphs that are not looked up.
NO_DIGESTS: Final = GraphDigests([], [], [])


class Expanding:
    """The graphs that functions of one run have returned."""

    def __init__(
        self,
        program: Program,
        growing: GrowingProgram,
        state: RunState,
        scheduler: Scheduler,
        feasibility: Feasibility,
        retries: Retries,
        recovery: Recovery,
        failures: Failures,
        retention: Retention,
        stories: StoryLog,
        observing: Observing,
        history: History,
        recording: Recording,
        take_over: TakeOver,
        bound: GrowthBound,
    ) -> None:
        self._program = program
        self._plan = program.plan
        self._growing = growing
        self._state = state
        self._scheduler = scheduler
        self._feasibility = feasibility
        self._retries = retries
        self._recovery = recovery
        self._failures = failures
        self._retention = retention
        self._stories = stories
        self._observing = observing
        self._history = history
        self._recording = recording
        self._take_over = take_over
        self._effects: list[RunEffect] = []
        self.bound = bound
        self._programs = ExpandedPrograms(state.parted)

    def take(self, entry: Done, node: NodeState, now: float, found: ResultsFound | None = None) -> bool:
        """Take the graph of an attempt that is out at a node. False if the attempt counts as done now, with all its parts.

        A graph with digests is looked up first: its function stays out until it is taken again, with what was `found`.
        """
        index = entry.index
        expansion = None if entry.additions is None else entry.additions.expansion
        if expansion is None:
            return False
        try:
            if index in self._state.parted:
                return self._made_parts_again(entry, node, now)
            if found is None:
                graph = self._graph(index, expansion)
                if expansion.digests is not None:
                    self._effects.append(FindResults(node.name, entry, graph))
                    return True
                found = ResultsFound(node.name, entry, graph, NOTHING_FOUND)
            self._add(found, expansion, node, now)
        except UnknownTemplate:
            self._scheduler.returned(index, node)
            number = self._stories.note("recalled", index, node.name, now, _CODE_MISSING)
            self._recovery.again(index, now, number)
        except (RemoteProtocolError, TooManyFunctions) as error:
            self._fail(index, error, node, now)
        return True

    def _fail(self, index: Index, error: HandoffError, node: NodeState, now: float) -> None:
        self._scheduler.returned(index, node)
        self._observing.function("failed", index, node.name, str(error))
        self._failures.refused([(index, error)], now)

    def _made_parts_again(self, entry: Done, node: NodeState, now: float) -> bool:
        """Tell whether a copy of a parent has returned another graph than the parent, which is the end of it."""
        assert entry.additions is not None
        if len(entry.additions.parts) == len(self._state.parted.of(entry.index)):
            return False
        self._fail(entry.index, ValueLost(self._plan.ids[entry.index], _OTHER_GRAPH), node, now)
        return True

    def take_effects(self) -> list[RunEffect]:
        """Drain what the graphs taken so far have led to."""
        effects, self._effects = [*self._effects, *self._take_over.effects], []
        self._take_over.effects = []
        return effects

    def _graph(self, index: Index, expansion: Expansion) -> GrownGraph:
        check_expansion(expansion)
        self._check_bound(index, expansion)
        parent, known = self._parent(index), self._program.fingerprints
        templates = self._programs.templates_of(expansion, parent)
        parts = {
            number: (known.get(owner, NO_FINGERPRINTS), place)
            for number, (owner, place) in self._programs.parts_of(expansion).items()
        }
        return GrownGraph(
            plan_of(expansion, templates, parent),
            expansion.result,
            known.get(index, NO_FINGERPRINTS),
            parent.step,
            expansion.digests or NO_DIGESTS,
            templates,
            parts,
        )

    def _add(self, looked_up: ResultsFound, expansion: Expansion, node: NodeState, now: float) -> None:
        entry, graph, plan = looked_up.entry, looked_up.graph, self._plan
        index = entry.index
        # Others may have added functions meanwhile.
        self._check_bound(index, expansion)
        if entry.additions is not None and entry.additions.parts:
            self._copy(entry, self._parent(index), node, now)
        added, outer = self._programs.make(expansion, graph.templates, graph.plan)
        self._history.note_expanded(index, entry, node.name, now)
        if self._recording.is_on:
            self._recording.note_after_failure(index)
        self._scheduler.completed([index], node)
        self._scheduler.learn([entry])
        goes_on_anyway = index in self._state.added_anyway or run_if_of(plan, index) != "success"
        before = plan.producers[index]
        for producer in before:
            dependents_of(plan, producer).pop(index, None)
        self._scheduler.remove([index])
        part = self._growing.expand(added, index, expansion.result, outer)
        part.result_name, part.items, part.stages = expansion.result_name, expansion.items, expansion.stages
        fresh = [each for each in part.indices if each != index]
        self.bound.note(index, fresh, len(expansion.producers))
        self._state.add(fresh, now)
        self._state.set_expanded(index, now)
        if goes_on_anyway:
            self._state.added_anyway.update(part.indices)
        self._scheduler.add(part, added)
        self._retries.forget([index])
        self._retention.expanded(before)
        self._retention.added(part.indices, ())
        must_look = self._feasibility.add(part.indices)
        self._take_over_found(index, part.indices, looked_up, now)
        self._recovery.begin(part.indices, now)
        if must_look:
            self._feasibility.update(self._scheduler.nodes, now)

    def _take_over_found(
        self, index: Index, indices: Sequence[Index], looked_up: ResultsFound, now: float
    ) -> None:
        found, result = looked_up.found, looked_up.graph.result
        if not found.fingerprints:
            return
        known = list(found.fingerprints)
        known[result] = in_place_of(looked_up.graph.parent, known[result])
        self._take_over.found(indices, replace(found, fingerprints=known), now)
        if result not in found.reused:
            return
        # Nothing has recorded it as the parent's yet.
        self._recording.note(index)
        for dependent in self._plan.dependents[index]:
            if self._state.missing[dependent] == 0 and self._state.phase[dependent] == WAITING:
                self._recovery.make_ready([dependent], now)

    def _check_bound(self, index: Index, expansion: Expansion) -> None:
        if self.bound.is_passed(index, len(expansion.producers)):
            code = self._plan.templates[self._plan.template_of[index]].code
            raise TooManyFunctions(self._plan.ids[index], short_code_name(code), self.bound.most)

    def _parent(self, index: Index) -> Parent:
        plan, number = self._plan, self._plan.template_of[index]
        return Parent(
            plan.ids[index],
            self._program.templates[number],
            plan.priority[index],
            self._growing.step_at(index),
        )

    def _copy(self, entry: Done, parent: Parent, node: NodeState, now: float) -> None:
        """Add a function that has what the parent has made, and can make it again."""
        assert entry.additions is not None
        owner = self._growing.copy(entry.index, owner_id(parent))
        if any(producer in self._plan.hook_of for producer in self._plan.producers[owner]):
            # What serialize hooks have made is for the parent's node.
            self._plan.node_of[owner] = node.name
        self._state.add([owner], now)
        if entry.index in self._state.added_anyway:
            self._state.added_anyway.add(owner)
        self._scheduler.copied(entry.index, owner)
        self._feasibility.add([owner])
        self._retention.added([owner], ())
        self._state.set_owner(owner, node.name, entry.additions.parts, now)
