"""The program of a graph that a function has returned, made of what its worker has encoded."""

from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from handoff_actors.core.run.facts.parted_values import PartedValues
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.python_affinity import NO_AFFINITY, PythonAffinity
from handoff_actors.errors import RemoteProtocolError
from handoff_actors.graph.environment import Environment
from handoff_actors.graph.naming import CodeName
from handoff_actors.graph.plan import (
    OUTER,
    ArgSpec,
    CallSpec,
    ListOf,
    NodeOf,
    Plan,
    TemplateSpec,
    group_numbers,
)
from handoff_actors.graph.spec import WarmSpec
from handoff_actors.ids import FunctionId, Index
from handoff_actors.lru import LruCache
from handoff_actors.wire.messages.jobs import (
    PARTS,
    Expansion,
    GrownTemplate,
    Ref,
    Template,
    TemplateEnvironment,
    WarmObject,
)
from handoff_actors.wire.warm_key import warm_key

#: Templates that are known by their keys alone: a worker sends the code of each once.
_TEMPLATES_KEPT: Final = 10_000
#: Characters of an id that is made of those of all functions around it, and of its beginning and its digest where it is longer.
_MOST_OF_ID: Final = 160
_HEAD_OF_ID: Final = 60


class UnknownTemplate(Exception):
    """A worker refers to a template whose code it has sent before, and that did not arrive or is forgotten."""


class Parent(Struct, frozen=True):
    """The function that has returned a graph."""

    id: FunctionId
    template: Template
    priority: int
    #: How often its index has been that of a function with a graph as its result, this time included.
    step: int


class ExpandedPrograms:
    """Makes programs of the graphs that functions of one run return."""

    def __init__(self, parted: PartedValues) -> None:
        self._parted = parted
        #: By key, as workers have sent them.
        self._sent: LruCache[bytes, Template] = LruCache(_TEMPLATES_KEPT)
        #: By key, and by what they have in common with their parent's.
        self._made: LruCache[tuple[object, ...], Template] = LruCache(_TEMPLATES_KEPT)

    def make(
        self, expansion: Expansion, templates: Sequence[Template], plan: Plan
    ) -> tuple[Program, list[Index]]:
        """Make the program of its plan. Returns it with the functions of the run that it takes parts of, its outer ones.

        Raises RemoteProtocolError.
        """
        producers, outer = self._with_owners(expansion)
        affinity = NO_AFFINITY
        if expansion.python:
            native = expansion.native_templates, expansion.native_constants, expansion.native_values
            affinity = PythonAffinity(expansion.python, *map(frozenset, native))
        plan.producers = producers
        return Program(plan, [*templates], [*expansion.constants], expansion.values, affinity), outer

    def parts_of(self, expansion: Expansion) -> dict[int, tuple[Index, int]]:
        """Return the parts of other results among the values, by number: the function of each, and its place there."""
        if not _has_ref(expansion.values):
            return {}
        refs = [(number, value) for number, value in enumerate(expansion.values) if isinstance(value, Ref)]
        places = {number: self._parted.place_of(ref.index) for number, ref in refs}
        return {number: place for number, place in places.items() if place is not None}

    def templates_of(self, expansion: Expansion, parent: Parent) -> list[Template]:
        """Return the templates of a graph. Raises UnknownTemplate."""
        surroundings = _surroundings(parent.template)
        found: list[Template] = []
        for number, grown in enumerate(expansion.templates):
            if grown.template is not None and grown.key not in self._sent:
                self._sent.put(grown.key, grown.template)
            sent = self._sent.get(grown.key)
            if sent is None:
                raise UnknownTemplate
            template = self._made.get((grown.key, surroundings))
            if template is None:
                template = _within(sent, parent.template)
                self._made.put((grown.key, surroundings), template)
            found.append(replace(template, number=number))
        return found

    def _with_owners(self, expansion: Expansion) -> tuple[list[tuple[Index, ...]], list[Index]]:
        """Give the producers, with the functions whose parts are among the arguments, and list the latter."""
        if not _has_ref(expansion.values) and not _has_ref(expansion.constants):
            return expansion.producers, []
        outer: dict[Index, int] = {}
        producers: list[tuple[Index, ...]] = []
        for index, taken in enumerate(expansion.producers):
            refs = _refs_of(expansion, expansion.args[index], expansion.constants_of[index])
            owners = dict.fromkeys(self._owner(ref) for ref in refs)
            numbers = [outer.setdefault(owner, OUTER + len(outer)) for owner in owners]
            producers.append((*taken, *numbers))
        return producers, list(outer)

    def _owner(self, ref: Ref) -> Index:
        found = self._parted.find(ref.index)
        if found is None:
            raise RemoteProtocolError(f"a graph refers to a stored value that is unknown: {ref}")
        return found[0]


