"""Sizes and locations of stored inputs: the bytes that would have to move for a function to run on a node."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.placement import MOVE_NBYTES, Need
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.warm_nodes import WarmNodes
from handoff_actors.ids import Index

#: Counts more than any load of a node.
IN_VAIN_NBYTES: Final = 10**15
#: An object of `per_worker` counts as much as input of this size: as long as a node has a core to spare, or next to none
#: wait there, functions go to where it is.
WARM_NBYTES: Final = MOVE_NBYTES


class DataLocality:
    """The stored inputs of all functions of a run."""

    def __init__(
        self, program: Program, state: RunState, needed: Mapping[Index, Collection[int]], nodes: WarmNodes
    ) -> None:
        """`needed` are the templates of the objects that functions need, and `nodes` have them."""
        self._plan = program.plan
        self._state = state
        self._templates = program.templates
        self._needed = needed
        self._nodes = nodes

    def inputs_of(self, index: Index) -> Sequence[Index]:
        """Producers of the values that a function takes. A serialize hook waits for more than these."""
        hook = self._plan.hook_of.get(index)
        return self._plan.producers[index] if hook is None else (hook.producer,)

    def dependents_of(self, index: Index) -> Collection[Index]:
        """The functions that take a value."""
        return self._plan.dependents[index]

    def need(self, index: Index, need: RequirementClass) -> Need:
        """Describe a function to placement policies."""
        nbytes, held = self._input_sizes(index)
        if self._state.cut_off:
            self._count_relayed(index, held)
        if index in self._needed:
            nbytes += WARM_NBYTES * len(self._needed[index])
            self._count_warm(index, held)
        return Need(self._plan.ids[index], need.cost, nbytes, held, need.is_async)

    def held(self, index: Index) -> Mapping[str, int]:
        """Bytes of a function's stored input, by the node that holds them."""
        held = self._input_sizes(index)[1]
        if self._state.cut_off:
            self._count_relayed(index, held)
        if index in self._needed:
            self._count_warm(index, held)
        return held

    def sent(self, indices: Iterable[Index], name: str) -> None:
        """Note that functions are being sent to a node."""
        if self._needed:
            for index in indices:
                self._nodes.sent(name, self._keys(index))
        if self._state.stored or self._state.foreign.taken_by:
            for index in indices:
                self._count_moved_bytes(index, name)

    def warm_at(self, index: Index) -> list[Collection[str]]:
        """The nodes that have each of the objects that a function needs."""
        return [self._nodes.with_object(key) for key in self._keys(index)]

    def _keys(self, index: Index) -> list[bytes]:
        warm = (self._templates[number].warm for number in sorted(self._needed.get(index, ())))
        return [made.key for made in warm if made is not None]

    def _count_moved_bytes(self, index: Index, name: str) -> None:
        """Count the stored input that a node must fetch for a function that is being sent there."""
        nbytes, held = self._input_sizes(index)
        moved = nbytes - held.get(name, 0)
        if moved:
            self._state.moved[index] = self._state.moved.get(index, 0) + moved

    def _input_sizes(self, index: Index) -> tuple[int, dict[str, int]]:
        total = 0
        held: dict[str, int] = {}
        for producer in self.inputs_of(index) if self._state.stored else ():
            stored = self._state.stored.get(producer)
            if stored is not None:
                total += stored.nbytes
                for holder in stored.holders:
                    held[holder] = held.get(holder, 0) + stored.nbytes
        if self._state.foreign.taken_by:
            total += self._state.foreign.add_sizes(index, held)
        return total, held

    def _count_warm(self, index: Index, held: dict[str, int]) -> None:
        for names in self.warm_at(index):
            for name in names:
                held[name] = held.get(name, 0) + WARM_NBYTES

    def _count_relayed(self, index: Index, held: dict[str, int]) -> None:
        """Count bytes twice that would have to go through the app, and without end where that has failed."""
        for producer in self.inputs_of(index):
            stored = self._state.stored.get(producer)
            if stored is None:
                continue
            for name, unreachable in self._state.cut_off.items():
                if name not in stored.holders and unreachable.issuperset(stored.holders):
                    is_in_vain = (producer, name) in self._state.out_of_reach
                    held[name] = held.get(name, 0) - (IN_VAIN_NBYTES if is_in_vain else stored.nbytes)
