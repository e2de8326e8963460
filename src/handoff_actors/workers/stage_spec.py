"""Describe a stage of a stream to its worker: the app makes this, pickled with the user's code in it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from handoff_actors.retry_on import RetryOn

Code: TypeAlias = Callable[..., Any]


def call_by_name(code: Code, names: Sequence[str], first: int, /, *args: Any, **kwargs: Any) -> Any:
    """Call code that takes results of the stream by these names: their values are the arguments from number `first` on."""
    end = first + len(names)
    named = dict(zip(names, args[first:end], strict=True))
    return code(*args[:first], *args[end:], **named, **kwargs)


class FromProducer(NamedTuple):
    """An argument: the value that came from the producer at this position."""

    position: int


class Given(NamedTuple):
    """An argument that is the same for every item."""

    value: object


class InlineCall(NamedTuple):
    """An argument that is computed for each item, by a function of type "inline"."""

    #: For people.
    name: str
    code: Code
    args: "tuple[Recipe, ...]"
    extra_args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = {}
    as_list: bool = False


Recipe: TypeAlias = FromProducer | Given | InlineCall


class StageSpec(NamedTuple):
    """One worker of one stage. extra_args and kwargs of its function come beside it, as arguments of the call that runs it."""

    stage: int
    lane: int
    #: For people: the id of the function, as its repr.
    name: str
    code: Code
    args: tuple[Recipe, ...]
    as_list: bool = False
    #: Makes the state, which `code` is given first and returns last; None: there is no state.
    init: Code | None = None
    #: Gives the last results, of the state.
    finish: Code | None = None
    #: Lets go of the state.
    close: Code | None = None
    #: `code` gets a list of tuples of arguments, and returns as long a list.
    is_batched: bool = False
    #: `code` gives any number of results for one item.
    is_generator: bool = False
    #: The number of items that an `async def` works on at once.
    concurrency: int = 1
    #: For each stage that takes the result by key: the function that gives the key of a result.
    keys: tuple[Code, ...] = ()
    retry_on: RetryOn = None
