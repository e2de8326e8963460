"""A Dask scheduler: `dask.compute(x, scheduler=handoff_actors.integrations.dask.get)`.

A Dask graph becomes a DAG with the same keys. Results stay where they are made until somebody needs them; data that the
graph itself holds goes to each node once.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from handoff_actors.errors import FunctionFailed, SerializationError
from handoff_actors.graph.argument import Constant
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.function import Function
from handoff_actors.integrations.background import BackgroundSession, shared
from handoff_actors.runs import RunEvent

try:
    from dask._task_spec import Alias, DataNode, GraphNode, convert_legacy_graph
    from dask.callbacks import local_callbacks, unpack_callbacks
    from dask.core import flatten
except ImportError as missing:
    raise ImportError(
        "handoff_actors.integrations.dask needs Dask 2024.12 or later: install handoff-actors[dask]"
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

    Options may be given to `compute`: `session` to run in another than this process's shared one, which uses the
    cluster of HANDOFF_SEEDS or starts a node; how often a task that raises is tried again; what each task claims.
    `callbacks` get None for results. Options of Dask's own schedulers are ignored.

    Raises what a task raised, KeyError for an unknown key, and the errors of `Session.execute_distributed`.
    """
    graph = convert_legacy_graph(dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__())
    wanted = set(flatten([keys]))
    dag, needed = _convert(graph, wanted, cost)
    with _told(dsk, needed, callbacks) as on_event:
        fetch = {_target(graph, key) for key in wanted}
        results = _run(session or shared(), dag, fetch & needed, max_retries=max_retries, on_event=on_event)
    return _nest(keys, lambda key: _result(graph, key, results))


def evaluate(values: Sequence[Any], node: Any, keys: Sequence[Key]) -> Any:
    """Run in a worker: compute a node of a graph from the values of `keys`."""
    return node(dict(zip(keys, values, strict=True)))


def _convert(
    graph: Mapping[Key, GraphNode], wanted: set[Key], cost: Mapping[str, float] | None
) -> tuple[DAG, set[Key]]:
    """Make a DAG of the tasks that `wanted` needs, and give their keys. Data becomes constants, aliases go."""
    dag, needed = DAG(), set[Key]()
    #: By key: the same value is the same constant, and is sent once.
    constants: dict[Key, Constant] = {}
    pending = list(wanted)
    while pending:
        key = _target(graph, pending.pop())
        node = graph[key]
        if key in needed or isinstance(node, DataNode):
            continue
        needed.add(key)
        dependencies = tuple(node.dependencies)
        args: list[Any] = []
        for dependency in dependencies:
            target = _target(graph, dependency)
            source = graph[target]
            if isinstance(source, DataNode):
                args.append(constants.setdefault(target, Constant(source.value)))
            else:
                args.append(target)
        pending += dependencies
        task = Function(key, args, evaluate, argument_inclusion="as_list", extra_args=(node, dependencies), cost=cost)
        dag.add_function(task)
    return dag, needed


def _target(graph: Mapping[Key, GraphNode], key: Key) -> Key:
    while isinstance(node := graph[key], Alias):
        key = node.target
    return key


def _run(session: BackgroundSession, dag: DAG, fetch: set[Key], **options: Any) -> Mapping[Key, Any]:
    if not len(dag):
        return {}
    try:
        return session.execute(dag, fetch=fetch, **options).results
    except (FunctionFailed, SerializationError) as error:
        if error.__cause__ is None:
            raise
        # Dask's users expect their own.
        raise error.__cause__ from error.__cause__.__cause__


def _result(graph: Mapping[Key, GraphNode], key: Key, results: Mapping[Key, Any]) -> Any:
    target = _target(graph, key)
    node = graph[target]
    return node.value if isinstance(node, DataNode) else results[target]


def _nest(keys: Keys, result: Callable[[Key], Any]) -> Any:
    return tuple(_nest(key, result) for key in keys) if isinstance(keys, list) else result(keys)


@contextmanager
def _told(
    dsk: Mapping[Key, Any], needed: set[Key], given: Sequence[tuple[Any, ...]] | None
) -> Iterator[Callable[[RunEvent], None] | None]:
    """Tell Dask's callbacks, such as a ProgressBar, of a run."""
    with local_callbacks(given) as callbacks:
        if not callbacks:
            yield None
            return
        starts, state_starts, befores, afters, finishes = unpack_callbacks(callbacks)
        state: dict[str, Any] = {
            "waiting": set(needed), "ready": set(), "running": set(), "finished": set(), "cache": {},
        }  # fmt: skip

        def on_event(event: RunEvent) -> None:
            key = event.function_id
            if event.kind == "assigned":
                state["waiting"].discard(key)
                state["running"].add(key)
                for before in befores:
                    before(key, dsk, state)
            elif event.kind == "completed":
                state["running"].discard(key)
                state["finished"].add(key)
                for after in afters:
                    after(key, None, dsk, state, event.node)

        has_failed = True
        for start in starts:
            start(dsk)
        for start in state_starts:
            start(dsk, state)
        try:
            yield on_event
            has_failed = False
        finally:
            for finish in finishes:
                finish(dsk, state, has_failed)
