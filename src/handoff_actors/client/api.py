"""The functions of the module, which use one default session for each event loop."""

import asyncio
import atexit
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload
from weakref import WeakKeyDictionary

from handoff_actors.client.execute_options import (
    ExecuteOptions,
    LocalExecuteOptions,
    OpenRunOptions,
    PipelineOptions,
)
from handoff_actors.client.growing.open_run import OpenRun
from handoff_actors.client.growing.session_calls import AHEAD
from handoff_actors.client.local_node_handle import LocalNodeHandle
from handoff_actors.client.process.blocking import run_blocking
from handoff_actors.client.process.tracebacks import ON_PURPOSE, InsideHidden, hide_inside, inside_hidden
from handoff_actors.client.run import Run, StoredValue
from handoff_actors.client.session import Session
from handoff_actors.graph.argument import Handle
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.subgraph import Subgraph
from handoff_actors.ids import FunctionId, Resources
from handoff_actors.workers.child.loading import check_may_start

if TYPE_CHECKING:
    from handoff_actors.client.streaming.pipeline import Pipeline

ResultT = TypeVar("ResultT")


class _Default:
    """The default session of an event loop. Lives until the loop ends, or until `shutdown`."""

    def __init__(self) -> None:
        self.session = Session()
        self._completion = asyncio.Event()
        self._is_abandoned = False
        # When the loop ends it cancels this task, which then closes the session: hence a task of its own. It must not belong to
        # the function of a worker that happens to be the first: with its tasks the session of all others would be closed.
        loop = asyncio.get_running_loop()
        self._task = Context().run(lambda: loop.create_task(self._live(), name="handoff default session"))

    async def end(self) -> None:
        self._completion.set()
        await self._task

    def abandon(self) -> None:
        self._is_abandoned = True
        # asyncio has no public way to say that a task may be dropped.
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001

    async def _live(self) -> None:
        try:
            await self._completion.wait()
        finally:
            if not self._is_abandoned:
                await self.session.close()


_defaults: WeakKeyDictionary[asyncio.AbstractEventLoop, _Default] = WeakKeyDictionary()


@atexit.register
def _abandon() -> None:
    # A loop that stands still when the process ends, as IPython's does, is never closed, and by now no thread can be
    # started to close anything. Nodes and workers notice the end of the process.
    for loop, default in list(_defaults.items()):
        if not (loop.is_running() or loop.is_closed()):
            default.abandon()


def _session() -> Session:
    loop = asyncio.get_running_loop()
    default = _defaults.get(loop)
    if default is None:
        default = _defaults[loop] = _Default()
    return default.session


@overload
async def call(
    fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
    *args: object,
    **options: Any,
) -> ResultT: ...
@overload
async def call(
    fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
    *args: object,
    **options: Any,
) -> ResultT: ...
@overload
async def call(fn: Callable[..., ResultT | Subgraph[ResultT]], *args: object, **options: Any) -> ResultT: ...
async def call(fn: Callable[..., Any], *args: object, **options: Any) -> Any:
    """Call a function on a node and return its result. `Session.call` has options and errors."""
    try:
        awaited = _session().call_with(fn, args, options)
        # As in `Session.call`.
        del fn, args, options
        return await awaited
    except ON_PURPOSE as error:
        hide_inside(error)
        raise