def child_id(parent: FunctionId, step: int, number: int | str) -> FunctionId:
    """Return the id of a function that another one has added."""
    if not isinstance(parent, str):
        return (parent, number) if step == 1 else (parent, step, number)
    name = f"{parent}/{number}" if step == 1 else f"{parent}/{step}.{number}"
    if len(name) <= _MOST_OF_ID:
        return name
    digest = blake2b(parent.encode(errors="surrogatepass"), digest_size=12).hexdigest()
    return f"{parent[:_HEAD_OF_ID]}~{digest}{name[len(parent) :]}"


def owner_id(parent: Parent) -> FunctionId:
    """Return the id of the copy of a function to which its parts belong."""
    return child_id(parent.id, parent.step, "parts")


def check_expansion(expansion: Expansion) -> None:
    """Raise RemoteProtocolError for a graph whose numbers lead nowhere."""
    size = len(expansion.producers)
    by_index = (
        expansion.args,
        expansion.dependents,
        expansion.bottom_level,
        expansion.template_of,
        expansion.constants_of,
    )
    few: tuple[Collection[Index], ...] = (expansion.priority, expansion.node_of, expansion.max_retries)
    is_sound = (
        all(len(each) == size for each in by_index)
        and 0 <= expansion.result < size
        and _are_within(size, expansion.producers)
        and _are_within(size, expansion.dependents)
        and _are_within(size, (*few, expansion.retry_backoff, *expansion.groups))
        and all(max(hook.index, hook.producer, hook.consumer) < size for hook in expansion.hooks)
        and max(expansion.template_of, default=0) < len(expansion.templates)
        and min(expansion.constants_of, default=-1) >= -1
        and max(expansion.constants_of, default=-1) < len(expansion.constants)
        and all(_is_arg(spec, expansion, size) for args in expansion.args for spec in args)
        and _has_all_digests(expansion)
    )
    if not is_sound:
        raise RemoteProtocolError("a worker has sent a graph whose numbers lead nowhere")


def _has_all_digests(expansion: Expansion) -> bool:
    digests = expansion.digests
    return digests is None or (
        len(digests.templates) == len(expansion.templates)
        and len(digests.constants) == len(expansion.constants)
        and len(digests.values) == len(expansion.values)
    )


def _are_within(size: int, groups: Iterable[Collection[int]]) -> bool:
    return all(min(group) >= 0 and max(group) < size for group in groups if group)


def _is_arg(spec: ArgSpec, expansion: Expansion, size: int) -> bool:
    if isinstance(spec, int):
        return -len(expansion.values) <= spec < size
    if isinstance(spec, NodeOf | ListOf):
        return 0 <= spec.index < size
    return (
        0 <= spec.template < len(expansion.templates)
        and -1 <= spec.constants < len(expansion.constants)
        and all(_is_arg(inner, expansion, size) for inner in spec.args)
    )


def _has_ref(encoded: Sequence[bytes | Ref]) -> bool:
    return Ref in map(type, encoded)


def _refs_of(expansion: Expansion, args: Sequence[ArgSpec], constants: int) -> list[Ref]:
    found = [] if constants < 0 else [expansion.constants[constants]]
    refs: list[Ref] = []
    for spec in args:
        if isinstance(spec, CallSpec):
            refs += _refs_of(expansion, spec.args, spec.constants)
        elif isinstance(spec, int) and spec < 0:
            found.append(expansion.values[~spec])
    return [*refs, *(part for part in found if isinstance(part, Ref) and part.index >= PARTS)]


