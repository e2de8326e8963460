"""The options of runs as types, for `**options: Unpack[ExecuteOptions]`."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import PurePath
from types import ModuleType
from typing import Any, Literal, TypedDict

from handoff_actors.client.policy import Policy
from handoff_actors.core.backoff import Backoff
from handoff_actors.core.run.options import OnFailure
from handoff_actors.display.options import OutputOption
from handoff_actors.events import OnEvent
from handoff_actors.graph.argument import Handle
from handoff_actors.ids import FunctionId
from handoff_actors.retry_on import RetryOn

#: What becomes of items of a stream that fail: their errors stand among the results, or are raised.
ItemErrors = Literal["yield", "raise"]


class SessionOptions(TypedDict, total=False):
    """The options of `Session` beyond the cluster and its key."""

    #: Capabilities of a node to start in this process.
    local_node: Mapping[str, float] | None
    #: Name of that node.
    name: str | None
    #: Address at which that node listens.
    listen: str | None
    #: Number of its processes for sync functions.
    workers: int | None
    #: Default for the option `on_event` of each run.
    on_event: OnEvent | None
    #: Default for the option `progress` of each run.
    progress: bool | None
    #: Default for the option `output` of each run.
    output: OutputOption
    #: Modules, or their names, whose code is sent along with each run.
    modules_by_value: Sequence[ModuleType | str]


class LocalExecuteOptions(TypedDict, total=False):
    """The options of `execute_local`: those of `ExecuteOptions` but for `nodes`."""

    #: Rule that chooses nodes: a name, or an object of your own.
    allocation_strategy: str | Policy
    #: Number of further attempts for a function that raises.
    max_retries: int
    #: Number of functions in flight at most.
    max_concurrency: int | None
    #: Seconds after which the run ends with RunTimeout.
    timeout: float | None
    #: "all", or ids or handles of functions whose results are fetched into the app, in addition to those of sinks.
    fetch: str | Handle[object] | Collection[FunctionId] | None
    #: Callback for each change of the run.
    on_event: OnEvent | None
    #: Pauses between attempts: first seconds, factor, longest seconds.
    retry_backoff: Backoff | None
    #: Exception classes, or a function of the exception, that allow further attempts.
    retry_on: RetryOn
    #: "stop": the first function that fails for good ends the run; "continue": only what depends on it.
    on_failure: OnFailure
    #: Seconds to wait for a node that could run a function, before AllocationError.
    allocation_timeout: float
    #: File that records results, and from which an earlier run goes on.
    journal: str | os.PathLike[str] | None
    #: Callback for the id and the value of each result, once it is in the app.
    on_result: Callable[[FunctionId, Any], object] | None
    #: Show progress: always, never, or, with None, on a terminal once the run lasts.
    progress: bool | None
    #: Bring printed lines and log records home; "raw": without escapes.
    output: OutputOption
    #: Environment variables for all functions.
    env_vars: Mapping[str, str] | None
    #: Working directory for all functions.
    working_dir: str | PurePath | None
    #: Modules whose code is sent along.
    modules_by_value: Sequence[ModuleType | str]
    #: Number of functions that functions of the run may add.
    max_functions: int


class OpenRunOptions(TypedDict, total=False):
    """The options of `Session.open_run`: those of a run that are not about a graph as a whole."""

    #: Rule that chooses nodes: a name, or an object of your own.
    allocation_strategy: str | Policy
    #: Number of further attempts for a function that raises.
    max_retries: int
    #: Number of functions in flight at most.
    max_concurrency: int | None
    #: Seconds after which the run ends with RunTimeout.
    timeout: float | None
    #: Names of the only nodes to use.
    nodes: Collection[str] | None
    #: Callback for each change of the run.
    on_event: OnEvent | None
    #: Pauses between attempts: first seconds, factor, longest seconds.
    retry_backoff: Backoff | None
    #: Exception classes, or a function of the exception, that allow further attempts.
    retry_on: RetryOn
    #: "stop": the first function that fails for good ends the run; "continue": only what depends on it.
    on_failure: OnFailure
    #: Seconds to wait for a node that could run a function, before AllocationError.
    allocation_timeout: float
    #: File that records results, and from which an earlier run goes on.
    journal: str | os.PathLike[str] | None
    #: Show progress: always, never, or, with None, on a terminal once the run lasts.
    progress: bool | None
    #: Bring printed lines and log records home; "raw": without escapes.
    output: OutputOption
    #: Environment variables for all functions.
    env_vars: Mapping[str, str] | None
    #: Working directory for all functions.
    working_dir: str | PurePath | None
    #: Modules whose code is sent along.
    modules_by_value: Sequence[ModuleType | str]
    #: Number of functions that functions of the run may add.
    max_functions: int


class PipelineOptions(TypedDict, total=False):
    """The options of `Session.stream`, which describes each at length, with its default."""

    #: Number of items in flight at most.
    in_flight: int
    #: Size of their values at most, in MB.
    in_flight_mb: float
    #: Give results in the order of the pushes.
    ordered: bool
    #: Seconds that a function with several inputs waits for the rest of an item.
    join_timeout: float | None
    #: Errors of items stand among the results, or are raised.
    errors: ItemErrors
    #: Number of further attempts at an item.
    max_retries: int
    #: Rule that chooses nodes: a name, or an object of your own.
    allocation_strategy: str | Policy
    #: Names of the only nodes to use.
    nodes: Collection[str] | None
    #: Seconds to wait for a node that could hold a function, before AllocationError.
    allocation_timeout: float
    #: Callback for workers that come and go, items that fail, and the progress of stages.
    on_event: OnEvent | None
    #: Show the progress of each stage: always, never, or, with None, on a terminal once the stream lasts.
    progress: bool | None
    #: Bring printed lines and log records home; "raw": without escapes.
    output: OutputOption
    #: Environment variables for all functions.
    env_vars: Mapping[str, str] | None
    #: Working directory for all functions.
    working_dir: str | PurePath | None
    #: Modules whose code is sent along.
    modules_by_value: Sequence[ModuleType | str]


class ExecuteOptions(LocalExecuteOptions, total=False):
    """The options of `Session.execute_distributed` as a type: for functions of yours that pass on `**options: Unpack[ExecuteOptions]`.

    `Session.execute_distributed` describes each at length, with its default.
    """

    #: Names of the only nodes to use.
    nodes: Collection[str] | None
