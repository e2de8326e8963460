"""Two ways to the values of a DAG: straight from its functions, and by way of its plan."""

from collections.abc import Hashable, Mapping
from typing import Any

from handoff_actors.graph import DAG, ArgSpec, Argument, CallSpec, Constant, NodeOf, Plan
from handoff_actors.graph.placing import Placeholder, Skeleton
from handoff_actors.graph.spec import ListOf
from handoff_actors.wire.payload import decode_call, encode_call
from handoff_actors.wire.placeholders import position_of_placeholder

#: The node of each function, by id; inline functions run on the node of their consumer.
Nodes = Mapping[Hashable, str]


def values_of_dag(dag: DAG, nodes: Nodes) -> dict[Hashable, Any]:
    """Evaluate every regular function by recursion over the definitions."""

    def value(function_id: Hashable, node: str) -> Any:
        function = dag.functions[function_id]
        place = node if function.type == "inline" else nodes[function_id]
        taken = [argument(arg, place) for arg in function.args]
        assert function.code is not None
        inclusion = function.argument_inclusion
        if isinstance(inclusion, Skeleton):
            args, kwargs = filled(list(inclusion.args), taken), filled(inclusion.kwargs, taken)
            return function.code(*args, *function.extra_args, **kwargs, **function.kwargs)
        positional = [taken] if function.argument_inclusion == "as_list" else taken
        return function.code(*positional, *function.extra_args, **function.kwargs)

    def argument(arg: Hashable, target: str) -> Any:
        if isinstance(arg, Constant):
            return arg.value
        if not isinstance(arg, Argument):
            return value(arg, target)
        source = nodes.get(arg.id, target)
        taken = value(arg.id, target)
        for hook in (arg.serialize, arg.deserialize):
            taken = taken if hook is None else hook(taken, source, target)
        return taken

    return {
        function.id: value(function.id, "")
        for function in dag.functions.values()
        if function.type == "regular"
    }


def filled(value: Any, results: list[Any]) -> Any:
    """Put results in the place of placeholders, within lists and dicts."""
    if isinstance(value, Placeholder):
        return results[value.position]
    if isinstance(value, list):
        return [filled(member, results) for member in value]
    if isinstance(value, dict):
        return {key: filled(member, results) for key, member in value.items()}
    return value


def values_of_plan(plan: Plan, nodes: Nodes) -> dict[Hashable, Any]:
    """Evaluate every index once, as soon as nothing that it needs is missing."""
    results: dict[int, Any] = {}

    def resolve(spec: ArgSpec) -> Any:
        match spec:
            case NodeOf(index):
                return nodes[plan.ids[index]]
            case ListOf(index):
                return results[index]
            case CallSpec(template, args, constants):
                return call(template, args, constants)
            case _:
                return results[spec] if spec >= 0 else plan.values[~spec]

    def call(template: int, args: tuple[ArgSpec, ...], constants: int) -> Any:
        taken = [resolve(spec) for spec in args]
        extra_args, kwargs = plan.constants[constants] if constants >= 0 else ((), {})
        if constants in plan.placed:
            encoded = encode_call(extra_args, kwargs, position_of_placeholder).to_bytes()
            (extra_args, kwargs), taken = decode_call(encoded, taken[::-1]), []
        positional = [taken] if plan.templates[template].as_list else taken
        return plan.templates[template].code(*positional, *extra_args, **kwargs)

    for index in sorted(range(plan.size), key=plan.bottom_level.__getitem__, reverse=True):
        results[index] = call(plan.template_of[index], plan.args[index], plan.constants_of[index])
    assert len(results) == plan.size
    return {function_id: results[index] for function_id, index in plan.index_of.items()}
