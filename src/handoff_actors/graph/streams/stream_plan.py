"""The plan of a stream: its inputs and stages in order, who takes from whom, and what its results are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from msgspec import Struct, field

from handoff_actors.errors import DagError
from handoff_actors.graph.checks import is_async_generator_code, is_coroutine_code, is_generator_code
from handoff_actors.graph.fold import check_inline_sizes
from handoff_actors.graph.function import Function
from handoff_actors.graph.streams.stage_arguments import StageArguments, arguments_of
from handoff_actors.graph.streams.stage_checks import check_stage_code, check_stage_function, is_batched
from handoff_actors.graph.streams.stream_checks import check_finishes, generators_before
from handoff_actors.graph.validation import dependency_order
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of

if TYPE_CHECKING:
    from handoff_actors.graph.dag import DAG


class StreamVertex(Struct, eq=False):
    """An input, or a stage: a regular function of the graph. Inline functions are part of the stages that take from them."""

    number: int
    function: Function
    #: Vertices whose values it takes, each once, in the order of first use, also through inline functions.
    producers: tuple[int, ...] = ()
    #: Vertices that take from it, each with the position of this one among its producers.
    consumers: list[tuple[int, int]] = field(default_factory=list)
    #: The number of generators before it: its items have numbers of one part more each.
    depth: int = 0
    is_generator: bool = False
    is_async: bool = False
    arguments: StageArguments = field(default_factory=StageArguments)
    #: Inline functions behind its arguments, each after those whose results it takes.
    inlines: Sequence[FunctionId] = ()

    @property
    def is_input(self) -> bool:
        """True for what is pushed."""
        return self.function.type == "input"

    @property
    def is_batched(self) -> bool:
        """True if its code gets a list of items."""
        return is_batched(self.function)

    @property
    def concurrency(self) -> int:
        """The number of items that one worker has at once. A coroutine function has only one worker, with all of them."""
        if self.is_generator or not self.is_async:
            return 1
        given = self.function.parallelism
        return int(given[1] if isinstance(given, tuple) else given)


class StreamPlan(Struct, eq=False):
    """A stream's graph. Vertices are numbered so that producers come before consumers; inputs come first."""

    dag_id: FunctionId
    vertices: Sequence[StreamVertex]
    inputs: Sequence[int]
    #: Vertices that nothing takes from, which give the results.
    sinks: Sequence[int]
    #: Inline functions by id, with their arguments.
    inlines: Mapping[FunctionId, tuple[Function, StageArguments]] = field(default_factory=dict)

    @classmethod
    def compile(cls, dag: "DAG") -> Self:
        """Validate and compile. Raises DagError, also for what has a place only in a run."""
        dag.validate()
        functions = dag.functions
        for function in functions.values():
            check_stage_function(function)
        order = [functions[function_id] for function_id in dependency_order(functions)]
        inlines = {each.id: (each, arguments_of(each)) for each in order if each.type == "inline"}
        check_inline_sizes([each for each, _ in inlines.values()])
        inputs = [function for function in order if function.type == "input"]
        stages = [function for function in order if function.type == "regular"]
        if not inputs and not stages:
            raise DagError(
                f'DAG {repr_of(dag.id)} has no input, so nothing could be pushed: dag.call(None, type="input")'
            )
        vertices = _vertices([*inputs, *stages], inlines)
        plan = cls(dag.id, vertices, range(len(inputs)), _sinks(vertices), inlines)
        _check_items(plan)
        return plan

    @property
    def ids(self) -> list[FunctionId]:
        """The ids of the vertices, by number."""
        return [vertex.function.id for vertex in self.vertices]


def _vertices(
    functions: Sequence[Function], inlines: Mapping[FunctionId, tuple[Function, StageArguments]]
) -> list[StreamVertex]:
    number_of = {function.id: number for number, function in enumerate(functions)}
    place_of = {inline_id: place for place, inline_id in enumerate(inlines)}
    vertices: list[StreamVertex] = []
    for number, function in enumerate(functions):
        vertex = StreamVertex(number, function)
        if function.type == "regular":
            vertex.arguments = arguments_of(function)
            taken = _taken_from(vertex.arguments, inlines)
            vertex.producers = tuple([number_of[each] for each in taken if each in number_of])
            vertex.inlines = sorted((each for each in taken if each in place_of), key=place_of.__getitem__)
            _set_kind(vertex)
            check_stage_code(function, vertex.arguments, [functions[each].id for each in vertex.producers])
        for position, producer in enumerate(vertex.producers):
            vertices[producer].consumers.append((number, position))
        vertices.append(vertex)
    return vertices


def _set_kind(vertex: StreamVertex) -> None:
    code = vertex.function.code
    assert code is not None, "only inputs have no code"
    vertex.is_generator = is_generator_code(code)
    vertex.is_async = is_coroutine_code(code) or is_async_generator_code(code)


def _taken_from(
    arguments: StageArguments, inlines: Mapping[FunctionId, tuple[Function, StageArguments]]
) -> list[FunctionId]:
    """List the functions behind these arguments, inline ones and those that they take from, each once, in the order of first use."""
    found: dict[FunctionId, None] = {}
    pending = arguments.ids[::-1]
    while pending:
        function_id = pending.pop()
        if function_id not in found:
            found[function_id] = None
            if function_id in inlines:
                pending += inlines[function_id][1].ids[::-1]
    return list(found)


def _sinks(vertices: Iterable[StreamVertex]) -> list[int]:
    return [vertex.number for vertex in vertices if not vertex.consumers]


def _check_items(plan: StreamPlan) -> None:
    """Check that the items of all joins can be matched, and set depths."""
    ids, producers = plan.ids, [vertex.producers for vertex in plan.vertices]
    generators = {vertex.number for vertex in plan.vertices if vertex.is_generator}
    for vertex, before in zip(
        plan.vertices, generators_before(ids, producers, plan.sinks, generators), strict=True
    ):
        vertex.depth = len(before)
    finishing = [vertex.number for vertex in plan.vertices if vertex.function.finish is not None]
    check_finishes(ids, producers, plan.sinks, finishing)
