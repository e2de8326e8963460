"""The program of a run to which functions are added, and from which those are removed that nobody needs any more.

Each addition is a program of its own, numbered by itself: a call, a graph, or what a function has returned as its
continuation. Here it gets its place in the program of the run: an index for each function, first those that are free, and
numbers for templates, constants and values. Templates, which many additions have in common, are there once.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from handoff_actors.core.run.facts.numbering import Numbering, discard_all
from handoff_actors.core.run.facts.part import ProgramPart, put
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.graph.plan import OUTER, ArgSpec, CallSpec, Hook, ListOf, NodeOf, Plan, TemplateSpec
from handoff_actors.ids import FunctionId, Index
from handoff_actors.wire.messages.jobs import Template

#: What is added from within a function goes before what was there, whose paths are shorter than this.
LEVELS_PER_DEPTH = 1 << 20
#: Templates that no function of the run has any more, and that are kept for those to come.
MOST_IDLE_TEMPLATES = 256
#: Bytes of their code, without the one that a function had last: code by value has what it captures.
MOST_IDLE_NBYTES = 16 << 20
#: In the place of those that were removed.
NO_TEMPLATE = Template(0, b"", True, b"", False, False, {}, None)
NO_TEMPLATE_SPEC = TemplateSpec(len, False, False, {}, None)


def _of_copy(spec: ArgSpec, index: Index, copied: Index) -> ArgSpec:
    """Have an argument that names the node of a function name that of its copy."""
    if isinstance(spec, NodeOf) and spec.index == index:
        return NodeOf(copied)
    if isinstance(spec, CallSpec):
        args = tuple([_of_copy(arg, index, copied) for arg in spec.args])
        return CallSpec(spec.template, args, spec.constants)
    return spec


class Removed(Struct, frozen=True):
    """Values and templates that are removed with functions."""

    #: Indices of values that the app itself has.
    app_values: list[Index] = field(default_factory=list)
    #: Templates that no node need keep.
    templates: list[int] = field(default_factory=list)


class GrowingProgram:
    """The program of a run, to which others are added."""

    def __init__(self, program: Program, part_of: dict[Index, ProgramPart] | None = None) -> None:
        """`part_of` is kept up to date: the parts that were added, by the indices of their functions."""
        self._program = program
        self.plan = self._plan = program.plan
        self.fingerprints = program.fingerprints
        self._indices = Numbering(program.plan.size)
        self._constants = Numbering(len(program.constants))
        self._values = Numbering(len(program.values))
        self._templates = Numbering(len(program.templates))
        self._groups = Numbering(len(program.plan.groups))
        #: Numbers of templates by what they are.
        self._number_of: dict[object, int] = {
            _key(*each): each[0].number
            for each in zip(program.templates, program.plan.templates, strict=True)
        }
        #: How many parts use each template; those that none uses, the one longest so first, each with the bytes of its code.
        self._users: dict[int, int] = dict.fromkeys(self._number_of.values(), 1)
        self._idle: dict[int, int] = {}
        self._idle_nbytes = 0
        #: How many templates refer to each value that the app itself has.
        self._referring = Counter(
            index for template in program.templates for index in _app_values_of(template)
        )
        #: By index. Functions that the run has begun with are never removed.
        self._part_of: dict[Index, ProgramPart] = {} if part_of is None else part_of
        #: What has been removed since `remove` was last called.
        self._removed = Removed()

    def add(self, added: Program, app_values: Collection[Index], depth: int) -> ProgramPart:
        """Add a program. Raises KeyError for an outer function that is unknown."""
        outer = [self._plan.index_of[function_id] for function_id in added.plan.outer]
        return self._place(added, self._indices.take(added.plan.size), outer, app_values, depth)

    def step_at(self, index: Index) -> int:
        """Count the graphs that have taken the place of a function so far, with one that is about to."""
        part = self._part_of.get(index)
        return 1 + (part.step if part is not None and part.parent == index else 0)

    def expand(self, added: Program, parent: Index, result: Index, outer: list[Index]) -> ProgramPart:
        """Add a program of which the function `result` takes the place of `parent`, with all that depends on that.

        `outer` are the functions that stand for those of its plan.
        """
        plan, step = self._plan, self.step_at(parent)
        indices = self._indices.take(added.plan.size - 1)
        indices.insert(result, parent)
        left, dependents = self._part_of.get(parent), plan.dependents[parent]
        self._unplace(parent)
        depth = 1 + plan.bottom_level[parent] // LEVELS_PER_DEPTH
        part = self._place(added, indices, outer, (), depth)
        part.parent, part.step = parent, step
        # The function that takes the parent's place, and has its id, was added by whatever has added the parent.
        plan.parent_of |= dict.fromkeys([each for each in indices if each != parent], plan.ids[parent])
        part.within = left.within if left is not None and left.parent == parent else left
        plan.dependents[parent] = dict.fromkeys([*dependents, *plan.dependents[parent]])
        if left is not None:
            left.left -= 1
            if left.left == 0:
                self._remove_part(left, self._removed)
        return part

    def with_added(self, indices: Iterable[Index]) -> list[Index]:
        """List functions, each followed by those that it has added and that are in the plan still, and so on."""
        found: list[Index] = []
        pending = list(indices)[::-1]
        while pending:
            index = pending.pop()
            found.append(index)
            part = self._part_of.get(index)
            if part is not None and part.parent == index:
                pending += [
                    other for other in part.indices if other != index and self._was_added_with(other, part)
                ]
        return found

    def _was_added_with(self, index: Index, part: ProgramPart) -> bool:
        its = self._part_of.get(index)
        return its is part or (its is not None and its.parent == index and its.within is part)

    def _unplace(self, index: Index) -> None:
        """Take out of the plan what only some functions have, since its index is to be that of another one."""
        plan = self._plan
        plan.max_retries.pop(index, None)
        plan.retry_backoff.pop(index, None)
        self._program.foreign.forget([index])
        for hook in [hook for hook in plan.hooks if hook.consumer == index]:
            self._remove_hook(hook.index)
        group = plan.group_of[index]
        if group >= 0:
            plan.groups[group] = tuple(member for member in plan.groups[group] if member != index)

    def copy(self, index: Index, function_id: FunctionId) -> Index:
        """Add a function that is as another one, apart from its id."""
        plan, (copied,) = self._plan, self._indices.take(1)
        _make_room(plan, copied + 1)
        columns: tuple[list[Any], ...] = (
            plan.args,
            plan.producers,
            plan.bottom_level,
            plan.priority,
            plan.template_of,
            plan.constants_of,
            plan.node_of,
        )
        for column in columns:
            column[copied] = column[index]
        plan.args[copied] = tuple([_of_copy(spec, index, copied) for spec in plan.args[index]])
        plan.ids[copied], plan.group_of[copied], plan.dependents[copied] = function_id, -1, {}
        plan.index_of[function_id] = copied
        plan.parent_of[copied] = plan.ids[index]
        for producer in plan.producers[copied]:
            dependents_of(plan, producer)[copied] = None
        part = self._part_of.get(index)
        if part is not None:
            self._part_of[copied] = part
            part.left += 1
        return copied

    def _place(
        self,
        added: Program,
        indices: list[Index],
        outer: list[Index],
        app_values: Collection[Index],
        depth: int,
    ) -> ProgramPart:
        plan = added.plan
        templates = [self._template(*each) for each in zip(added.templates, plan.templates, strict=True)]
        if app_values:
            app_values = self._without_templates(app_values, added)
        part = ProgramPart(
            indices,
            templates,
            self._constants.take(len(added.constants)),
            self._values.take(len(added.values)),
            self._groups.take(len(plan.groups)),
            [*app_values, *(value.index for value in added.foreign)],
            plan.size,
        )
        put(self._program.constants, part.constants, added.constants)
        put(self._program.values, part.values, added.values)
        self._program.foreign.adopt(added.foreign, part.indices)
        self._part_of |= dict.fromkeys(part.indices, part)
        _Placing(self._plan, plan, outer, part).place_all(depth)
        return part

    def _template(self, template: Template, spec: TemplateSpec) -> int:
        key = _key(template, spec)
        number = self._number_of.get(key)
        if number is None:
            (number,) = self._templates.take(1)
            self._number_of[key] = number
            put(self._program.templates, [number], [replace(template, number=number)])
            put(self._plan.templates, [number], [spec])
            self._referring.update(_app_values_of(template))
        self._users[number] = self._users.get(number, 0) + 1
        self._idle_nbytes -= self._idle.pop(number, 0)
        return number

    def _without_templates(self, app_values: Collection[Index], added: Program) -> Collection[Index]:
        """Leave out what belongs to templates, which outlive the part that has brought them."""
        of_templates = {index for template in added.templates for index in _app_values_of(template)}
        # The run had their templates already, and these refer to values that came before.
        unused = [index for index in app_values if index in of_templates and not self._referring[index]]
        self._removed.app_values.extend(unused)
        return [index for index in app_values if index not in of_templates]

    def remove(self, indices: Sequence[Index]) -> Removed:
        """Remove functions."""
        gone, self._removed = self._removed, Removed()
        plan = self._plan
        ids, index_of, args, producers = plan.ids, plan.index_of, plan.args, plan.producers
        for index in indices:
            index_of.pop(ids[index], None)
            ids[index] = None
            args[index] = producers[index] = ()
        discard_all(indices, self.fingerprints, plan.max_retries, plan.retry_backoff, plan.parent_of)
        self._program.foreign.forget(indices)
        for index in sorted(plan.hook_of.keys() & set(indices)) if plan.hook_of else ():
            self._remove_hook(index)
        part_of = self._part_of
        for index in indices:
            part = part_of.pop(index)
            part.left -= 1
            if part.left == 0:
                self._remove_part(part, gone)
        self._indices.give_back(indices)
        return gone

    def _remove_hook(self, index: Index) -> None:
        self._plan.hooks.remove(self._plan.hook_of.pop(index))

    def _remove_part(self, part: ProgramPart, gone: Removed) -> None:
        for number in part.constants:
            self._program.constants[number] = b""
        for number in part.values:
            self._program.values[number] = b""
        for number in part.groups:
            self._plan.groups[number] = ()
        self._constants.give_back(part.constants)
        self._values.give_back(part.values)
        self._groups.give_back(part.groups)
        gone.app_values.extend(part.app_values)
        for index in part.app_values:
            self._program.foreign.remove(index)
        self._leave_templates(part.templates, gone)

    def _leave_templates(self, numbers: Iterable[int], gone: Removed) -> None:
        for number in numbers:
            self._users[number] -= 1
            if self._users[number] == 0:
                template = self._program.templates[number]
                self._idle[number] = len(template.code)
                self._idle_nbytes += len(template.code)
                if _is_of_one_part(template):
                    self._remove_template(number, gone)
        while len(self._idle) > MOST_IDLE_TEMPLATES or self._has_large_idle_templates():
            self._remove_template(next(iter(self._idle)), gone)

    def _has_large_idle_templates(self) -> bool:
        if self._idle_nbytes <= MOST_IDLE_NBYTES:
            return False
        # The next call most often has the code of the last one.
        return self._idle_nbytes - next(reversed(self._idle.values())) > MOST_IDLE_NBYTES

    def _remove_template(self, number: int, gone: Removed) -> None:
        self._idle_nbytes -= self._idle.pop(number)
        del self._users[number]
        template = self._program.templates[number]
        del self._number_of[_key(template, self._plan.templates[number])]
        gone.templates.append(number)
        for index in _app_values_of(template):
            self._referring[index] -= 1
            if self._referring[index] == 0:
                del self._referring[index]
                gone.app_values.append(index)
        # Its number is not given to another: nodes may still have attempts that they have not heard the end of.
        self._program.templates[number] = NO_TEMPLATE
        self._plan.templates[number] = NO_TEMPLATE_SPEC


class _Placing:
    """Puts the functions of one plan into the plan of a run."""

    def __init__(self, plan: Plan, added: Plan, outer: list[Index], part: ProgramPart) -> None:
        self._plan = plan
        self._added = added
        self._indices = part.indices
        self._outer = outer
        self._part = part

    def place_all(self, depth: int) -> None:
        plan, added, indices = self._plan, self._added, self._indices
        plan.size = max(plan.size, 1 + max(indices, default=-1))
        first, templates = depth * LEVELS_PER_DEPTH, self._part.templates
        # Column by column: in most parts most columns have nothing to be renumbered.
        put(plan.ids, indices, added.ids)
        put(plan.args, indices, [self._args(args) if args else () for args in added.args])
        put(plan.producers, indices, [self._results(each) if each else () for each in added.producers])
        put(
            plan.dependents,
            indices,
            [dict.fromkeys(self._results(each)) if each else {} for each in added.dependents],
        )
        put(plan.bottom_level, indices, [first + level for level in added.bottom_level])
        put(plan.priority, indices, added.priority)
        put(plan.template_of, indices, [templates[number] for number in added.template_of])
        put(plan.constants_of, indices, _placed(added.constants_of, self._part.constants))
        put(plan.node_of, indices, added.node_of)
        put(plan.group_of, indices, _placed(added.group_of, self._part.groups))
        for function_id, place in added.index_of.items():
            plan.index_of[function_id] = indices[place]
        self._place_few()
        if self._outer:
            self._link_outer()

    def _place_few(self) -> None:
        """Place what only some functions have."""
        plan, added, indices = self._plan, self._added, self._indices
        put(plan.groups, self._part.groups, map(self._results, added.groups))
        for index, most in added.max_retries.items():
            plan.max_retries[indices[index]] = most
        for index, backoff in added.retry_backoff.items():
            plan.retry_backoff[indices[index]] = backoff
        for hook in added.hooks:
            placed = Hook(*map(self._result, (hook.index, hook.producer, hook.consumer)))
            plan.hooks.append(placed)
            plan.hook_of[placed.index] = placed

    def _link_outer(self) -> None:
        outer = set(self._outer)
        for index in self._indices:
            for producer in self._plan.producers[index]:
                if producer in outer:
                    dependents_of(self._plan, producer)[index] = None

    def _result(self, index: Index) -> Index:
        return self._indices[index] if index < OUTER else self._outer[index - OUTER]

    def _results(self, indices: Collection[Index]) -> tuple[Index, ...]:
        return tuple(map(self._result, indices))

    def _constants(self, number: int) -> int:
        return number if number < 0 else self._part.constants[number]

    def _args(self, args: tuple[ArgSpec, ...]) -> tuple[ArgSpec, ...]:
        values = self._part.values
        return tuple([~values[~spec] if type(spec) is int and spec < 0 else self._arg(spec) for spec in args])

    def _arg(self, spec: ArgSpec) -> ArgSpec:
        if isinstance(spec, int):
            return self._result(spec)
        if isinstance(spec, CallSpec):
            template = self._part.templates[spec.template]
            return CallSpec(template, self._args(spec.args), self._constants(spec.constants))
        if isinstance(spec, NodeOf):
            return NodeOf(self._result(spec.index))
        return ListOf(self._result(spec.index))


def _placed(numbers: Sequence[int], placed: Sequence[int]) -> Sequence[int]:
    """Give the numbers in the run for those of a part; -1 stays: there is none."""
    return [placed[number] if number >= 0 else -1 for number in numbers] if placed else numbers


def _make_room(plan: Plan, size: int) -> None:
    """Make all columns of a plan so long."""
    more = size - plan.size
    if more <= 0:
        return
    plan.size = size
    plan.ids += [None] * more
    plan.args += [()] * more
    plan.producers += [()] * more
    plan.dependents += [()] * more
    for column in (plan.bottom_level, plan.priority, plan.template_of, plan.constants_of, plan.group_of):
        column.extend([0] * more)
    plan.node_of += [None] * more


def dependents_of(plan: Plan, index: Index) -> dict[Index, None]:
    """Return the dependents of a function in a form that can be changed."""
    dependents = plan.dependents[index]
    if not isinstance(dependents, dict):
        dependents = plan.dependents[index] = dict.fromkeys(dependents)
    return dependents


def _app_values_of(template: Template) -> list[Index]:
    """Return the indices of values that the app makes for nodes that lack a directory, or modules."""
    environment, modules = template.environment, template.modules
    found = [] if modules is None else [modules.definitions.index]
    return (
        found if environment is None or environment.package is None else [*found, environment.package.index]
    )


def _is_of_one_part(template: Template) -> bool:
    """True if no other part will have the template: a directory may have changed when it is used again."""
    return template.environment is not None and template.environment.package is not None


def _key(template: Template, spec: TemplateSpec) -> object:
    """Return a key that templates have in common if they differ in their numbers alone."""
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
        template.warm,
        template.sends_digests,
        spec.cache_s,
    )
