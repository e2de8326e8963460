"""The parts that plans are made of."""

from collections.abc import Callable
from typing import NamedTuple, Union

from msgspec import Struct

from handoff_actors.graph.environment import Environment
from handoff_actors.graph.function import RunIf
from handoff_actors.ids import FunctionId, Index, Resources
from handoff_actors.retry_on import RetryOn


class NodeOf(Struct, frozen=True, array_like=True, tag=1):
    """An argument that is the name of the node where the function `index` has run, or will run."""

    index: Index


class ListOf(Struct, frozen=True, array_like=True, tag=3):
    """An argument that is the result of the function `index`, with a reference in place of each of its parts."""

    index: Index


class CallSpec(Struct, frozen=True, array_like=True, tag=2):
    """An argument that is computed in the consumer's worker."""

    template: int
    args: "tuple[ArgSpec, ...]"
    #: Position in `Plan.constants`; -1: neither extra_args nor kwargs.
    constants: int


#: An int of 0 or more: the result of that function; a negative one: value number ~i of `Plan.values`.
ArgSpec = Union[Index, NodeOf, ListOf, CallSpec]  # noqa: UP007 - CallSpec refers to it by a string


class WarmSpec(Struct, frozen=True):
    """The code of a template makes an object that stays in its worker: see `per_worker`."""

    #: For people.
    name: str
    #: Seconds for which it stays unused.
    idle_s: float
    #: The arguments of the code.
    args: tuple[object, ...]
    kwargs: dict[str, object]


class TemplateSpec(Struct, frozen=True):
    """The properties that many functions share, stored once for all of them."""

    code: Callable[..., object]
    is_async: bool
    as_list: bool
    #: {} claims nothing.
    cost: Resources
    #: Seconds per attempt; None: the run's setting.
    timeout: float | None
    #: None: the run's setting.
    environment: Environment | None = None
    #: None: the run's setting.
    retry_on: RetryOn = None
    #: Args from this position on take the places of the placeholders among the constants; None: there are none.
    placed_from: int | None = None
    run_if: RunIf = "success"
    #: So many of the last args are conditions.
    conditions: int = 0
    #: None: a call makes a result, of its own.
    warm: WarmSpec | None = None
    #: Seconds for which results are cached; None: they are not.
    cache_s: float | None = None
    #: The code runs a stage of a stream.
    is_stage: bool = False


class Hook(Struct, frozen=True, array_like=True):
    """A serialize hook: function `index` runs on the node of `producer`, once that of `consumer` is chosen."""

    index: Index
    producer: Index
    consumer: Index


class HookId(NamedTuple):
    """The id of a serialize hook in a plan."""

    kind: str
    producer: FunctionId
    consumer: FunctionId
    #: Place in the consumer's args; those of its inline functions count on from there.
    position: int
