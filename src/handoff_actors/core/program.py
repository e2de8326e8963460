"""A plan with everything in it that has to travel as bytes: what a run sends to nodes."""

from dataclasses import dataclass

from handoff_actors.core.candidate import Candidate
from handoff_actors.core.progress import Progress
from handoff_actors.graph.plan import ArgSpec, CallSpec, NodeOf, Plan
from handoff_actors.ids import Index
from handoff_actors.wire.messages import Arg, Call, Job, Ref, Template, Text


@dataclass(frozen=True, slots=True)
class Program:
    """The wire's side of a plan. Large constants are `Ref`s to values that the app itself holds."""

    plan: Plan
    templates: list[Template]
    constants: list[bytes | Ref]
    values: list[bytes | Ref]

    def job(
        self,
        index: Index,
        attempt: int,
        node: Candidate,
        progress: Progress,
        candidates: dict[str, Candidate],
        reserved: dict[Index, str],
    ) -> Job:
        """One attempt at one function, with the values of its inputs or where to find them."""
        plan = self.plan

        def name_of(place: NodeOf) -> str:
            if place.index == index:
                return node.name
            return reserved.get(place.index) or progress.node[place.index] or node.name

        def resolve(spec: ArgSpec) -> Arg:
            if isinstance(spec, int):
                if spec < 0:
                    return self.values[~spec]
                inline = progress.inline.get(spec)
                if inline is not None:
                    return inline
                stored = progress.stored[spec]
                addresses = [candidates[holder].address for holder in stored.holders if holder in candidates]
                return Ref(spec, stored.nbytes, addresses)
            if isinstance(spec, NodeOf):
                return Text(name_of(spec))
            return Call(spec.template, [resolve(part) for part in spec.args], self._constants(spec.constants))

        args = [resolve(spec) for spec in plan.args[index]]
        return Job(index, attempt, plan.template_of[index], args, self._constants(plan.constants_of[index]))

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