@overload
def map(  # noqa: A001 - the name that users know
    fn: Callable[..., Coroutine[Any, Any, ResultT | Subgraph[ResultT]]],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    ahead: int = AHEAD,
    **options: Any,
) -> AsyncGenerator[ResultT, None]: ...
@overload
def map(  # noqa: A001 - the name that users know
    fn: Callable[..., Subgraph[ResultT] | Coroutine[Any, Any, Subgraph[ResultT]]],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    ahead: int = AHEAD,
    **options: Any,
) -> AsyncGenerator[ResultT, None]: ...
@overload
def map(  # noqa: A001 - the name that users know
    fn: Callable[..., ResultT | Subgraph[ResultT]],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    ahead: int = AHEAD,
    **options: Any,
) -> AsyncGenerator[ResultT, None]: ...
@overload
def map(  # noqa: A001 - the name that users know
    fn: Callable[..., Any],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: bool,
    ahead: int = AHEAD,
    **options: Any,
) -> AsyncGenerator[Any, None]: ...
def map(  # noqa: A001 - the name that users know
    fn: Callable[..., Any],
    *sources: Iterable[Any] | AsyncIterable[Any],
    ordered: bool = True,
    return_exceptions: bool = False,
    ahead: int = AHEAD,
    **options: Any,
) -> AsyncGenerator[Any, None]:
    """Call a function for each item of a source: `async for y in handoff.map(f, xs)`. `Session.map` has arguments and errors."""
    with InsideHidden():
        return _session().map(
            fn, *sources, ordered=ordered, return_exceptions=return_exceptions, ahead=ahead, **options
        )


def open_run(
    *, session: Session | None = None, max_pending: int | None = None, **options: Unpack[OpenRunOptions]
) -> OpenRun:
    """Return a run to which functions are added while it goes on: `async with handoff.open_run() as run`.

    :param session: Session to use; None: the default one of this event loop.
    :param max_pending: Number of functions that have yet to end at most, as for `Session.open_run`.
    :param options: Options of `Session.open_run`, which has their meanings and the errors raised.
    """
    with InsideHidden():
        return (session or _session()).open_run(max_pending=max_pending, **options)


def stream(dag: DAG, *, session: Session | None = None, **options: Unpack[PipelineOptions]) -> "Pipeline":
    """Return a stream of items through the functions of a DAG: `async with handoff.stream(dag) as pipeline`.

    :param dag: Graph of functions.
    :param session: Session to use; None: the default one of this event loop.
    :param options: Options of `Session.stream`, which has their meanings and the errors raised.
    """
    with InsideHidden():
        return (session or _session()).stream(dag, **options)


@inside_hidden
async def execute_distributed(
    dag: DAG, *, session: Session | None = None, **options: Unpack[ExecuteOptions]
) -> Run:
    """Run a DAG on the nodes of the cluster, and return once it has ended.

    Without a cluster, a node with this machine's cores and memory is started first, in this process.

    :param dag: Graph to run.
    :param session: Session to use; None: the default one of this event loop.
    :param options: Options of `Session.execute_distributed`, which has their meanings and the errors raised.
    """
    return await (session or _session()).execute_distributed(dag, **options)


@inside_hidden
async def execute(dag: DAG, *, session: Session | None = None, **options: Unpack[ExecuteOptions]) -> Run:
    """Do the same as `execute_distributed`."""
    return await execute_distributed(dag, session=session, **options)


@inside_hidden
async def execute_local(
    dag: DAG, *, session: Session | None = None, **options: Unpack[LocalExecuteOptions]
) -> Run:
    """Run a DAG on the node of this process alone, ignoring costs and placements; start that node if there is none.

    :param dag: Graph to run.
    :param session: Session to use; None: the default one of this event loop.
    :param options: Options of `Session.execute_distributed`, which has their meanings and the errors raised; without `nodes`.
    """
    return await (session or _session()).execute_local(dag, **options)


def run_sync(dag: DAG, **options: Unpack[ExecuteOptions]) -> Run:
    """Run a DAG while this thread waits, in a session of its own, which is closed before this returns.

    May be called anywhere. If this thread runs an event loop already, as in a notebook, the loop stands still meanwhile.
    Ctrl-C cancels the run. Results that the run did not fetch (see the option `fetch`) can't be fetched afterwards.

    :param dag: Graph to run.
    :param options: Options of `Session.execute_distributed`, which has their meanings and the errors raised.
    """
    with InsideHidden():
        return run_on(Session(), dag, **options)


def run_on(session: Session, dag: DAG, **options: Unpack[ExecuteOptions]) -> Run:
    """Do the same as `run_sync`, in a session that is opened and closed for it."""
    # Here, as the session may be opened by another thread.
    check_may_start("a run")

    async def main() -> Run:
        async with session:
            return await session.execute_distributed(dag, **options)

    return run_blocking(main())


