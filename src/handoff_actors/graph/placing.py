"""Find results anywhere among the arguments of a function, and leave a placeholder for each.

`dag.call(f, [a, 1], key=b)` takes two results, which arrive at a worker one after the other, as those of `args` do. The
placeholders say where they belong: the worker puts the results in their place while it unpickles the other arguments.
"""

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from itertools import islice
from operator import is_not
from typing import Final

from msgspec import Struct

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.argument import MOST_SEARCHED, Argument, Constant, Handle, PerWorker, RunValue
from handoff_actors.graph.containers import PLAIN, Container, container_of
from handoff_actors.ids import FunctionId
from handoff_actors.text import type_name_of

#: Results are placed at most so deep; Python's own stack holds 1,000 frames.
MOST_NESTED: Final = 100


class Placeholder(Struct, frozen=True, eq=False):
    """Stands for the result that comes at this position of the function's args."""

    position: int


class Skeleton(Struct, frozen=True, eq=False):
    """The arguments of a call, with a `Placeholder` for each of the function's args."""

    #: Those before `extra_args`.
    args: tuple[object, ...]
    #: Those besides `kwargs`.
    kwargs: dict[str, object]


def holds_result(values: Collection[object]) -> bool:
    """True if a handle, or an Argument, is found within these values; few of very many are looked at."""
    # Nearly all values are plain, or flat and plain, and each function that is added has some.
    doubtful = [value for value in values if not is_flat(value)]
    return bool(doubtful) and _is_found_in(doubtful)


def is_flat(value: object) -> bool:
    """True if a value is plain, or a list of plain ones, so that it certainly holds no handle."""
    if type(value) in PLAIN:
        return True
    # Types first: large lists of numbers are searched at the speed of C.
    return type(value) is list and len(value) <= MOST_SEARCHED and PLAIN.issuperset(map(type, value))


def is_plain(arg: FunctionId) -> bool:
    """True if one of a function's args certainly is, and holds, no handle."""
    return type(arg) in PLAIN or (type(arg) is Constant and is_flat(arg.value))


def _is_found_in(values: Collection[object]) -> bool:
    pending = [values]
    entered: set[int] = set()
    left = MOST_SEARCHED
    # The list grows while it is read.
    for members in pending:
        if left <= 0:
            break
        kinds = set(map(type, members if len(members) <= left else islice(members, left))) - PLAIN
        if any(map(is_result, kinds)):
            return True
        containers = {kind: container for kind in kinds if (container := container_of(kind)) is not None}
        for member in islice(members, left) if containers else ():
            container = containers.get(type(member))
            if container is not None and id(member) not in entered:
                entered.add(id(member))
                pending += [container.members(member), container.fixed(member)]
        left -= len(members)
    return False


@lru_cache(1024)
def is_result(kind: type) -> bool:
    """True if values of this type stand for results, or for objects that workers make."""
    return issubclass(kind, Handle | Argument | PerWorker | RunValue)


def results_among(function_id: FunctionId, values: list[object]) -> list[object]:
    """List what stands for results within values, as it is found there. Raises InvalidFunctionError as `Placing` does."""
    placing = Placing(function_id, lambda _, result: result)
    placing.value(values)
    return placing.args


class Placing:
    """Puts placeholders in the place of results, for one function."""

    def __init__(
        self,
        function_id: FunctionId,
        id_for: Callable[[FunctionId, FunctionId], FunctionId],
        args: Iterable[FunctionId] = (),
    ) -> None:
        """`id_for` turns handles into ids; `args` have their places already."""
        self._function_id = function_id
        self._id_for = id_for
        #: The args of the function, by the positions of placeholders.
        self.args: list[FunctionId] = list(args)
        self._results: dict[FunctionId, Placeholder] = {}
        #: Copies by the id of the original, which is its own copy where it holds no results; None while it is being copied.
        self._copies: dict[int, object] = {}
        self._originals: list[object] = []
        self._within_themselves: set[int] = set()

    def arg(self, arg: FunctionId) -> object:
        """Return what is to be passed for one of a function's args, which is an id, an Argument, or a constant."""
        value = arg.value if isinstance(arg, Constant) else arg
        placed = self.value(value)
        if placed is not value:
            return placed
        # A constant by itself stays one, which functions may share.
        return self._place(arg) if isinstance(arg, Constant) else self._place_once(arg)

    def value(self, value: object, depth: int = 0) -> object:
        """Return a value with placeholders in it; itself if it holds no results."""
        kind: type = type(value)
        if kind in PLAIN:
            return value
        if is_result(kind):
            return self._result(value)
        container = container_of(kind)
        if container is None:
            return value
        if id(value) not in self._copies:
            # Keeps it alive, and so its id its own.
            self._originals.append(value)
            self._copies[id(value)] = None
            self._copies[id(value)] = self._copy(value, container, depth)
        elif self._copies[id(value)] is None:
            self._within_themselves.add(id(value))
            return value
        return self._copies[id(value)]

    def _copy(self, value: object, container: Container, depth: int) -> object:
        self._check_fixed(value, container)
        if depth == MOST_NESTED:
            return self._without_results(value)
        members = container.members(value)
        if PLAIN.issuperset(map(type, members)):
            return value
        placed = [self.value(member, depth + 1) for member in members]
        if not any(map(is_not, placed, members)):
            return value
        if id(value) in self._within_themselves:
            raise InvalidFunctionError(
                self._function_id,
                f"a {type_name_of(value)} among its arguments contains itself, and a handle: results can't be put into it",
            )
        return container.copy(value, placed)

    def _result(self, result: object) -> Placeholder:
        function_id = self._id_for(self._function_id, result)
        if isinstance(function_id, Argument | Constant):
            return self._place(function_id)
        return self._place_once(function_id)

    def _place_once(self, function_id: FunctionId) -> Placeholder:
        if function_id not in self._results:
            self._results[function_id] = self._place(function_id)
        return self._results[function_id]

    def _place(self, arg: FunctionId) -> Placeholder:
        self.args.append(arg)
        return Placeholder(len(self.args) - 1)

    def _check_fixed(self, value: object, container: Container) -> None:
        if holds_result(container.fixed(value)):
            kind = "dict" if isinstance(value, dict) else "set"
            raise InvalidFunctionError(
                self._function_id,
                f"a handle can't be {'a key' if kind == 'dict' else 'in a set'}, as its result is unknown until the run:"
                f" pass a list, and make the {kind} of it within the function",
            )

    def _without_results(self, value: object) -> object:
        if holds_result([value]):
            reason = f"a handle among its arguments is nested deeper than {MOST_NESTED} containers; pass it less deep"
            raise InvalidFunctionError(self._function_id, reason)
        return value
