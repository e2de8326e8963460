"""The calls that run the workers of a stream's stages: code, and how its arguments are made from the values of an item."""

from collections.abc import Mapping
from functools import partial

from handoff_actors.graph.argument import Constant
from handoff_actors.graph.function import Function
from handoff_actors.graph.streams.stage_arguments import ResultOf, StageArg, StageArguments
from handoff_actors.graph.streams.stream_plan import StreamPlan, StreamVertex
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of
from handoff_actors.workers.stage_spec import (
    Code,
    FromProducer,
    Given,
    InlineCall,
    Recipe,
    StageSpec,
    call_by_name,
)

StageCall = tuple[StageSpec, tuple[object, ...], Mapping[str, object]]


def stage_call(plan: StreamPlan, vertex: int, lane: int) -> StageCall:
    """Return the arguments of the call that runs one worker of a stage: the stage, and its `extra_args` and `kwargs`.

    These may be, or hold, values of runs and objects of `per_worker`, and so have to be arguments of a function of a run.
    """
    arguments = plan.vertices[vertex].arguments
    return stage_spec(plan, vertex, lane), arguments.extra_args, arguments.kwargs


def stage_spec(plan: StreamPlan, vertex: int, lane: int) -> StageSpec:
    """Describe the work of one worker of a stage. Stages and workers of each are numbered from 0."""
    stage = plan.vertices[vertex]
    function = stage.function
    return StageSpec(
        stage=vertex,
        lane=lane,
        name=repr_of(function.id),
        code=_code_of(function, stage.arguments),
        args=_recipes(plan, stage),
        as_list=stage.arguments.as_list,
        init=function.init,
        finish=function.finish,
        close=function.close,
        is_batched=stage.is_batched,
        is_generator=stage.is_generator,
        concurrency=stage.concurrency,
        keys=tuple([key for number, _ in stage.consumers if (key := plan.vertices[number].function.key)]),
        retry_on=function.retry_on,
    )


def _recipes(plan: StreamPlan, stage: StreamVertex) -> tuple[Recipe, ...]:
    recipe_of: dict[FunctionId, Recipe] = {
        plan.vertices[producer].function.id: FromProducer(position)
        for position, producer in enumerate(stage.producers)
    }
    for inline_id in stage.inlines:
        inline, arguments = plan.inlines[inline_id]
        recipe_of[inline_id] = InlineCall(
            repr_of(inline_id),
            _code_of(inline, arguments),
            _args(arguments, recipe_of),
            arguments.extra_args,
            arguments.kwargs,
            arguments.as_list,
        )
    return _args(stage.arguments, recipe_of)


def _code_of(function: Function, arguments: StageArguments) -> Code:
    """Return what is called with the arguments by position."""
    assert function.code is not None, "only inputs have no code"
    if not arguments.names:
        return function.code
    has_state = function.init is not None
    first = has_state + len(arguments.args) - len(arguments.names)
    return partial(call_by_name, function.code, arguments.names, first)


def _args(arguments: StageArguments, recipe_of: Mapping[FunctionId, Recipe]) -> tuple[Recipe, ...]:
    return tuple([_recipe(arg, recipe_of) for arg in arguments.args])


def _recipe(arg: StageArg, recipe_of: Mapping[FunctionId, Recipe]) -> Recipe:
    if isinstance(arg, ResultOf):
        return recipe_of[arg.id]
    if isinstance(arg, Constant):
        return Given(arg.value)
    return InlineCall("a container", arg.filling, tuple([recipe_of[each] for each in arg.ids]))
