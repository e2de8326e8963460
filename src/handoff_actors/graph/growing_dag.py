"""A DAG whose functions go to a run while further ones are added."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice

from handoff_actors.graph.argument import Argument, Collocated, Constant, PerWorker
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.function import Function, conditions_of, producer_ids
from handoff_actors.ids import FunctionId


class GrowingDAG(DAG):
    """A DAG whose functions are taken off it, the oldest first. Handles of functions that were taken stay arguments."""

    def take(self, most: int) -> dict[FunctionId, Function]:
        """Take functions off the DAG, up to so many, in the order of adding."""
        if len(self._functions) <= most:
            taken, self._functions = self._functions, {}
            return taken
        ids = list(islice(self._functions, most))
        return {function_id: self._functions.pop(function_id) for function_id in ids}

    def fresh_id(self, name: str, is_taken: Callable[[FunctionId], bool]) -> str:
        """Return an id that begins with a name, that no function here has, none was given before, and that is not taken."""
        while is_taken(fresh := self._fresh_name(name)):
            pass
        return fresh

    def remove(self, function_id: FunctionId) -> None:
        """Take back a function that was added."""
        del self._functions[function_id]


def renamed(functions: Mapping[FunctionId, Function], number: int) -> dict[FunctionId, Function]:
    """Give the functions of a valid graph other ids, made from their own and a number."""
    new = {own: f"{own}@{number}" if isinstance(own, str) else (own, number) for own in functions}

    def renamed_arg(arg: FunctionId) -> FunctionId:
        if isinstance(arg, Argument):
            return replace(arg, id=new[arg.id])
        return arg if isinstance(arg, Constant | PerWorker) else new[arg]

    def renamed_function(function: Function) -> Function:
        node = function.node
        if isinstance(node, Collocated):
            node = Collocated(new[node.id])
        args = tuple(map(renamed_arg, function.args))
        when: list[FunctionId] = [renamed_arg(condition) for condition in conditions_of(function)]
        return replace(function, id=new[function.id], args=args, node=node, when=when or None)

    return {new[own]: renamed_function(function) for own, function in functions.items()}


def outer_ids(functions: dict[FunctionId, Function]) -> list[FunctionId]:
    """List the functions whose results these take and that are not among them."""
    found: dict[FunctionId, None] = {}
    for function in functions.values():
        for producer_id in producer_ids(function):
            if producer_id not in functions:
                found[producer_id] = None
    return list(found)
