"""The verbs of the module, over a default session that each event loop has."""

import asyncio
import atexit
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import PurePath
from types import ModuleType
from typing import Any, TypedDict, Unpack
from weakref import WeakKeyDictionary

from handoff_actors.client.blocking import run_blocking
from handoff_actors.client.local_node_handle import LocalNodeHandle
from handoff_actors.client.policy import Policy
from handoff_actors.client.run import Run
from handoff_actors.client.session import Session
from handoff_actors.core.run.retries import Backoff
from handoff_actors.display.options import OutputOption
from handoff_actors.events import OnEvent
from handoff_actors.graph.dag import DAG
from handoff_actors.ids import FunctionId, Resources


class ExecuteOptions(TypedDict, total=False):
    """The options of `Session.execute_distributed`, which says what they mean."""

    allocation_strategy: str | Policy
    max_retries: int
    max_concurrency: int | None
    timeout: float | None
    nodes: Collection[str] | None
    fetch: str | Collection[FunctionId] | None
    on_event: OnEvent | None
    retry_backoff: Backoff | None
    allocation_timeout: float
    journal: str | os.PathLike[str] | None
    on_result: Callable[[FunctionId, Any], object] | None
    progress: bool | None
    output: OutputOption
    env_vars: Mapping[str, str] | None
    working_dir: str | PurePath | None
    modules_by_value: Sequence[ModuleType | str]


class _Default:
    """A session that lives until its loop ends, or until `shutdown`."""

    def __init__(self) -> None:
        self.session = Session()
        self._completion = asyncio.Event()
        self._is_abandoned = False
        # When the loop ends it cancels this task, which then closes the session: hence a task of its own.
        self._task = asyncio.get_running_loop().create_task(self._live(), name="handoff default session")

    async def end(self) -> None:
        self._completion.set()
        await self._task

    def abandon(self) -> None:
        self._is_abandoned = True
        # asyncio has no public way to say that nobody will miss a task.
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
    # A loop that stands still when the process ends, as IPython's does, is closed by nobody, and by now threads can't be
    # started any more to close anything. Nodes and workers notice the end of the process.
    for loop, default in list(_defaults.items()):
        if not (loop.is_running() or loop.is_closed()):
            default.abandon()


def _session() -> Session:
    loop = asyncio.get_running_loop()
    default = _defaults.get(loop)
    if default is None:
        default = _defaults[loop] = _Default()
    return default.session


async def execute_distributed(
    dag: DAG, *, session: Session | None = None, **options: Unpack[ExecuteOptions]
) -> Run:
    """Run a DAG on the nodes there are. See `Session.execute_distributed` for options and errors.

    With nothing registered and nothing configured, a node with this machine's cores and memory is started first.
    """
    return await (session or _session()).execute_distributed(dag, **options)


async def execute(dag: DAG, *, session: Session | None = None, **options: Unpack[ExecuteOptions]) -> Run:
    """Do the same as `execute_distributed`."""
    return await execute_distributed(dag, session=session, **options)


async def execute_local(
    dag: DAG, *, session: Session | None = None, **options: Unpack[ExecuteOptions]
) -> Run:
    """Run a DAG on this process's own node alone; costs and placements are ignored.

    See `Session.execute_distributed` for options and errors.
    """
    return await (session or _session()).execute_local(dag, **options)


def run_sync(dag: DAG, **options: Unpack[ExecuteOptions]) -> Run:
    """Run a DAG while this thread waits, and end everything that was started for it.

    It does so from anywhere; where this thread runs a loop already, as in a notebook, that stands still meanwhile. Results
    that were not brought home (see `fetch`) are gone when it returns. See `Session.execute_distributed` for options and
    errors; Ctrl-C cancels the run.
    """
    return run_on(Session(), dag, **options)


def run_on(session: Session, dag: DAG, **options: Unpack[ExecuteOptions]) -> Run:
    """Do the same as `run_sync`, on a session that is opened and closed for it."""

    async def main() -> Run:
        async with session:
            return await session.execute_distributed(dag, **options)

    return run_blocking(main())


async def register_local_node(
    capabilities: Mapping[str, float],
    *,
    name: str | None = None,
    listen: str | None = None,
    seeds: Sequence[str] = (),
    workers: int | None = None,
) -> LocalNodeHandle:
    """Have a node in this process that offers `capabilities`: cpu in cores, memory in MB, gpu in devices, any other name.

    The answer has its `name` and `address`. See `Session.register_local_node` for the other arguments and for errors.
    """
    return await _session().register_local_node(
        capabilities, name=name, listen=listen, seeds=seeds, workers=workers
    )


async def register_node(name: str, capabilities: Mapping[str, float]) -> None:
    """Have a member of the cluster offer other `capabilities` from now on; what runs there is not touched.

    Raises HandoffError if there is no node of that name, TimeoutError if it does not say so within 5 seconds.
    """
    await _session().register_node(name, capabilities)


async def discover_nodes() -> dict[str, Resources]:
    """The capabilities of every node, by name: cpu in cores, memory in MB, gpu in devices, others in units of their own.

    Raises ConnectionFailed, AuthenticationError, VersionMismatch if HANDOFF_SEEDS names a cluster that can't be had.
    """
    return await _session().discover_nodes()


async def resources_available(name: str, cost: Mapping[str, float]) -> bool:
    """Whether a node, as last heard, has `cost` to spare: its capabilities less what runs there. An unknown one has nothing."""
    return await _session().resources_available(name, cost)


async def connect(seeds: Sequence[str]) -> None:
    """Use a cluster without offering a node, by the addresses of any members, such as "tcp://10.0.0.1:7070".

    One that answers is enough. Raises ConnectionFailed, AuthenticationError, VersionMismatch.
    """
    await _session().connect(seeds)


async def get_result(dag_id: FunctionId, function_id: FunctionId, timeout: float = 5.0) -> Any:  # noqa: ASYNC109 - as asyncio's own
    """The value of one function of a run that goes on, or is still referred to, within `timeout` seconds.

    Raises KeyError if there is no such run or function, TimeoutError.
    """
    return await _session().get_result(dag_id, function_id, timeout)


async def shutdown() -> None:
    """End the default session of this loop: its runs, its node, its connections. The next call starts another."""
    default = _defaults.pop(asyncio.get_running_loop(), None)
    if default is not None:
        await default.end()
