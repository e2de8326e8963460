"""The program of a run to which functions are added, and from which those are removed that nobody needs any more.

Each addition is a program of its own, numbered by itself: a call, a graph, or what a function has returned as its
continuation. Here it gets its place in the program of the run: an index for each function, first those that are free, and
numbers for templates, constants and values. Templates, which many additions have in common, are there once.
"""

from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from handoff_actors.core.run.numbering import Numbering
from handoff_actors.core.run.part import Part, put
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.graph.plan import OUTER, ArgSpec, CallSpec, Hook, NodeOf, Plan, TemplateSpec
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Template

#: What is added from within a function goes before what was there, whose paths are shorter than this.
LEVELS_PER_DEPTH = 1 << 20
#: Templates that no function of the run has any more, and that are kept for those to come.
MOST_IDLE_TEMPLATES = 256
#: In the place of those that were removed.
NO_TEMPLATE = Template(0, b"", True, b"", False, False, {}, None)
NO_TEMPLATE_SPEC = TemplateSpec(len, False, False, {}, None)


class Removed(Struct, frozen=True):
    """What is removed with functions."""

    #: Indices of values that the app itself has.
    app_values: list[Index] = field(default_factory=list)
    #: Templates that no node need keep.
    templates: list[int] = field(default_factory=list)


