"""An app's door to a cluster: its own node if it has one, the nodes that it uses, and its runs."""

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import PurePath
from types import ModuleType, TracebackType
from typing import Any, Self

from handoff_actors.actors.node.capabilities import own_capabilities
from handoff_actors.actors.offload import offload
from handoff_actors.client.hub import Hub
from handoff_actors.client.local_node_handle import LocalNodeHandle
from handoff_actors.client.options import (
    RunSettings,
    check_resources,
    credentials,
    modules_of,
    seeds_from_environment,
)
from handoff_actors.client.policy import Policy
from handoff_actors.client.run import Run
from handoff_actors.core.resources import holds
from handoff_actors.core.run.explain import Explanation
from handoff_actors.core.run.retries import Backoff
from handoff_actors.display.options import DisplayOptions, OutputOption
from handoff_actors.errors import HandoffError
from handoff_actors.events import OnEvent
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Resources
from handoff_actors.transport.keys import ClusterKey

log = logging.getLogger(__name__)

#: How long `close` waits for nodes to confirm that what was running has stopped.
CLOSE_S = 5.0
REDECLARE_S = 5.0


class Session:
    """Use with `async with`. Runs of one session share its nodes fairly, with one another and with other sessions."""

    def __init__(
        self,
        seeds: Sequence[str] | None = None,
        local_node: Mapping[str, float] | None = None,
        *,
        name: str | None = None,
        listen: str | None = None,
        workers: int | None = None,
        insecure: bool = False,
        key: str | ClusterKey | None = None,
        on_event: OnEvent | None = None,
        progress: bool | None = None,
        output: OutputOption = None,
        modules_by_value: Sequence[ModuleType | str] = (),
    ) -> None:
        """Use the cluster that any of `seeds` (as "tcp://10.0.0.1:7070") belongs to, and have a node in this process.

        Without seeds, HANDOFF_SEEDS names them, separated by commas; without either, a node with this machine's cores and
        memory is started for the first run. `local_node`, `name`, `listen` and `workers` are as for `register_local_node`;
        `key` is the cluster's, as an object or as text, else that of HANDOFF_KEY or of the file that HANDOFF_KEY_FILE names,
        else this user's own, for this machine only. `insecure`, or HANDOFF_INSECURE=1, does without any, and lets the node
        listen anywhere: whoever reaches it can run any code. `on_event`, `progress` and `output` are for runs that
        don't say otherwise, `modules_by_value` for every run. Raises InvalidKeyError, ImportError, TypeError, ValueError.
        """
        self._seeds = seeds_from_environment() if seeds is None else tuple(seeds)
        self._first_node = None if local_node is None else dict(local_node)
        self._node_name, self._listen, self._workers = name, listen, workers
        self._hub = Hub(
            credentials(key, insecure=insecure),
            DisplayOptions(on_event, progress, output),
            modules_of(modules_by_value),
        )
        self._first_run = asyncio.Lock()

    # --- Life ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as on_failure:
            on_failure.push_async_callback(self.close)
            await self.start()
            on_failure.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Find the cluster, and start the node, if the session is to have them.

        Raises ConnectionFailed, AuthenticationError, VersionMismatch.
        """
        if self._hub.is_started:
            return
        self._hub.start()
        if self._first_node is not None:
            await self.register_local_node(
                self._first_node,
                name=self._node_name,
                listen=self._listen,
                seeds=self._seeds,
                workers=self._workers,
            )
        elif self._seeds:
            await self.connect(self._seeds)

    async def close(self) -> None:
        """Cancel what runs, leave the cluster, end the node of this process. Nothing is left behind."""
        await self._hub.close()

    # --- Nodes --------------------------------------------------------------------------------------------------

    async def register_local_node(
        self,
        capabilities: Mapping[str, float],
        *,
        name: str | None = None,
        listen: str | None = None,
        seeds: Sequence[str] = (),
        workers: int | None = None,
    ) -> LocalNodeHandle:
        """Have a node in this process, offering `capabilities` (cpu in cores, memory in MB, gpu in devices, others).

        With an address to `listen` at, or `seeds`, it serves the cluster, too, where its `name` must be unique. `workers`
        processes run sync functions; as many as cores unless given. The answer has `name` and `address`. Raises HandoffError
        if there is one already, InsecureAddressError, ConnectionFailed, AuthenticationError, VersionMismatch, ValueError, OSError.
        """
        await self.start()
        node = await self._hub.start_node(
            check_resources(capabilities), name=name, workers=workers, listen=listen, seeds=seeds
        )
        return LocalNodeHandle(node, self._hub.end_node)

    async def connect(self, seeds: Sequence[str]) -> None:
        """Use the cluster that any of `seeds` belongs to; one that answers is enough.

        Raises ConnectionFailed, AuthenticationError, VersionMismatch.
        """
        await self.start()
        await self._hub.join(seeds)

    async def register_node(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Have a member offer other `capabilities` from now on. Raises HandoffError for an unknown one, TimeoutError after 5 s."""
        await self._ready()
        names = [advert.name for advert in self._hub.adverts()]
        if name not in names:
            raise HandoffError(f"there is no node {name!r}; the nodes there are: {names}")
        await self._hub.declare(name, check_resources(capabilities))

    async def discover_nodes(self) -> dict[str, Resources]:
        """The capabilities of every node, by name: cpu in cores, memory in MB, gpu in devices, others in units of their own."""
        await self._ready()
        return {advert.name: dict(advert.capabilities) for advert in self._hub.adverts()}

    async def resources_available(self, name: str, cost: Mapping[str, float]) -> bool:
        """Whether a node, as last heard, has `cost` to spare. An unknown node has nothing."""
        await self._ready()
        return any(holds(advert.spare, cost) for advert in self._hub.adverts() if advert.name == name)

    # --- Runs ---------------------------------------------------------------------------------------------------

    async def execute_distributed(
        self,
        dag: DAG,
        allocation_strategy: str | Policy = "most_spare",
        max_retries: int = 3,
        max_concurrency: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it ends the run on the nodes, too
        nodes: Collection[str] | None = None,
        fetch: str | Collection[FunctionId] | None = None,
        on_event: OnEvent | None = None,
        *,
        retry_backoff: Backoff | None = None,
        allocation_timeout: float = 10.0,
        journal: str | os.PathLike[str] | None = None,
        on_result: Callable[[FunctionId, Any], object] | None = None,
        progress: bool | None = None,
        output: OutputOption = None,
        env_vars: Mapping[str, str] | None = None,
        working_dir: str | PurePath | None = None,
        modules_by_value: Sequence[ModuleType | str] = (),
    ) -> Run:
        """Run a DAG on the nodes there are, and on those that join meanwhile.

        `allocation_strategy` is "most_spare", "first_available", "load_balanced", "locality", or an object with the
        method of `Policy`. A function that raises is tried `max_retries` more times, after pauses of `retry_backoff`
        (first seconds, factor, longest seconds, with jitter). At most `max_concurrency` functions are in flight. The run
        ends after `timeout` seconds. Only `nodes` are used, if given. The results of sinks are brought home whatever
        their size, and those of `fetch`, which may be "all". `on_result` is called with id and value once a value is
        home. What is done is recorded in the file `journal`, and what that has already of the same functions is not run
        again.

        `on_event` is called, or awaited, with each change: see `handoff.events`. `progress` shows how far the run is: None on a
        terminal once it lasts, True at once and anywhere, False never. What functions print and log comes home, unless
        `output` is False. Control characters are shown as `repr` shows them, but for newlines, tabs and colours; `output="raw"`
        leaves lines as they were printed.

        Functions run with the environment variables `env_vars`, and in `working_dir`, from which they can import: a path on
        each node, or a directory here that is sent to nodes which lack it. Code of `modules_by_value`, modules or their
        names, goes along; nodes need not have them.

        Raises DagError, AllocationError (after `allocation_timeout` seconds), FunctionFailed from the user's own
        exception, WorkerDied, NodeLost, RunTimeout, SerializationError, EnvironmentFailed, JournalError. If the awaiting
        task is cancelled, so is the run, and the cancellation is passed on once all nodes have confirmed that nothing of
        it is left.
        """
        plan = await offload(len(dag.functions), partial(Plan.compile, dag))
        how = (allocation_strategy, max_retries, max_concurrency, timeout, fetch)
        seen = (on_event, progress, output)
        surroundings = (env_vars, working_dir, modules_by_value)
        settings = RunSettings(
            *how, retry_backoff, allocation_timeout, journal, on_result, *seen, *surroundings
        )
        return await self._execute(plan, settings, nodes)

    async def execute_local(self, dag: DAG, **options: Any) -> Run:
        """Run a DAG on this process's own node alone; costs and placements are ignored. Otherwise as `execute_distributed`."""
        plan = await offload(len(dag.functions), partial(Plan.compile, dag, local=True))
        await self._ready()
        node = self._hub.node or await self.register_local_node(own_capabilities())
        return await self._execute(plan, RunSettings(**options), [node.name])

    async def get_result(self, dag_id: FunctionId, function_id: FunctionId, timeout: float = 5.0) -> Any:  # noqa: ASYNC109 - as asyncio's own
        """The value of a function of a run that goes on, or that is still referred to.

        Raises KeyError if there is no such run or function, TimeoutError after `timeout` seconds.
        """
        return await self._hub.runs.result(dag_id, function_id, timeout)

    def explain(self, dag_id: FunctionId) -> list[Explanation]:
        """Why each function that is not done is where it is, over all runs of a DAG that go on in this session."""
        return self._hub.runs.explain(dag_id)

    async def _execute(self, plan: Plan, settings: RunSettings, nodes: Collection[str] | None) -> Run:
        await self._ready()
        may_join = self._hub.is_in_cluster
        return await self._hub.runs.execute(plan, settings, nodes, nodes_may_join=may_join)

    async def _ready(self) -> None:
        """Start what has not been started, a node of this process's own where there is nothing else."""
        await self.start()
        async with self._first_run:
            if self._hub.node is None and not self._hub.is_in_cluster:
                await self.register_local_node(own_capabilities())
        await self._hub.reached()

    def received_bytes(self) -> int:
        """Bytes that have come into this process over sockets, in messages and values, by the links that there are."""
        return self._hub.received_bytes()
