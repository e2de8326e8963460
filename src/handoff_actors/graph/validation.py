"""Check that functions make a DAG: none is missing, waits for itself, or is collocated with itself.

Everything is linear in functions and arguments, and nothing recurses: graphs may be as deep as they are large.
"""

from collections.abc import Collection, Mapping

from handoff_actors.errors import CycleError, InvalidFunctionError, MissingFunctionError
from handoff_actors.graph.argument import Collocated
from handoff_actors.graph.function import Function, conditions_of, producer_ids
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of


def dependency_order(
    functions: Mapping[FunctionId, Function], outer: Collection[FunctionId] = ()
) -> list[FunctionId]:
    """List every id after its producers, in the order of adding if that is such an order.

    Functions in `outer` are there already. Raises MissingFunctionError and CycleError.
    """
    place_of = {function_id: place for place, function_id in enumerate(functions)}
    is_ordered = True
    for place, function in enumerate(functions.values()):
        try:
            places = [place_of[arg] for arg in function.args]
            if function.when is not None:
                places += [place_of[condition] for condition in conditions_of(function)]
        except KeyError:
            inner = (producer_id for producer_id in producer_ids(function) if producer_id not in outer)
            places = [_place(function, producer_id, place_of) for producer_id in inner]
        for producer_place in places:
            if producer_place >= place:
                is_ordered = False
    return list(functions) if is_ordered else _sort(functions, outer)


def collocation_roots(functions: Mapping[FunctionId, Function]) -> dict[FunctionId, FunctionId]:
    """Map every collocated function to the one at the end of its chain, which is placed for all of them.

    Raises MissingFunctionError and InvalidFunctionError.
    """
    roots: dict[FunctionId, FunctionId] = {}
    for function in [function for function in functions.values() if isinstance(function.node, Collocated)]:
        path: dict[FunctionId, None] = {}
        member = function
        while isinstance(member.node, Collocated) and member.id not in roots:
            if member.id in path:
                chain = " -> ".join(map(repr, [*path, member.id]))
                raise InvalidFunctionError(member.id, f"is collocated with itself: {chain}")
            path[member.id] = None
            member = _partner(member, member.node, functions)
        roots.update(dict.fromkeys(path, roots.get(member.id, member.id)))
    return roots


def _place(function: Function, producer_id: FunctionId, place_of: Mapping[FunctionId, int]) -> int:
    if producer_id not in place_of:
        raise MissingFunctionError(function.id, producer_id)
    return place_of[producer_id]


def _partner(member: Function, place: Collocated, functions: Mapping[FunctionId, Function]) -> Function:
    partner = functions.get(place.id)
    if partner is None:
        raise MissingFunctionError(member.id, place.id, "is collocated with")
    if partner.type != "regular":
        reason = (
            f"is collocated with {repr_of(place.id)}, which is {partner.type} and so has no node of its own"
        )
        raise InvalidFunctionError(member.id, reason)
    return partner


def _sort(functions: Mapping[FunctionId, Function], outer: Collection[FunctionId]) -> list[FunctionId]:
    unmet: dict[FunctionId, int] = {}
    consumers: dict[FunctionId, list[FunctionId]] = {function_id: [] for function_id in functions}
    for function in functions.values():
        producers = dict.fromkeys(
            producer_id for producer_id in producer_ids(function) if producer_id not in outer
        )
        unmet[function.id] = len(producers)
        for producer_id in producers:
            consumers[producer_id].append(function.id)
    order = [function_id for function_id, count in unmet.items() if count == 0]
    # The list grows while it is read: it is the queue as well as the outcome.
    for function_id in order:
        for consumer_id in consumers[function_id]:
            unmet[consumer_id] -= 1
            if unmet[consumer_id] == 0:
                order.append(consumer_id)
    if len(order) < len(functions):
        raise CycleError(_find_cycle(functions, unmet))
    return order


def _find_cycle(
    functions: Mapping[FunctionId, Function], unmet: Mapping[FunctionId, int]
) -> list[FunctionId]:
    """Follow producers that never became ready, starting at any such function, until one repeats."""
    current = next(function_id for function_id, count in unmet.items() if count)
    place_in_path: dict[FunctionId, int] = {}
    while current not in place_in_path:
        place_in_path[current] = len(place_in_path)
        current = next(producer for producer in producer_ids(functions[current]) if unmet.get(producer))
    cycle = list(place_in_path)[place_in_path[current] :]
    members = set(cycle)
    added_first = next(function_id for function_id in functions if function_id in members)
    start = cycle.index(added_first)
    return [*cycle[start:], *cycle[:start], added_first]