class GrowingProgram:
    """The program of a run, to which others are added."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._plan = program.plan
        self._indices = Numbering(program.plan.size)
        self._constants = Numbering(len(program.constants))
        self._values = Numbering(len(program.values))
        self._templates = Numbering(len(program.templates))
        self._groups = Numbering(len(program.plan.groups))
        #: Numbers of templates by what they are.
        self._number_of: dict[object, int] = {_key(each): each.number for each in program.templates}
        #: How many parts use each template; those that none uses, the one longest so first.
        self._users: dict[int, int] = dict.fromkeys(self._number_of.values(), 1)
        self._idle: dict[int, None] = {}
        #: By index. Functions that the run has begun with are never removed.
        self._part_of: dict[Index, Part] = {}

    def add(self, added: Program, app_values: Collection[Index], depth: int) -> Part:
        """Add a program. Raises KeyError for an outer function that is unknown."""
        plan = added.plan
        outer = [self._plan.index_of[function_id] for function_id in plan.outer]
        new: list[int] = []
        part = Part(
            self._indices.take(plan.size),
            [self._template(*each, new) for each in zip(added.templates, plan.templates, strict=True)],
            self._constants.take(len(added.constants)),
            self._values.take(len(added.values)),
            self._groups.take(len(plan.groups)),
            app_values,
            new,
            plan.size,
        )
        put(self._program.constants, part.constants, added.constants)
        put(self._program.values, part.values, added.values)
        self._part_of |= dict.fromkeys(part.indices, part)
        _Placing(self._plan, plan, outer, part).place_all(depth)
        return part

    def _template(self, template: Template, spec: TemplateSpec, new: list[int]) -> int:
        key = _key(template)
        number = self._number_of.get(key)
        if number is None:
            (number,) = self._templates.take(1)
            self._number_of[key] = number
            put(self._program.templates, [number], [replace(template, number=number)])
            put(self._plan.templates, [number], [spec])
            new.append(number)
        self._users[number] = self._users.get(number, 0) + 1
        self._idle.pop(number, None)
        return number

    def remove(self, indices: Iterable[Index]) -> Removed:
        """Remove functions."""
        gone = Removed()
        plan = self._plan
        for index in indices:
            plan.index_of.pop(plan.ids[index], None)
            plan.ids[index] = None
            plan.args[index] = plan.producers[index] = ()
            plan.max_retries.pop(index, None)
            plan.retry_backoff.pop(index, None)
            self._remove_hook(index)
            part = self._part_of.pop(index)
            part.left -= 1
            if part.left == 0:
                self._remove_part(part, gone)
            self._indices.give_back(index)
        return gone

    def _remove_hook(self, index: Index) -> None:
        hook = self._plan.hook_of.pop(index, None)
        if hook is not None:
            self._plan.hooks.remove(hook)

    def _remove_part(self, part: Part, gone: Removed) -> None:
        for number in part.constants:
            self._program.constants[number] = b""
            self._constants.give_back(number)
        for number in part.values:
            self._program.values[number] = b""
            self._values.give_back(number)
        for number in part.groups:
            self._plan.groups[number] = ()
            self._groups.give_back(number)
        for number in part.templates:
            self._users[number] -= 1
            if self._users[number] == 0:
                self._idle[number] = None
        while len(self._idle) > MOST_IDLE_TEMPLATES:
            gone.templates.append(self._remove_template())
        gone.app_values.extend(part.app_values)

    def _remove_template(self) -> int:
        number = next(iter(self._idle))
        del self._idle[number], self._users[number]
        del self._number_of[_key(self._program.templates[number])]
        # Its number is not given to another: nodes may still have attempts that they have not heard the end of.
        self._program.templates[number] = NO_TEMPLATE
        self._plan.templates[number] = NO_TEMPLATE_SPEC
        return number


class _Placing:
    """Puts the functions of one plan into the plan of a run."""

    def __init__(self, plan: Plan, added: Plan, outer: list[Index], part: Part) -> None:
        self._plan = plan
        self._added = added
        self._indices = part.indices
        self._outer = outer
        self._part = part

    def place_all(self, depth: int) -> None:
        plan, added, indices, part = self._plan, self._added, self._indices, self._part
        producers = [self._results(taken) for taken in added.producers]
        plan.size = max(plan.size, 1 + max(indices, default=-1))
        put(plan.ids, indices, added.ids)
        for function_id, index in added.index_of.items():
            plan.index_of[function_id] = indices[index]
        put(plan.args, indices, map(self._args, added.args))
        put(plan.producers, indices, producers)
        put(plan.dependents, indices, (dict.fromkeys(self._results(taken)) for taken in added.dependents))
        first = depth * LEVELS_PER_DEPTH
        put(plan.bottom_level, indices, (first + level for level in added.bottom_level))
        put(plan.priority, indices, added.priority)
        put(plan.template_of, indices, map(part.templates.__getitem__, added.template_of))
        put(plan.constants_of, indices, map(self._constants, added.constants_of))
        put(plan.node_of, indices, added.node_of)
        put(plan.group_of, indices, (part.groups[group] if group >= 0 else -1 for group in added.group_of))
        put(plan.groups, part.groups, map(self._results, added.groups))
        self._place_few()
        if added.outer:
            self._link_outer(producers)

    def _place_few(self) -> None:
        """Place what only some functions have."""
        plan, added, indices = self._plan, self._added, self._indices
        plan.max_retries |= {indices[index]: most for index, most in added.max_retries.items()}
        plan.retry_backoff |= {indices[index]: backoff for index, backoff in added.retry_backoff.items()}
        for hook in added.hooks:
            placed = Hook(*map(self._result, (hook.index, hook.producer, hook.consumer)))
            plan.hooks.append(placed)
            plan.hook_of[placed.index] = placed

    def _link_outer(self, producers: Sequence[tuple[Index, ...]]) -> None:
        outer = set(self._outer)
        for index, taken in zip(self._indices, producers, strict=True):
            for producer in taken:
                if producer in outer:
                    dependents = self._plan.dependents[producer]
                    if not isinstance(dependents, dict):
                        dependents = self._plan.dependents[producer] = dict.fromkeys(dependents)
                    dependents[index] = None

    def _result(self, index: Index) -> Index:
        return self._indices[index] if index < OUTER else self._outer[index - OUTER]

    def _results(self, indices: Collection[Index]) -> tuple[Index, ...]:
        return tuple(map(self._result, indices)) if indices else ()

    def _constants(self, number: int) -> int:
        return number if number < 0 else self._part.constants[number]

    def _args(self, args: tuple[ArgSpec, ...]) -> tuple[ArgSpec, ...]:
        return tuple(map(self._arg, args)) if args else ()

    def _arg(self, spec: ArgSpec) -> ArgSpec:
        if isinstance(spec, CallSpec):
            template = self._part.templates[spec.template]
            return CallSpec(template, self._args(spec.args), self._constants(spec.constants))
        if isinstance(spec, NodeOf):
            return NodeOf(self._result(spec.index))
        return self._result(spec) if spec >= 0 else ~self._part.values[~spec]


def _key(template: Template) -> object:
    """What makes a template the same as another one, apart from its number."""
    environment = template.environment
    variables = () if environment is None else (*environment.variables.items(), environment.directory)
    modules = b"" if template.modules is None else template.modules.key
    return (
        template.digest,
        template.by_reference,
        template.is_async,
        template.as_list,
        tuple(template.cost.items()),
        template.timeout,
        template.log_level,
        variables,
        modules,
        template.retry_on,
        template.placed_from,
        template.session,
        template.run_if,
        template.conditions,
    )
