"""A Dask scheduler: `dask.compute(x, scheduler=handoff_actors.integrations.dask.get)`.

A Dask graph becomes a DAG with the same keys. Results stay where they are made until they are needed; data that the
graph itself holds is sent to each node once.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, Unpack

from msgspec import Struct

from handoff_actors import events
from handoff_actors.client.execute_options import ExecuteOptions
from handoff_actors.errors import FunctionFailed, SerializationError
from handoff_actors.graph.argument import Constant
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.function import Function
from handoff_actors.integrations.background import BackgroundSession, shared
from handoff_actors.integrations.calls import is_async
from handoff_actors.wire.payload import Sealed

try:
    from dask._task_spec import Alias, DataNode, GraphNode, Task, convert_legacy_graph
    from dask.callbacks import local_callbacks, unpack_callbacks
    from dask.core import flatten
except ImportError as missing:
    from handoff_actors.extras import how_to_install

    raise ImportError(
        f"handoff_actors.integrations.dask needs Dask 2024.12 or later: {how_to_install('dask')}"
    ) from missing

Key: TypeAlias = Hashable
#: A key, or lists of keys, of any depth.
Keys: TypeAlias = Any


def get(
    dsk: Mapping[Key, Any],
    keys: Keys,
    *,
    session: BackgroundSession | None = None,
    max_retries: int = 0,
    cost: Mapping[str, float] | None = None,
    callbacks: Sequence[tuple[Any, ...]] | None = None,
    **_others: Any,
) -> Any:
    """Compute `keys` of a Dask graph; the answer has the structure of `keys`, with tuples for its lists.

    Options may be given to `compute`: `session`, by default this process's shared one, which uses the cluster of
    HANDOFF_SEEDS or starts a node; `max_retries`, the retries of a task that raises; `cost`, the claim of each task.
    `callbacks` get None for results. Options of Dask's own schedulers are ignored.

    Raises the exception of a task that raised, KeyError for an unknown key, and the errors of
    `Session.execute_distributed`.
    """
    graph = convert_legacy_graph(dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__())
    wanted = set(flatten([keys]))
    dag, last_of = _convert(graph, wanted, cost)
    with _reported(dsk, dag, callbacks) as on_event:
        results = _run(session or shared(), dag, max_retries=max_retries, on_event=on_event)
        values = {key: results[last].open() for key, last in last_of.items()}
    return _nest(keys, lambda key: _value(graph, _target(graph, key), values))


class _SealedKey(Struct, frozen=True):
    """The id of the function that seals the value of `key` for the caller, if other tasks need it, too."""

    key: Key


def evaluate(values: Sequence[Any], node: Any, keys: Sequence[Key]) -> Any:
    """Run in a worker: compute a node of a graph from the values of `keys`."""
    return node(dict(zip(keys, values, strict=True)))


def evaluate_last(values: Sequence[Any], node: Any, keys: Sequence[Key]) -> Sealed:
    """Run in a worker: compute a node whose value only the caller needs, and may write to."""
    return Sealed.of(evaluate(values, node, keys))


async def evaluate_async(values: Sequence[Any], node: Any, keys: Sequence[Key]) -> Any:
    """Do as `evaluate` does for a node whose code is a coroutine function."""
    return await evaluate(values, node, keys)


async def evaluate_last_async(values: Sequence[Any], node: Any, keys: Sequence[Key]) -> Sealed:
    """Do as `evaluate_last` does for a node whose code is a coroutine function."""
    return Sealed.of(await evaluate(values, node, keys))


def _code_for(node: GraphNode, *, is_last: bool) -> Callable[..., Any]:
    if isinstance(node, Task) and is_async(node.func):
        return evaluate_last_async if is_last else evaluate_async
    return evaluate_last if is_last else evaluate


def _convert(
    graph: Mapping[Key, GraphNode], wanted: set[Key], cost: Mapping[str, float] | None
) -> tuple[DAG, dict[Key, Key]]:
    """Make a DAG of the tasks that `wanted` needs, and map each key to the function that gives its value to the caller."""
    tasks = _tasks(graph, wanted)
    taken = {_target(graph, dependency) for task in tasks.values() for dependency in task.dependencies}
    last_of = {
        key: _SealedKey(key) if key in taken else key
        for key in map(partial(_target, graph), wanted)
        if key in tasks
    }
    #: By key: the same value is the same constant, and is sent once.
    constants: dict[Key, Constant] = {}
    dag = DAG()
    for key, task in tasks.items():
        dependencies = tuple(task.dependencies)
        args = [_argument(graph, _target(graph, dependency), constants) for dependency in dependencies]
        code = _code_for(task, is_last=last_of.get(key) == key)
        options: dict[str, Any] = {"argument_inclusion": "as_list", "cost": cost}
        dag.add_function(Function(key, args, code, extra_args=(task, dependencies), **options))
    for key, last in last_of.items():
        if last != key:
            dag.add_function(Function(last, [key], Sealed.of))
    return dag, last_of


def _tasks(graph: Mapping[Key, GraphNode], wanted: set[Key]) -> dict[Key, GraphNode]:
    """Return the tasks to compute, which are neither data nor aliases. Raises KeyError."""
    tasks: dict[Key, GraphNode] = {}
    pending = list(wanted)
    while pending:
        key = _target(graph, pending.pop())
        if key not in tasks and not isinstance(graph[key], DataNode):
            tasks[key] = graph[key]
            pending += graph[key].dependencies
    return tasks


def _argument(graph: Mapping[Key, GraphNode], key: Key, constants: dict[Key, Constant]) -> Any:
    node = graph[key]
    return constants.setdefault(key, Constant(node.value)) if isinstance(node, DataNode) else key


def _target(graph: Mapping[Key, GraphNode], key: Key) -> Key:
    while isinstance(node := graph[key], Alias):
        key = node.target
    return key


def _run(session: BackgroundSession, dag: DAG, **options: Unpack[ExecuteOptions]) -> Mapping[Key, Any]:
    if not len(dag):
        return {}
    try:
        return session.execute(dag, **options).results
    except (FunctionFailed, SerializationError) as error:
        if error.__cause__ is None:
            raise
        # Dask's users expect their own exceptions.
        raise error.__cause__ from error.__cause__.__cause__


def _value(graph: Mapping[Key, GraphNode], key: Key, values: Mapping[Key, Any]) -> Any:
    node = graph[key]
    return node.value if isinstance(node, DataNode) else values[key]


def _nest(keys: Keys, result: Callable[[Key], Any]) -> Any:
    return tuple(_nest(key, result) for key in keys) if isinstance(keys, list) else result(keys)


class _RunListener:
    """Calls Dask's callbacks, such as a ProgressBar's, and keeps the state of a run in the form that they read."""

    def __init__(self, dsk: Mapping[Key, Any], dag: DAG, callbacks: Sequence[tuple[Any, ...]]) -> None:
        self._dsk = dsk
        self._starts, self._state_starts, self._befores, self._afters, self._ends = unpack_callbacks(
            callbacks
        )
        self._state: dict[str, Any] = {
            "waiting": set(dag.functions),
            "ready": set(),
            "running": set(),
            "finished": set(),
            "cache": {},
        }

    def start(self) -> None:
        """Report the start of the run."""
        for start in self._starts:
            start(self._dsk)
        for start in self._state_starts:
            start(self._dsk, self._state)

    def on_event(self, event: events.RunEvent) -> None:
        """Report a function that has been sent, or is done."""
        if isinstance(event, events.Sent):
            self._move(event.function_id, "waiting", "running")
            for before in self._befores:
                before(event.function_id, self._dsk, self._state)
        elif isinstance(event, events.Finished):
            self._move(event.function_id, "running", "finished")
            for after in self._afters:
                after(event.function_id, None, self._dsk, self._state, event.node)

    def end(self, *, has_failed: bool) -> None:
        """Report the end of the run."""
        for end in self._ends:
            end(self._dsk, self._state, has_failed)

    def _move(self, key: Key, source: str, target: str) -> None:
        self._state[source].discard(key)
        self._state[target].add(key)


@contextmanager
def _reported(
    dsk: Mapping[Key, Any], dag: DAG, given: Sequence[tuple[Any, ...]] | None
) -> Iterator[Callable[[events.RunEvent], None] | None]:
    """Report a run to Dask's callbacks; yields the callback for the run's events, or None if there are no callbacks."""
    with local_callbacks(given) as callbacks:
        if not callbacks:
            yield None
            return
        listener = _RunListener(dsk, dag, callbacks)
        has_failed = True
        listener.start()
        try:
            yield listener.on_event
            has_failed = False
        finally:
            listener.end(has_failed=has_failed)
