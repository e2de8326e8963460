"""The code of a stage with its state: how it is called, and what its results must be."""

from collections.abc import Mapping, Sequence
from typing import Any

from handoff_actors.skip import SKIP
from handoff_actors.text import repr_of
from handoff_actors.wire.messages.stage_rows import OutcomeRow, ValueRow
from handoff_actors.workers.child.evaluation import UserRaised
from handoff_actors.workers.child.stage.answers import Answers
from handoff_actors.workers.child.stage.arguments import Arguments, AsyncCaller, Caller
from handoff_actors.workers.child.stage.channel import StageChannel
from handoff_actors.workers.child.stage.results import StageResults
from handoff_actors.workers.stage_spec import StageSpec

#: A result as a row, and the hashes of its keys.
CodeOutcome = tuple[OutcomeRow, Sequence[int]]


class StageCode:
    """The code and the state of one lane. Nothing here calls the code: its lane does, and may await what it gives."""

    def __init__(
        self,
        spec: StageSpec,
        state: Any,
        extra_args: Sequence[Any],
        kwargs: Mapping[str, Any],
        channel: StageChannel,
    ) -> None:
        self.spec = spec
        self.state = state
        self.has_state = spec.init is not None
        self._extra_args = extra_args
        self.kwargs = kwargs
        self._takes_values_alone = not (self.has_state or spec.as_list or extra_args)
        self.results = StageResults(spec, channel)
        self.answers = Answers(channel, self.results)
        self._arguments = Arguments(spec.args, channel)

    @property
    def takes_value_alone(self) -> bool:
        """True if the code is called with the value of an item, its keywords, and nothing else, and gives just its result."""
        return self._takes_values_alone and self._arguments.is_one_value and not self.spec.keys

    # --- Calls --------------------------------------------------------------------------------------------------

    def args(self, values: Sequence[ValueRow], call: Caller) -> list[Any]:
        """Give the arguments of an item. Raises as `Arguments.of`."""
        return self._arguments.of(values, call)

    async def awaited_args(self, values: Sequence[ValueRow], call: AsyncCaller) -> list[Any]:
        """Do the same where inline functions may be coroutine functions."""
        return await self._arguments.awaited(values, call)

    def positional(self, args: list[Any]) -> Sequence[Any]:
        """Give all that the code is called with for one item, but for keywords."""
        if self._takes_values_alone:
            return args
        given = [args] if self.spec.as_list else args
        return [self.state, *given, *self._extra_args] if self.has_state else [*given, *self._extra_args]

    def positional_of_batch(self, items: list[tuple[Any, ...]]) -> Sequence[Any]:
        """Give all that the code is called with for a batch, but for keywords."""
        return [self.state, items, *self._extra_args] if self.has_state else [items, *self._extra_args]

    # --- What it gives ------------------------------------------------------------------------------------------

    def outcome(self, returned: Any) -> CodeOutcome:
        """Take what the code has returned for an item. Raises UserRaised, SerializationError, StoreFailed."""
        if not self.has_state:
            return self.row(returned)
        result, state = self._split(returned)
        # An item that fails after all has not changed the state, and may be tried again.
        outcome = self.row(result)
        self.keep(state)
        return outcome

    def outcomes(self, returned: Any, count: int) -> list[CodeOutcome]:
        """Take what the code has returned for a batch of so many items. Raises UserRaised."""
        results, state = self._split(returned) if self.has_state else (returned, None)
        if not isinstance(results, list) or len(results) != count:
            given = f"one of {len(results)}" if isinstance(results, list) else repr_of(results)
            raise self._refusal(
                f"it was given a list of {count} items, so it must return a list of {count}, not {given}"
            )
        outcomes = [self._row_or_failure(result) for result in results]
        if self.has_state:
            self.keep(state)
        return outcomes

    def row(self, result: Any) -> CodeOutcome:
        """Give a result as a row. Raises UserRaised, SerializationError, StoreFailed."""
        if result is SKIP:
            return None, ()
        value = self.results.value(result)
        return value, self.results.keys(result) if self.spec.keys else ()

    def keep(self, state: Any) -> None:
        """Give the code this state from now on."""
        if state is not self.state:
            self.state = state
            self.answers.has_replaced_state = True

    def _row_or_failure(self, result: Any) -> CodeOutcome:
        try:
            return self.row(result)
        except BaseException as error:  # noqa: BLE001 - whatever an item ends with, the stage goes on
            return self.results.failure(error), ()

    def _split(self, returned: Any) -> tuple[Any, Any]:
        if isinstance(returned, tuple) and len(returned) == 2:  # noqa: PLR2004 - a pair
            result, state = returned
            return result, state
        raise self._refusal(f"it has init, so it must return (result, state), not {repr_of(returned)}")

    def _refusal(self, reason: str) -> UserRaised:
        return UserRaised(TypeError(f"stage {self.spec.name}: {reason}"))


def is_iterated(produced: Any) -> bool:
    """True if what `finish` has returned are several results, and not one."""
    return isinstance(produced, list) or hasattr(type(produced), "__next__")
