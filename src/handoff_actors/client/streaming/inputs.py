"""Encodes what is pushed into a stream."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from types import ModuleType
from typing import Any, Final

from handoff_actors.actors.app.own_modules import OWN_MODULES
from handoff_actors.errors import SerializationError
from handoff_actors.graph.argument import Handle
from handoff_actors.graph.function import Code
from handoff_actors.graph.streams.stream_plan import StreamPlan
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of
from handoff_actors.wire.code.by_value import is_sent_by_value, sent_by_value
from handoff_actors.wire.payload import encode
from handoff_actors.wire.pickling import pickled_small
from handoff_actors.workers.stage_keys import key_hash

#: Values of these types refer to no modules.
_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
#: Only this much of an item is searched for names of modules: the class of an object comes before what is in it.
_SEARCHED_NBYTES: Final = 2**16

#: For each input its encoded value, and the hash of its key for each stage that takes it by key.
EncodedItem = Sequence[tuple[bytes, Sequence[int]]]


class StreamInputs:
    """The inputs of one stream."""

    def __init__(
        self,
        plan: StreamPlan,
        by_value: Sequence[ModuleType],
        own_modules: set[str],
        modules_added: Callable[[], None],
    ) -> None:
        """`by_value`: modules that nodes may lack, and whose classes go with the items that are of them.

        `own_modules` are those that workers get when they start: where an item is of others, these are added, and
        `modules_added` is called before the item is pushed.
        """
        self._by_value = by_value
        self._own_modules = own_modules
        self._modules_added = modules_added
        #: Those that the workers have.
        self._known: set[str] = set()
        self._ids: list[FunctionId] = [plan.vertices[number].function.id for number in plan.inputs]
        self._keys = [_keys_of(plan, number) for number in plan.inputs]
        self._is_plain = len(self._ids) == 1 and not any(self._keys)

    def begin(self) -> None:
        """Take note that the workers have started."""
        self._know()

    def _know(self) -> None:
        modules = OWN_MODULES.set_of(self._own_modules)
        self._known = set() if modules is None else {*modules.sources}

    def _note_modules(self, encoded: bytes) -> None:
        """Have the workers get the own modules that an item refers to, as the arguments of functions of runs do."""
        if not OWN_MODULES.names():
            return
        used = OWN_MODULES.named_in(memoryview(encoded)[:_SEARCHED_NBYTES]) - self._known
        new = {name for name in used if not is_sent_by_value(name, among=self._by_value)}
        if new:
            self._own_modules |= new
            self._know()
            # Not once more for a name that turns out to be none.
            self._known |= new
            self._modules_added()

    def encode(self, item: Any) -> EncodedItem:
        """Encode an item. Raises SerializationError, ValueError, TypeError, and what a function that gives keys raises."""
        if self._is_plain and (small := pickled_small(item)) is not None:
            return ((small, ()),)
        values = [item] if len(self._ids) == 1 else self._by_input(item)
        return [self._encoded(place, value) for place, value in enumerate(values)]

    def _by_input(self, item: Any) -> list[Any]:
        if not isinstance(item, Mapping):
            raise TypeError(
                f"the stream has {len(self._ids)} inputs, so an item is a dict of their values by their ids, which are"
                f" {_listed(self._ids)}: not {repr_of(item)}"
            )
        values = {key.id if isinstance(key, Handle) else key: value for key, value in item.items()}
        missing = [each for each in self._ids if each not in values]
        if missing:
            raise ValueError(f"the item has no value for {_listed(missing)}: it needs one for each input")
        return [values[each] for each in self._ids]

    def _encoded(self, place: int, value: Any) -> tuple[bytes, Sequence[int]]:
        try:
            # Others encode in between.
            with sent_by_value(self._by_value) if self._by_value else nullcontext():
                encoded = encode(value, "value").to_bytes()
        except SerializationError as error:
            function_id = self._ids[place]
            reason = f"an item for input {repr_of(function_id)} can't be sent to a node: {error}"
            raise SerializationError(reason, function_id) from error.__cause__
        if type(value) not in _PLAIN:
            self._note_modules(encoded)
        return encoded, [key_hash(key(value)) for key in self._keys[place]]


def _keys_of(plan: StreamPlan, number: int) -> list[Code]:
    """List what gives the keys of a value, for the stages that take it by key, in the order of the plan."""
    consumers = (plan.vertices[consumer].function for consumer, _ in plan.vertices[number].consumers)
    return [function.key for function in consumers if function.key is not None]


def _listed(ids: Sequence[FunctionId]) -> str:
    return ", ".join(map(repr_of, ids))
