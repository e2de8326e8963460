"""One vertex of a DAG: the code to call, its arguments, and the conditions of the call."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import PurePath
from typing import Literal, TypeAlias, TypedDict

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph.argument import Argument, Collocated, Constant, ItemsOf, PerWorker
from handoff_actors.graph.placing import Skeleton
from handoff_actors.ids import FunctionId
from handoff_actors.retry_on import RetryOn
from handoff_actors.text import repr_of

FunctionType = Literal["regular", "inline", "input"]
ArgumentInclusion = Literal["variadic", "as_list"]
RunIf = Literal["success", "always", "failure"]
OnStateLoss = Literal["fail", "restart"]
#: The id of a function, or its handle; a list of several.
Conditions: TypeAlias = FunctionId | list[FunctionId]
Code = Callable[..., object]

_NOT_PLAIN_IDS = frozenset({Argument, Constant, ItemsOf, PerWorker})


@dataclass(slots=True)
class Function:
    """A call to `code` with the results of `args`, then `extra_args` and `kwargs`.

    A `Handle` stands for its result in all three, also within containers.

    A DAG checks the values when the function is added; from then on the function must not be changed. (It is
    not frozen because that triples the time to make one, and graphs of 100,000 are made in loops.)
    """

    #: Unique in its DAG.
    id: FunctionId
    #: Ids whose results are taken, in order; an id may occur twice. Also `Argument`, `Constant`,
    #: `Handle` and what `per_worker` returns.
    args: Sequence[FunctionId]
    #: Sync or async; None only for an input.
    code: Code | None
    _: KW_ONLY
    #: Passed after the results of `args`.
    extra_args: Sequence[object] = ()
    #: Passed by name.
    kwargs: Mapping[str, object] = field(default_factory=dict)
    #: Claimed on the node while the function runs: cpu in cores, memory in MB, gpu in devices, other names in units of
    #: their own. None claims nothing.
    cost: Mapping[str, float] | None = None
    #: The name of a node, or `collocated(other_id)`. None lets the run choose.
    node: str | Collocated | None = None
    #: "inline": computed in each consumer's worker, anew; "input": a value that is pushed into a stream.
    type: FunctionType = "regular"
    #: Number of retries after it has raised; None: the run's setting.
    max_retries: int | None = None
    #: (first_s, factor, max_s), the pauses before retries; None: the run's setting.
    retry_backoff: tuple[float, float, float] | None = None
    #: Exception classes, or a function of the exception, that allow a retry; None: the run's setting.
    retry_on: RetryOn = None
    #: Seconds per attempt; None: the run's setting. In a stream: per item, or batch, or result of a generator; None: no limit.
    timeout: float | None = None
    #: Higher runs first, among functions that are ready.
    priority: int = 0
    #: Seconds, or text such as "12h" or "30d", for which a result is used again wherever the same code is given the same
    #: inputs; None: it is not.
    cache: float | str | None = None
    #: "as_list": the results of args arrive as one list. A `Skeleton`, where the DAG has found handles within arguments.
    argument_inclusion: ArgumentInclusion | Skeleton = "variadic"
    #: Environment variables while the function runs, added to the run's.
    env_vars: Mapping[str, str] | None = None
    #: The directory in which it runs, and from which it imports; None: the run's setting.
    working_dir: str | PurePath | None = None
    #: "always": the function runs once all functions that it takes from have ended, well or not, and gets the error in place
    #: of a failed one's result, and `SKIP` in place of a skipped one's. "failure": so it does if at least one has failed.
    run_if: RunIf = "success"
    #: A function, or a list of several, by id or handle: the function is skipped, and its result is `SKIP`, unless
    #: the results of all of them are true. Values of other runs may stand there, too.
    when: Conditions = None
    #: Streams only: called once per worker; makes the state that `code` is given first, and returns last: (result, state).
    init: Code | None = None
    #: Streams only: called with the state once no item follows; returns, or generates, the results that are left.
    finish: Code | None = None
    #: Streams only: called with the state last of all, to release what it holds.
    close: Code | None = None
    #: Streams only: "restart" goes on with a fresh state after the loss of a worker, "fail" ends the stream. None: "fail" where
    #: `code` has returned another object than the state that it was given, which then was data; else "restart".
    on_state_loss: OnStateLoss | None = None
    #: Streams only: workers of this stage; or (least, most), between which their number follows the queue. Items at a time of a
    #: coroutine function, which has one worker.
    parallelism: int | tuple[int, int] = 1
    #: Streams only: gives the key of the result that the function takes; equal keys go to the same worker.
    key: Code | None = None
    #: Streams only: `code` gets a list of up to this many argument tuples, and returns as long a list.
    batch_size: int | None = None
    #: Streams only: seconds after its first item at which an incomplete batch goes out.
    batch_timeout: float | None = None

    def __post_init__(self) -> None:
        if type(self.args) is not tuple:
            self.args = _as_tuple(self.id, "args", self.args)
        if type(self.extra_args) is not tuple:
            self.extra_args = _as_tuple(self.id, "extra_args", self.extra_args)
        # Copies, because programs fill one dict anew for each function.
        if self.kwargs and isinstance(self.kwargs, Mapping):
            self.kwargs = dict(self.kwargs)
        if self.cost and isinstance(self.cost, Mapping):
            self.cost = dict(self.cost)
        if self.env_vars and isinstance(self.env_vars, Mapping):
            self.env_vars = dict(self.env_vars)
        if type(self.when) is list:
            self.when = list(self.when)


class TaskOptions(TypedDict, total=False):
    """Options of a function that hold for all its calls; see `Function`."""

    cost: Mapping[str, float] | None
    node: str | Collocated | None
    type: FunctionType
    max_retries: int | None
    retry_backoff: tuple[float, float, float] | None
    retry_on: RetryOn
    timeout: float | None
    priority: int
    cache: float | str | None
    argument_inclusion: ArgumentInclusion
    env_vars: Mapping[str, str] | None
    working_dir: str | PurePath | None
    run_if: RunIf
    init: Code | None
    finish: Code | None
    close: Code | None
    on_state_loss: OnStateLoss | None
    parallelism: int | tuple[int, int]
    key: Code | None
    batch_size: int | None
    batch_timeout: float | None


class FunctionOptions(TaskOptions, total=False):
    """Options of a function besides its code and `args`; see `Function`."""

    id: FunctionId
    extra_args: Sequence[object]
    kwargs: Mapping[str, object]
    when: Conditions


def conditions_of(function: Function) -> list[FunctionId]:
    """List the ids of the functions whose results have to be true, and the values of other runs that have to, in order."""
    when = function.when
    return [] if when is None else when if isinstance(when, list) else [when]


def producer_ids(function: Function) -> Sequence[FunctionId]:
    """List the ids whose results the function takes, in order, with repetitions; its conditions come last."""
    if _NOT_PLAIN_IDS.isdisjoint(map(type, function.args)):
        return function.args if function.when is None else [*function.args, *_condition_ids(function)]
    taken = [
        arg.id if isinstance(arg, Argument) else arg
        for arg in function.args
        if not isinstance(arg, Constant | PerWorker)
    ]
    return taken + _condition_ids(function)


def _condition_ids(function: Function) -> list[FunctionId]:
    return [each for each in conditions_of(function) if not isinstance(each, Constant)]


def _as_tuple(function_id: FunctionId, name: str, values: Iterable[object]) -> tuple[object, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidFunctionError(function_id, f"{name} must be a list, not {repr_of(values)}")
    return tuple(values)
