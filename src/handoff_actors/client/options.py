"""The options of runs and sessions: their names and types, their defaults, and checks before anything runs."""

import importlib
import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from pathlib import PurePath
from types import ModuleType
from typing import Any, ParamSpec, TypeVar, get_args

from msgspec import Struct
from msgspec.structs import replace

from handoff_actors.addresses import check_seeds
from handoff_actors.client.policy import Policy, UserPolicy
from handoff_actors.core.backoff import NO_BACKOFF, Backoff
from handoff_actors.core.node.validation import MAX_OFFER_BYTES
from handoff_actors.core.run.facts.grown_graph import cached_functions
from handoff_actors.core.run.options import MAX_FUNCTIONS, OnFailure, RunOptions
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.placement import POLICIES, PlacementPolicy
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.display.options import DisplayOptions, OutputOption, check_output
from handoff_actors.errors import InvalidAddressError
from handoff_actors.events import OnEvent
from handoff_actors.graph.argument import Handle
from handoff_actors.graph.checks import check_id
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.environment import Environment, is_directory_name, is_env_vars
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index, Resources
from handoff_actors.retry_on import RetryOn, is_retry_on
from handoff_actors.text import MAX_NAME_BYTES, NAME_RULE, did_you_mean, is_name, repr_of
from handoff_actors.transport.credentials import Credentials
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.wire.messages.nested import Ancestor
from handoff_actors.workers.child.running_job import is_worker, running_job

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