@inside_hidden
async def register_local_node(
    capabilities: Mapping[str, float],
    *,
    name: str | None = None,
    listen: str | None = None,
    seeds: Sequence[str] = (),
    workers: int | None = None,
    join_wait: float | None = None,
    join_file: str | os.PathLike[str] | None = None,
) -> LocalNodeHandle:
    """Start a node in this process, for the default session. `Session.register_local_node` has arguments and errors.

    :returns: A handle with the node's `name`, `address` and `capabilities`, which can `close` it.
    """
    return await _session().register_local_node(
        capabilities,
        name=name,
        listen=listen,
        seeds=seeds,
        workers=workers,
        join_wait=join_wait,
        join_file=join_file,
    )


@inside_hidden
async def register_node(name: str, capabilities: Mapping[str, float]) -> None:
    """Have a node of the cluster offer other capabilities from now on. `Session.register_node` has arguments and errors."""
    await _session().register_node(name, capabilities)


@inside_hidden
async def discover_nodes() -> dict[str, Resources]:
    """Return the capabilities of every node, by name: cpu in cores, memory in MB, gpu in devices, others in their own units.

    Raises ConnectionFailed, AuthenticationError or VersionMismatch if HANDOFF_SEEDS names a cluster that can't be used.
    """
    return await _session().discover_nodes()


@inside_hidden
async def resources_available(name: str, cost: Mapping[str, float]) -> bool:
    """Return whether a node, as last heard, has `cost` to spare: its capabilities minus all claims. An unknown node has nothing."""
    return await _session().resources_available(name, cost)


@inside_hidden
async def connect(
    seeds: Sequence[str] = (),
    *,
    join_wait: float | None = None,
    join_file: str | os.PathLike[str] | None = None,
) -> None:
    """Use a cluster without offering a node. One seed that answers is enough.

    :param seeds: Addresses of any members, such as "tcp://10.0.0.1:7070".
    :param join_wait: Seconds to wait for one of them to answer. None: those in HANDOFF_JOIN_WAIT, else 0, which is one try of
        5 seconds at most.
    :param join_file: Directory in which nodes started with the same `--join-file` have files, by which they are found.
    :raises InvalidAddressError: A seed is no address.
    :raises ConnectionFailed: No seed answers, and none of the members in the directory.
    :raises HandoffError: The directory can't be used.
    :raises AuthenticationError: The seeds hold another key.
    :raises VersionMismatch: The seeds run a version that can't be talked to.
    :raises ValueError: There is neither a seed nor a directory, or `join_wait` is no number of seconds.
    """
    await _session().connect(seeds, join_wait=join_wait, join_file=join_file)


@overload
async def get_result(
    dag_id: FunctionId,
    function_id: Handle[ResultT],
    timeout: float = ...,  # noqa: ASYNC109 - as asyncio's own
) -> ResultT: ...
@overload
async def get_result(
    dag_id: FunctionId,
    function_id: FunctionId,
    timeout: float = ...,  # noqa: ASYNC109
) -> Any: ...
@inside_hidden
async def get_result(dag_id: FunctionId, function_id: FunctionId, timeout: float = 5.0) -> Any:  # noqa: ASYNC109 - as asyncio's own
    """Return the value of a function as soon as it is done. `Session.get_result` has arguments and errors."""
    return await _session().get_result(dag_id, function_id, timeout)


@inside_hidden
async def put(value: object) -> StoredValue:
    """Place a value on a node once, as an argument of many functions and runs. `Session.put` has the details."""
    return await _session().put(value)


@inside_hidden
async def kept(name: str) -> StoredValue:
    """Return the value that nodes of the cluster keep under a name. `Session.kept` has the details."""
    return await _session().kept(name)


@inside_hidden
async def drop_kept(name: str) -> None:
    """Have all nodes drop the value that they keep under a name. `Session.drop_kept` has the details."""
    await _session().drop_kept(name)


async def shutdown() -> None:
    """Close the default session of this event loop: its runs, its node, its connections. The next call opens another."""
    default = _defaults.pop(asyncio.get_running_loop(), None)
    if default is not None:
        await default.end()
