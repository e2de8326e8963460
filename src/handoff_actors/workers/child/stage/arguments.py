"""The arguments of a stage's code for one item: values that came for it, constants, and what inline functions make of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from handoff_actors.skip import SKIP
from handoff_actors.wire.messages.stage_rows import ValueRow
from handoff_actors.wire.payload import decode
from handoff_actors.workers.child.stage.channel import StageChannel
from handoff_actors.workers.stage_spec import FromProducer, Given, InlineCall, Recipe

#: Calls user code with these arguments; what it raises is a UserRaised.
Caller = Callable[[Callable[..., Any], Sequence[Any], Mapping[str, Any]], Any]
AsyncCaller = Callable[[Callable[..., Any], Sequence[Any], Mapping[str, Any]], Awaitable[Any]]


class InlineSkipped(Exception):
    """An inline function has returned SKIP: the item ends without a value, and the code is not called."""


class Arguments:
    """Makes the arguments of one stage. An item's values are decoded once each."""

    def __init__(self, recipes: Sequence[Recipe], channel: StageChannel) -> None:
        self._recipes = recipes
        self._store = channel.store
        self._channel = channel
        #: Most stages take just what comes.
        self._are_plain = all(
            isinstance(recipe, FromProducer) and recipe.position == place
            for place, recipe in enumerate(recipes)
        )

    @property
    def is_one_value(self) -> bool:
        """True if the code gets just the one value that comes."""
        return self._are_plain and len(self._recipes) == 1

    def of(self, rows: Sequence[ValueRow], call: Caller) -> list[Any]:
        """Give the arguments for these values. Raises UserRaised, InlineSkipped, InputNotStored, SerializationError."""
        values = self._values(rows)
        if self._are_plain and len(values) == len(self._recipes):
            return values
        return [self._made(recipe, values, call) for recipe in self._recipes]

    async def awaited(self, rows: Sequence[ValueRow], call: AsyncCaller) -> list[Any]:
        """Do the same where inline functions may be coroutine functions."""
        values = self._values(rows)
        return [await self._awaited(recipe, values, call) for recipe in self._recipes]

    def _values(self, rows: Sequence[ValueRow]) -> list[Any]:
        run = self._channel.key[0]
        return [decode(row) if isinstance(row, bytes) else self._store.read(run, row[0]) for row in rows]

    def _made(self, recipe: Recipe, values: Sequence[Any], call: Caller) -> Any:
        if isinstance(recipe, FromProducer):
            return values[recipe.position]
        if isinstance(recipe, Given):
            return recipe.value
        return self._called(recipe, values, call)

    def _called(self, inline: InlineCall, values: Sequence[Any], call: Caller) -> Any:
        args: list[Any] = [self._made(recipe, values, call) for recipe in inline.args]
        return _taken(call(inline.code, _positional(inline, args), inline.kwargs))

    async def _awaited(self, recipe: Recipe, values: Sequence[Any], call: AsyncCaller) -> Any:
        if not isinstance(recipe, InlineCall):
            return values[recipe.position] if isinstance(recipe, FromProducer) else recipe.value
        args: list[Any] = [await self._awaited(inner, values, call) for inner in recipe.args]
        return _taken(await call(recipe.code, _positional(recipe, args), recipe.kwargs))


def _positional(inline: InlineCall, args: list[Any]) -> Sequence[Any]:
    return [*((args,) if inline.as_list else args), *inline.extra_args]


def _taken(result: Any) -> Any:
    if result is SKIP:
        raise InlineSkipped
    return result