def check_names(function: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise TypeError for an option that a function doesn't have, with the one that may have been meant."""
    for name in given:
        if name not in known:
            raise TypeError(f"{function}() has no option {name!r}{did_you_mean(name, known)}")


def with_checked_names(function: Callable[P, ResultT]) -> Callable[P, ResultT]:
    """Have a function propose the option that was meant, where it is called with an unknown one. Python itself doesn't."""
    parameters = inspect.signature(function).parameters
    owner, name = function.__qualname__.split(".")
    called = owner if name == "__init__" else name

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> ResultT:
        if not parameters.keys() >= kwargs.keys():
            check_names(called, kwargs, parameters)
        return function(*args, **kwargs)

    return checked


class RunSettings(Struct, frozen=True, kw_only=True):
    """The options of one run, with their defaults, checked. Raises ValueError or TypeError."""

    allocation_strategy: str | Policy = "most_spare"
    max_retries: int = 3
    max_concurrency: int | None = None
    timeout: float | None = None
    nodes: Collection[str] | None = None
    fetch: str | Handle[object] | Collection[FunctionId] | None = None
    on_event: OnEvent | None = None
    retry_backoff: Backoff | None = None
    retry_on: RetryOn = None
    on_failure: OnFailure = "stop"
    allocation_timeout: float = 10.0
    journal: str | os.PathLike[str] | None = None
    on_result: Callable[[FunctionId, Any], object] | None = None
    progress: bool | None = None
    output: OutputOption = None
    env_vars: Mapping[str, str] | None = None
    working_dir: str | PurePath | None = None
    modules_by_value: Sequence[ModuleType | str] = ()
    max_functions: int = MAX_FUNCTIONS

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise ValueError(f"max_retries={repr_of(self.max_retries)}: it must be 0 or more")
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise ValueError(
                f"max_concurrency={repr_of(self.max_concurrency)}: it must be 1 or more, or None"
            )
        if self.max_functions < 0:
            raise ValueError(f"max_functions={repr_of(self.max_functions)}: it must be 0 or more")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"timeout={repr_of(self.timeout)}: it must be more than 0 seconds, or None")
        if self.allocation_timeout < 0:
            raise ValueError(
                f"allocation_timeout={repr_of(self.allocation_timeout)}: it must be 0 seconds or more"
            )
        if self.retry_backoff is not None:
            first, factor, longest = self.retry_backoff
            if first < 0 or factor < 1 or longest < 0:
                raise ValueError(
                    f"retry_backoff={repr_of(self.retry_backoff)}: it is (first seconds >= 0, factor >= 1, longest seconds >= 0)"
                )
        self._check_failure_rules()
        check_output(self.output)
        self._check_surroundings()

    def _check_failure_rules(self) -> None:
        if not is_retry_on(self.retry_on):
            raise ValueError(
                f"retry_on={repr_of(self.retry_on)}: it must be an exception class, a tuple of them, a function of the exception, "
                "or None"
            )
        if self.on_failure not in get_args(OnFailure):
            raise ValueError(f"on_failure={repr_of(self.on_failure)}: it is 'stop' or 'continue'")

    def _check_surroundings(self) -> None:
        if self.env_vars is not None and not is_env_vars(self.env_vars):
            raise ValueError(
                f"env_vars={repr_of(self.env_vars)}: it must be a mapping of names to strings, or None"
            )
        if self.working_dir is not None and not is_directory_name(self.working_dir):
            raise ValueError(
                f"working_dir={repr_of(self.working_dir)}: it must be the path of a directory, or None"
            )

    def surrounded(self, plan: Plan) -> Plan:
        """The plan with the run's environment for all functions; what a function says of its own comes first."""
        outer = Environment.of(self.env_vars, self.working_dir)
        if outer is None:
            return plan
        templates = [
            replace(spec, environment=(spec.environment or Environment()).within(outer))
            for spec in plan.templates
        ]
        return replace(plan, templates=templates)

    def seen(self, defaults: DisplayOptions) -> DisplayOptions:
        """The display of the run; `defaults` stand for options that are None."""
        return DisplayOptions(
            on_event=defaults.on_event if self.on_event is None else self.on_event,
            progress=defaults.progress if self.progress is None else self.progress,
            output=defaults.output if self.output is None else self.output,
        )

    def modules(self) -> tuple[ModuleType, ...]:
        """The modules to pickle by value. Raises ImportError, TypeError."""
        return modules_of(self.modules_by_value)

    def options(
        self, plan: Plan, durations: Durations, load: SessionLoad, *, observe: bool, nodes_may_join: bool
    ) -> RunOptions:
        """The options as the run machine takes them. Raises ValueError, TypeError."""
        cached = cached_functions(plan)
        return RunOptions(
            policy=self.policy(),
            # What is cached has to be here to be written.
            wanted=self._wanted(plan).union(cached),
            max_retries=self.max_retries,
            on_failure=self.on_failure,
            retry_on=self.retry_on,
            backoff=NO_BACKOFF if self.retry_backoff is None else self.retry_backoff,
            max_concurrency=self.max_concurrency,
            max_functions=self.max_functions,
            timeout_s=self.timeout,
            allocation_timeout_s=self.allocation_timeout,
            nodes_may_join=nodes_may_join,
            observe=observe,
            is_journaled=self.journal is not None or self.on_result is not None or bool(cached),
            nodes=None if self.nodes is None else frozenset(self.nodes),
            parent=calling_function(),
            durations=durations,
            load=load,
        )

    def policy(self) -> PlacementPolicy:
        """The rule that chooses nodes. Raises ValueError, TypeError."""
        if isinstance(self.allocation_strategy, str):
            policy = POLICIES.get(self.allocation_strategy)
            if policy is None:
                raise ValueError(
                    f"allocation_strategy={repr_of(self.allocation_strategy)} is unknown; there are {', '.join(POLICIES)}"
                )
            return policy
        if not isinstance(self.allocation_strategy, Policy):
            text = (
                f"allocation_strategy={repr_of(self.allocation_strategy)} has no method choose(need, nodes)"
            )
            raise TypeError(text)
        return UserPolicy(self.allocation_strategy)

    def _wanted(self, plan: Plan) -> frozenset[Index]:
        if self.fetch is None:
            return frozenset(plan.sinks)
        if self.fetch == "all":
            return frozenset([*plan.sinks, *plan.index_of.values()])
        asked_for = [self.fetch] if isinstance(self.fetch, Handle) else self.fetch
        if isinstance(asked_for, str) or not isinstance(asked_for, Collection):
            raise ValueError(  # noqa: TRY004 - a string is a type that it may have
                f"fetch={repr_of(self.fetch)}: it is 'all', a handle, or a list of handles or function ids"
            )
        wanted = list(plan.sinks)
        for function_id in asked_for:
            check_id(function_id)
            try:
                wanted.append(plan.index(function_id))
            except KeyError as error:
                raise ValueError(f"fetch={repr_of(function_id)}: {error.args[0]}") from None
        return frozenset(wanted)