def plan_of(expansion: Expansion, templates: Sequence[Template], parent: Parent) -> Plan:
    """Make the plan of a graph, as yet without the functions of the run that it takes parts of."""
    size = len(expansion.producers)
    ids: list[FunctionId] = [child_id(parent.id, parent.step, number) for number in range(size)]
    ids[expansion.result] = parent.id
    regular = size - len(expansion.hooks)
    return Plan(
        dag_id=parent.id,
        ids=ids,
        index_of={function_id: index for index, function_id in enumerate(ids[:regular])},
        size=size,
        args=expansion.args,
        producers=expansion.producers,
        dependents=expansion.dependents,
        bottom_level=expansion.bottom_level,
        priority=[parent.priority + expansion.priority.get(index, 0) for index in range(size)],
        template_of=expansion.template_of,
        templates=[
            _spec_of(template, grown) for template, grown in zip(templates, expansion.templates, strict=True)
        ],
        constants_of=expansion.constants_of,
        constants=[],
        placed=set(),
        values=[],
        node_of=[expansion.node_of.get(index) for index in range(size)],
        group_of=group_numbers(expansion.groups, size),
        groups=expansion.groups,
        max_retries=expansion.max_retries,
        retry_backoff=expansion.retry_backoff,
        sinks=[],
        hooks=expansion.hooks,
        hook_of={hook.index: hook for hook in expansion.hooks},
    )


def _spec_of(template: Template, grown: GrownTemplate) -> TemplateSpec:
    return TemplateSpec(
        CodeName(grown.name),
        template.is_async,
        template.as_list,
        template.cost,
        template.timeout,
        None if template.environment is None else Environment(),
        placed_from=template.placed_from,
        run_if=template.run_if,
        conditions=template.conditions,
        cache_s=grown.cache_s,
        warm=None if template.warm is None else WarmSpec(template.warm.name, template.warm.idle_s, (), {}),
    )


def _surroundings(template: Template) -> tuple[object, ...]:
    """Return what functions have in common with the one that has added them."""
    environment, modules = template.environment, template.modules
    variables = () if environment is None else (*sorted(environment.variables.items()), environment.directory)
    sends = template.log_level, template.sends_values, template.sends_progress, template.sends_digests
    return template.session, *sends, variables, modules and modules.key, template.retry_on


def _within(template: Template, parent: Template) -> Template:
    """Give a template what it has in common with its parent's: session, modules, environment, and the rule for retries."""
    own, outer, modules = template.environment, parent.environment, parent.modules
    environment = own or outer
    if own is not None and outer is not None:
        directory = own.directory or outer.directory
        package = outer.package if directory == outer.directory else None
        environment = TemplateEnvironment({**outer.variables, **own.variables}, directory, package)
    parts = [template.digest]
    if not template.by_reference:
        parts.append(parent.session.encode())
    if modules is not None:
        parts += (parent.session.encode(), modules.key)
    if environment is not None and environment.directory:
        # Whatever tells the directories of two runs apart is in the parent's.
        parts += (environment.directory, parent.digest)
    digest = template.digest
    if len(parts) > 1:
        digest = blake2b(b"\0".join(parts), digest_size=16, person=b"within").digest()
    return replace(
        template,
        digest=digest,
        log_level=parent.log_level,
        environment=environment,
        session=parent.session,
        modules=modules,
        retry_on=template.retry_on or parent.retry_on,
        sends_values=parent.sends_values,
        sends_progress=parent.sends_progress,
        sends_digests=parent.sends_digests,
        warm=_warm_within(template, parent, environment),
    )


def _warm_within(
    template: Template, parent: Template, environment: TemplateEnvironment | None
) -> WarmObject | None:
    warm = template.warm
    return warm and replace(warm, key=warm_key(parent.session, warm.key, environment, template.cost))
