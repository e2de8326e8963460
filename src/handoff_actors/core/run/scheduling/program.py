"""A plan with everything in it that has to travel as bytes: what a run sends to nodes."""

from msgspec import Struct, field

from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.python_affinity import NO_AFFINITY, PythonAffinity
from handoff_actors.core.run.state import APP, RunState
from handoff_actors.graph.plan import ArgSpec, CallSpec, NodeOf, Plan
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import FIRST, Arg, Call, Earlier, Job, Rank, Ref, Template, Text


class Sources(Struct):
    """Where what a job is made of comes from."""

    state: RunState
    #: Nodes by name.
    nodes: dict[str, NodeState] = field(default_factory=dict)
    #: Nodes that have been chosen for functions before these are ready.
    reserved: dict[Index, str] = field(default_factory=dict)

    def value(self, index: Index) -> bytes | Ref | Earlier:
        """The value of a function that is done, or who has it; of one that is not, it will be made in the same unit."""
        inline = self.state.inline.get(index)
        if inline is not None:
            return inline
        return self.ref(index) if index in self.state.stored else Earlier(index)

    def ref(self, index: Index) -> Ref:
        """Who has a stored value."""
        stored = self.state.stored[index]
        nodes = (self.nodes.get(holder) for holder in stored.holders)
        addresses = [node.address for node in nodes if node is not None]
        # What a message calls the app happens to be spelled in the same way.
        holders = [*addresses, APP] if APP in stored.holders else addresses
        return Ref(index, stored.nbytes, holders, self.state.version_of(index))

    def node_of(self, index: Index) -> str | None:
        """Where a function will run, or has run."""
        return self.reserved.get(index) or self.state.node[index]


class Program(Struct, frozen=True):
    """The wire's side of a plan. Large constants are `Ref`s to values that the app itself holds."""

    plan: Plan
    templates: list[Template]
    constants: list[bytes | Ref]
    values: list[bytes | Ref]
    affinity: PythonAffinity = NO_AFFINITY

    def job(
        self,
        index: Index,
        attempt: int,
        node: NodeState,
        sources: Sources,
        then: tuple[Job, ...] = (),
        rank: Rank = FIRST,
    ) -> Job:
        """One attempt at one function, with the values of its inputs or where to find them."""
        plan, inline = self.plan, sources.state.inline
        args: list[Arg] = []
        for spec in plan.args[index]:
            value = inline.get(spec) if type(spec) is int else None
            args.append(self._resolve(spec, index, node, sources) if value is None else value)
        constants = self._constants(plan.constants_of[index])
        return Job(index, attempt, plan.template_of[index], args, constants, then, rank)

    def _resolve(self, spec: ArgSpec, index: Index, node: NodeState, sources: Sources) -> Arg:
        if isinstance(spec, int):
            return self.values[~spec] if spec < 0 else sources.value(spec)
        if isinstance(spec, NodeOf):
            return Text(node.name if spec.index == index else sources.node_of(spec.index) or node.name)
        args = [self._resolve(part, index, node, sources) for part in spec.args]
        return Call(spec.template, args, self._constants(spec.constants))

    def templates_of(self, index: Index) -> list[int]:
        """The templates that a function uses, those of calls among its arguments included."""
        used = [self.plan.template_of[index]]
        calls = [spec for spec in self.plan.args[index] if isinstance(spec, CallSpec)]
        while calls:
            call = calls.pop()
            used.append(call.template)
            calls += [spec for spec in call.args if isinstance(spec, CallSpec)]
        return used

    def _constants(self, number: int) -> bytes | Ref | None:
        return None if number < 0 else self.constants[number]


class AssignBatch(Struct):
    """What one message will carry."""

    templates: list[Template] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