def calling_function() -> Ancestor | None:
    """The function that this code runs in; None in an app."""
    job = running_job()
    return None if job is None else Ancestor(*job)


def check_dag(dag: object) -> None:
    """Raise TypeError for anything that is no DAG."""
    if isinstance(dag, Handle):
        raise TypeError(
            f"a run is of a DAG, not of {repr_of(dag)}: pass the DAG, and fetch=handle to have its result"
        )
    if not isinstance(dag, DAG):
        raise TypeError(
            f"a run is of a DAG, not of {repr_of(dag)}: dag = handoff.new(), then dag.call(f, ...)"
        )


def check_resources(capabilities: Mapping[str, float]) -> Resources:
    """Convert capabilities, or costs, to floats. Raises ValueError, naming the resource."""
    for resource, amount in capabilities.items():
        if not isinstance(amount, int | float) or isinstance(amount, bool) or not 0 <= amount < float("inf"):
            raise ValueError(
                f"resource {repr_of(resource)}: {repr_of(amount)} is not an amount; it must be a number of 0 or more"
            )
        if not is_name(str(resource)):
            raise ValueError(f"resource {str(resource)[:MAX_NAME_BYTES]!r}: {NAME_RULE}")
    if sum(len(str(resource).encode()) for resource in capabilities) > MAX_OFFER_BYTES:
        raise ValueError(
            f"the names of {len(capabilities)} resources have more than {MAX_OFFER_BYTES} bytes together"
        )
    return {str(resource): float(amount) for resource, amount in capabilities.items()}


def modules_of(named: Sequence[ModuleType | str]) -> tuple[ModuleType, ...]:
    """Import those modules that are given by name. Raises ImportError, TypeError."""
    if isinstance(named, str) or not all(isinstance(one, ModuleType | str) for one in named):
        raise TypeError(
            f"modules_by_value={repr_of(named)}: it must be a list of modules, or of names of modules"
        )
    return tuple(one if isinstance(one, ModuleType) else importlib.import_module(one) for one in named)


def credentials(key: str | ClusterKey | None, *, insecure: bool) -> Credentials:
    """The credentials of a key, given as an object or as text; without one, those of the environment. Raises InvalidKeyError."""
    return Credentials.chosen(ClusterKey.from_text(key) if isinstance(key, str) else key, insecure=insecure)


def join_wait_from_environment() -> float:
    """The seconds in HANDOFF_JOIN_WAIT. Raises ValueError."""
    text = os.environ.get("HANDOFF_JOIN_WAIT", "").strip()
    try:
        return check_join_wait(float(text or 0))
    except ValueError:
        raise ValueError(f"HANDOFF_JOIN_WAIT={text!r}: it must be a number of seconds, 0 or more") from None


def check_join_wait(seconds: float) -> float:
    """Raise ValueError for anything that is no number of seconds."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < float("inf"):
        raise ValueError(f"join_wait={repr_of(seconds)}: it must be a number of seconds, 0 or more")
    return float(seconds)


def seeds_from_environment() -> tuple[str, ...]:
    """The addresses in HANDOFF_SEEDS, which are separated by commas. Raises InvalidAddressError."""
    named = os.environ.get("HANDOFF_SEEDS", "").split(",")
    try:
        return check_seeds([seed.strip() for seed in named if seed.strip()])
    except InvalidAddressError as error:
        raise InvalidAddressError(error.address, f"{error.reason} (HANDOFF_SEEDS)") from None


def join_file_from_environment() -> str | None:
    """The directory that HANDOFF_JOIN_FILE names; None in a function, which is in a cluster already."""
    return None if is_worker() else os.environ.get("HANDOFF_JOIN_FILE") or None
