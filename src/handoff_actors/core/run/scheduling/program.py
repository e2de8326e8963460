"""A plan with its code and constants encoded, as a run sends them to nodes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct, field

from handoff_actors.core.run.facts.foreign_values import ForeignValues
from handoff_actors.core.run.facts.phases import FAILED
from handoff_actors.core.run.facts.resumption import Fingerprints
from handoff_actors.core.run.facts.state import APP, RunState
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.python_affinity import NO_AFFINITY, PythonAffinity
from handoff_actors.graph.plan import ArgSpec, CallSpec, ListOf, NodeOf, Plan
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import (
    FIRST,
    Arg,
    Assembled,
    Call,
    Constants,
    Earlier,
    FailedInput,
    Job,
    Listed,
    Rank,
    Ref,
    StoredPart,
    Template,
    Text,
)

#: Of jobs behind which none are fused.
NOTHING_FUSED: Final[Mapping[Index, tuple[Job, ...]]] = {}


def no_error(_: Index) -> bytes:
    """Stand for the errors of a run in which nothing runs after one."""
    return b""


class Sources(Struct):
    """The sources of jobs' inputs: values, their holders, and chosen nodes."""

    state: RunState
    #: Nodes by name.
    nodes: dict[str, NodeState] = field(default_factory=dict)
    #: Nodes that have been chosen for functions that are not ready yet.
    reserved: dict[Index, str] = field(default_factory=dict)
    #: Gives the encoded error of a function that has failed.
    error_of: Callable[[Index], bytes] = no_error

    def value(self, index: Index, name: str) -> bytes | Ref | Earlier | FailedInput | Assembled:
        """A result for a node, inline or by its holders; or the error of a function that has failed.

        If the function has not ended, an earlier member of the fused group returns it.
        """
        inline = self.state.inline.get(index)
        if inline is not None:
            return inline
        if self.state.phase[index] == FAILED:
            return FailedInput(self.error_of(index))
        if index in self.state.parted.lists:
            return Assembled(
                self.state.parted.lists[index],
                [self._part_ref(index, part, name) for part in self.state.parted.of(index)],
            )
        return self.ref(index, name) if index in self.state.stored else Earlier(index)

    def items(self, index: Index, name: str) -> Arg:
        """A result as `value` gives it, with references to its parts in place of these."""
        items = self.state.parted.lists.get(index)
        return self.value(index, name) if items is None else Listed(items, [*self.state.parted.of(index)])

    def part(self, ref: Ref, name: str) -> Ref:
        """A reference, for a node, to a part of a value as it is now; `ref` as it is if it is none."""
        found = self.state.parted.find(ref.index)
        return ref if found is None else self._part_ref(*found, name)

    def _part_ref(self, owner: Index, part: StoredPart, name: str) -> Ref:
        return Ref(part.index, part.nbytes, self.ref(owner, name).holders)

    def ref(self, index: Index, name: str) -> Ref:
        """A reference, for a node, to a stored value and its holders."""
        if self.state.changed is not None:
            self.state.stored[index].told.add(name)
        return self.located(index)

    def located(self, index: Index) -> Ref:
        """A reference to a stored value and its holders, for whoever has it under another name."""
        stored = self.state.stored[index]
        nodes = (self.nodes.get(holder) for holder in stored.holders)
        addresses = [node.address for node in nodes if node is not None]
        # Messages happen to spell the app's name in the same way.
        holders = [*addresses, APP] if APP in stored.holders else addresses
        return Ref(index, stored.nbytes, holders, self.state.version_of(index))

    def node_of(self, index: Index) -> str | None:
        """The node on which a function will run, or has run; None if none has been chosen."""
        return self.reserved.get(index) or self.state.node[index]


class Program(Struct, frozen=True):
    """A plan in encoded form. Large constants are `Ref`s to values that the app itself holds."""

    plan: Plan
    templates: list[Template]
    constants: list[bytes | Ref | Assembled]
    values: list[bytes | Ref]
    affinity: PythonAffinity = NO_AFFINITY
    foreign: ForeignValues = field(default_factory=ForeignValues)
    #: By index, of those functions that have some.
    fingerprints: dict[Index, Fingerprints] = field(default_factory=dict)

    def jobs(
        self,
        indices: Iterable[Index],
        node: NodeState,
        sources: Sources,
        then: Mapping[Index, tuple[Job, ...]] = NOTHING_FUSED,
        rank: Rank = FIRST,
    ) -> list[Job]:
        """Build the jobs for the attempts that functions are sent for, with their inputs as values or references."""
        plan, inline, values = self.plan, sources.state.inline, self.values
        args_of, constants_of, template_of = plan.args, plan.constants_of, plan.template_of
        attempt, earlier = sources.state.attempt, sources.state.earlier_attempts
        jobs: list[Job] = []
        for index in indices:
            args: list[Arg] = []
            for spec in args_of[index]:
                value = (inline.get(spec) if spec >= 0 else values[~spec]) if type(spec) is int else None
                args.append(value if type(value) is bytes else self._resolve(spec, index, node, sources))
            number = constants_of[index]
            constants = None if number < 0 else self._constants(number, node, sources)
            jobs.append(
                Job(
                    index,
                    attempt[index],
                    template_of[index],
                    args,
                    constants,
                    then.get(index, ()),
                    rank,
                    earlier.get(index, 0),
                )
            )
        return jobs

    def _resolve(self, spec: ArgSpec, index: Index, node: NodeState, sources: Sources) -> Arg:
        if isinstance(spec, int):
            if spec >= 0:
                return sources.value(spec, node.name)
            return self._value(~spec, node, sources)
        if isinstance(spec, ListOf):
            return sources.items(spec.index, node.name)
        if isinstance(spec, NodeOf):
            return Text(node.name if spec.index == index else sources.node_of(spec.index) or node.name)
        args = [self._resolve(part, index, node, sources) for part in spec.args]
        return Call(spec.template, args, self._constants(spec.constants, node, sources))

    def templates_of(self, index: Index) -> list[int]:
        """Numbers of the templates that a function uses, including those of inline calls among its arguments."""
        used = [self.plan.template_of[index]]
        calls = [spec for spec in self.plan.args[index] if isinstance(spec, CallSpec)]
        while calls:
            call = calls.pop()
            used.append(call.template)
            calls += [spec for spec in call.args if isinstance(spec, CallSpec)]
        return used

    def _value(self, number: int, node: NodeState, sources: Sources) -> bytes | Ref:
        value = self.values[number]
        return sources.part(self.foreign.current(value), node.name) if type(value) is Ref else value

    def _constants(self, number: int, node: NodeState, sources: Sources) -> Constants:
        if number < 0:
            return None
        constants = self.constants[number]
        return sources.part(constants, node.name) if type(constants) is Ref else constants


class AssignBatch(Struct):
    """The content of one `Assign` message while it is being built."""

    templates: list[Template] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
