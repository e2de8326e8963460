"""The session: an app's connection to a cluster, as its user sees it."""

import asyncio
import os
from collections.abc import (
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack
from functools import partial
from pathlib import PurePath
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from msgspec.structs import replace

from handoff_actors.actors.node.host.capabilities import own_capabilities
from handoff_actors.actors.offload import offload
from handoff_actors.addresses import check_seeds, split_address
from handoff_actors.client.calling_session import CallingSession
from handoff_actors.client.execute_options import LocalExecuteOptions
from handoff_actors.client.hub import Hub
from handoff_actors.client.local_node_handle import LocalNodeHandle
from handoff_actors.client.options import (
    RunSettings,
    check_dag,
    check_join_wait,
    check_names,
    check_resources,
    credentials,
    join_file_from_environment,
    join_wait_from_environment,
    modules_of,
    seeds_from_environment,
    with_checked_names,
)
from handoff_actors.client.policy import Policy
from handoff_actors.client.process.tracebacks import inside_hidden
from handoff_actors.client.run import Run, note_run
from handoff_actors.core.backoff import Backoff
from handoff_actors.core.resources import holds
from handoff_actors.core.run.options import MAX_FUNCTIONS, OnFailure
from handoff_actors.display.options import DisplayOptions, OutputOption
from handoff_actors.errors import HandoffError
from handoff_actors.events import OnEvent
from handoff_actors.graph.argument import Handle
from handoff_actors.graph.dag import DAG
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Resources
from handoff_actors.retry_on import RetryOn
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.workers.child.loading import check_may_start
from handoff_actors.workers.child.running_job import is_worker
from handoff_actors.workers.child.surroundings import surroundings

if TYPE_CHECKING:
    from handoff_actors.core.run.explain import Explanation

ResultT = TypeVar("ResultT")


class Session(CallingSession):
    """A connection to a cluster, and the runs that an app has there. Use it with `async with`.

    Runs that go on at the same time share the nodes fairly, within one session and between sessions.
    """

    @with_checked_names
    def __init__(
        self,
        seeds: Sequence[str] | None = None,
        local_node: Mapping[str, float] | None = None,
        *,
        name: str | None = None,
        listen: str | None = None,
        workers: int | None = None,
        join_wait: float | None = None,
        join_file: str | os.PathLike[str] | None = None,
        insecure: bool = False,
        key: str | ClusterKey | None = None,
        on_event: OnEvent | None = None,
        progress: bool | None = None,
        output: OutputOption = None,
        modules_by_value: Sequence[ModuleType | str] = (),
    ) -> None:
        """Take note of the settings; nothing is started before `start`, `async with`, or the first call that needs it.

        Without seeds and without a local node, the first run starts a node in this process, with this machine's cores and
        memory. Within a function it uses the cluster that the function runs on.

        :param seeds: Addresses of any members of the cluster to use, such as "tcp://10.0.0.1:7070". None: those in
            HANDOFF_SEEDS, separated by commas. (): none, even within a function.
        :param local_node: Capabilities of a node to start in this process, as for `register_local_node`; None: no node.
        :param name: Name of that node, as for `register_local_node`.
        :param listen: Address at which that node listens, as for `register_local_node`.
        :param workers: Number of its processes for sync functions, as for `register_local_node`.
        :param join_wait: Seconds to wait for one of the seeds to answer, where none is up yet: they are tried, and their names
            resolved, again and again. None: those in HANDOFF_JOIN_WAIT, else 0, which is one try of 5 seconds at most.
        :param join_file: Directory, on a file system of all machines, in which nodes started with the same `--join-file` have files,
            by which the session finds them, and the cluster's key. None: that of HANDOFF_JOIN_FILE, unless `seeds` are given.
        :param insecure: Use no key at all, and let the node listen anywhere: any process that reaches it can run any code.
            HANDOFF_INSECURE=1 does the same.
        :param key: Key of the cluster, as an object or as text. None: that of HANDOFF_KEY, or of the file that HANDOFF_KEY_FILE
            names, else the user's own key, which is good for this machine only.
        :param on_event: Default for the option `on_event` of each run.
        :param progress: Default for the option `progress` of each run.
        :param output: Default for the option `output` of each run.
        :param modules_by_value: Modules, or their names, whose code is sent along with each run.
        :raises InvalidAddressError: A seed, or `listen`, is no address.
        :raises InvalidKeyError: The key is none, or its file can't be trusted.
        :raises ImportError: A module of `modules_by_value` can't be imported.
        :raises TypeError: `modules_by_value` is no list of modules or names.
        :raises ValueError: `output` is none of its values, or `join_wait` no number of seconds.
        """
        super().__init__()
        self._seeds = seeds_from_environment() if seeds is None else check_seeds(seeds)
        self._join_wait_s = join_wait_from_environment() if join_wait is None else check_join_wait(join_wait)
        self._join_file = join_file_from_environment() if join_file is None and seeds is None else join_file
        is_explicit = self._seeds or self._join_file or local_node or key or insecure
        self._is_implicit = not is_explicit and seeds is None
        self._first_node = None if local_node is None else dict(local_node)
        if listen is not None:
            split_address(listen)
        self._node_name, self._listen, self._workers = name, listen, workers
        self._hub = Hub(
            credentials(key, insecure=insecure),
            DisplayOptions(on_event=on_event, progress=progress, output=output),
            modules_of(modules_by_value),
        )
        self._first_run = asyncio.Lock()
        self._is_left = False

    # --- Life ---------------------------------------------------------------------------------------------------

    @inside_hidden
    async def __aenter__(self) -> Self:
        self._is_left = False
        async with AsyncExitStack() as on_failure:
            on_failure.push_async_callback(self.close)
            await self.start()
            on_failure.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_left = True
        await self.close()

    @inside_hidden
    async def start(self) -> None:
        """Find the cluster and start the local node, as far as the session is to have them. A second call does nothing.

        Raises as `connect` and `register_local_node` do, and HandoffError for a session whose `async with` has ended.
        """
        if self._is_left:
            # Nobody would end what it starts.
            raise HandoffError(
                "the session has ended with its `async with`: use it within, or make another one"
            )
        if self._hub.is_started:
            self._hub.check_process()
            return
        self._hub.start()
        if self._first_node is not None:
            await self.register_local_node(
                self._first_node,
                name=self._node_name,
                listen=self._listen,
                seeds=self._seeds,
                workers=self._workers,
                join_file=self._join_file,
            )
            return
        if self._join_file is not None:
            await self._hub.meet(self._join_file, self._join_wait_s)
        if self._seeds:
            await self.connect(self._seeds)

    async def close(self) -> None:
        """Cancel all runs, leave the cluster, and end the node of this process. Nothing of them is left behind."""
        await self._calls.close()
        await self._hub.close()

    # --- Nodes --------------------------------------------------------------------------------------------------

    @inside_hidden
    async def register_local_node(
        self,
        capabilities: Mapping[str, float],
        *,
        name: str | None = None,
        listen: str | None = None,
        seeds: Sequence[str] = (),
        workers: int | None = None,
        join_wait: float | None = None,
        join_file: str | os.PathLike[str] | None = None,
    ) -> LocalNodeHandle:
        """Start a node in this process. With an address to listen at, or with seeds, other members may use it, too.

        :param capabilities: Resources that it offers: cpu in cores, memory in MB, gpu in devices, others in units of your own.
        :param name: Name of the node, unique in its cluster. None: one made of the host's name.
        :param listen: Address to listen at, such as "tcp://10.0.0.2:7070"; port 0 is any free one. None: on the loopback if
            `seeds` are there, else nowhere.
        :param seeds: Addresses of any members of a cluster to join.
        :param workers: Number of processes that run sync functions. None: one for each core offered.
        :param join_wait: Seconds to wait for one of the seeds to answer. None: those of the session.
        :param join_file: Directory in which members find one another, as for `Session`; without `listen` the node is then
            reachable from other machines.
        :returns: A handle with the node's `name`, `address` and `capabilities`, which can `close` it.
        :raises UnsupportedPlatform: This is not Linux.
        :raises InvalidAddressError: A seed, or `listen`, is no address, or stands for all addresses of this machine.
        :raises HandoffError: There is a node already; or seeds are on other machines, and `listen` is not given.
        :raises InsecureAddressError: The address can be reached from other machines, and there is no cluster key.
        :raises ConnectionFailed: No seed answers.
        :raises AuthenticationError: The seeds hold another key.
        :raises VersionMismatch: The seeds run a version that can't be talked to.
        :raises ValueError: An amount, a name or a time is not allowed.
        :raises OSError: The address, or a directory for values, can't be used.
        """
        check_seeds(seeds)
        if listen is not None:
            split_address(listen)
        join_wait_s = self._join_wait(join_wait)
        await self.start()
        node = await self._hub.start_node(
            check_resources(capabilities), name=name, workers=workers, listen=listen, seeds=seeds,
            join_wait_s=join_wait_s, join_file=join_file,
        )  # fmt: skip
        return LocalNodeHandle(node, self._hub.end_node)

    @inside_hidden
    async def connect(
        self,
        seeds: Sequence[str] = (),
        *,
        join_wait: float | None = None,
        join_file: str | os.PathLike[str] | None = None,
    ) -> None:
        """Use the cluster that any of `seeds` belongs to, without offering a node. One seed that answers is enough.

        :param seeds: Addresses of any members, such as "tcp://10.0.0.1:7070".
        :param join_wait: Seconds to wait for one of them to answer. None: those of the session.
        :param join_file: Directory by which members are found, as for `Session`. The key there is used unless the session was
            given another, or talks to a cluster already.
        :raises InvalidAddressError: A seed is no address.
        :raises ConnectionFailed: No seed answers, and none of the members in the directory.
        :raises HandoffError: The directory can't be used.
        :raises AuthenticationError: The seeds hold another key.
        :raises VersionMismatch: The seeds run a version that can't be talked to.
        :raises ValueError: There is neither a seed nor a directory, or `join_wait` is no number of seconds.
        """
        checked, join_wait_s = check_seeds(seeds), self._join_wait(join_wait)
        if not checked and join_file is None:
            raise ValueError("there is no cluster to connect to: name an address of a member, or a join_file")
        await self.start()
        if join_file is not None:
            await self._hub.meet(join_file, join_wait_s)
        if checked:
            await self._hub.join(checked, join_wait_s)

    @inside_hidden
    async def register_node(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Have a node offer other capabilities from now on. Functions that run there are not touched.

        :param name: Name of any node of the cluster.
        :param capabilities: Resources that it offers from now on, all of them: cpu in cores, memory in MB, gpu in devices.
        :raises HandoffError: There is no node of that name.
        :raises NodeLost: The node has gone meanwhile.
        :raises TimeoutError: The node did not confirm within 5 seconds.
        :raises ValueError: An amount or a name is not allowed.
        """
        await self._ready()
        names = [advert.name for advert in self._hub.adverts()]
        if name not in names:
            raise HandoffError(f"there is no node {name!r}; the nodes there are: {names}")
        await self._hub.declare(name, check_resources(capabilities))

    @inside_hidden
    async def discover_nodes(self) -> dict[str, Resources]:
        """Return the capabilities of every node, by name: cpu in cores, memory in MB, gpu in devices, others in their own units.

        Raises as `connect` does, if HANDOFF_SEEDS names a cluster that can't be used.
        """
        await self._ready()
        return {advert.name: dict(advert.capabilities) for advert in self._hub.adverts()}

    @inside_hidden
    async def resources_available(self, name: str, cost: Mapping[str, float]) -> bool:
        """Return whether a node, as last heard, has `cost` to spare: its capabilities minus all claims. An unknown node has nothing."""
        await self._ready()
        return any(holds(advert.spare, cost) for advert in self._hub.adverts() if advert.name == name)

    # --- Runs ---------------------------------------------------------------------------------------------------

    @inside_hidden
    @with_checked_names
    async def execute_distributed(
        self,
        dag: DAG,
        allocation_strategy: str | Policy = "most_spare",
        max_retries: int = 3,
        max_concurrency: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it ends the run on the nodes, too
        nodes: Collection[str] | None = None,
        fetch: str | Handle[object] | Collection[FunctionId] | None = None,
        on_event: OnEvent | None = None,
        *,
        retry_backoff: Backoff | None = None,
        retry_on: RetryOn = None,
        on_failure: OnFailure = "stop",
        allocation_timeout: float = 10.0,
        journal: str | os.PathLike[str] | None = None,
        on_result: Callable[[FunctionId, Any], object] | None = None,
        progress: bool | None = None,
        output: OutputOption = None,
        env_vars: Mapping[str, str] | None = None,
        working_dir: str | PurePath | None = None,
        modules_by_value: Sequence[ModuleType | str] = (),
        max_functions: int = MAX_FUNCTIONS,
    ) -> Run:
        """Run a DAG on the nodes of the cluster, and on those that join meanwhile, and return once it has ended.

        If the awaiting task is cancelled, so is the run; the cancellation is passed on once all nodes have confirmed that
        nothing of the run is left. Arrays, frames and memoryviews, whatever their size, are read-only for functions that take
        them, and in `Run.results`: change a copy of them.

        :param dag: Graph to run.
        :param allocation_strategy: Rule that chooses nodes: "most_spare", "first_available", "load_balanced", "locality", or an
            object with the method of `Policy`.
        :param max_retries: Number of further attempts for a function that raises.
        :param max_concurrency: Number of functions in flight at most; None: no limit.
        :param timeout: Seconds after which the run ends with RunTimeout; None: never.
        :param nodes: Names of the only nodes to use; None: all.
        :param fetch: "all", or ids or handles of functions, whose results are fetched into the app whatever their size, as those of
            sinks always are. Other large results stay on their nodes until they are fetched.
        :param on_event: Callback for each change of the run, see `OnEvent`.
        :param retry_backoff: Pauses between the attempts of a function, as (first seconds, factor, longest seconds), with
            jitter; None: no pauses.
        :param retry_on: Exceptions that allow further attempts: a class or a tuple of classes, as an `except` clause has them, or a
            function that is given the exception, in the worker that raised it; a time limit is a TimeoutError. None: all but those
            that another attempt can't change: TypeError, NameError, AttributeError, ImportError, SyntaxError,
            NotImplementedError and AssertionError.
        :param on_failure: "stop": the first function that fails for good ends the run, and its error is raised, with what was done
            until then as its `run`. "continue": only the functions that depend on it don't run; everything else does, and
            `Run.failures` has the errors.
        :param allocation_timeout: Seconds to wait for a node that could hold a function, where none does.
        :param journal: Path of a file that records results. Results that it has already, of the same functions, are used, and
            these functions don't run again.
        :param on_result: Callback for the id and the value of each result, once it is in the app.
        :param progress: Show progress: True at once and anywhere, False never, None on a terminal once the run lasts.
        :param output: Show lines that functions print or log; False: don't. Control characters in them are shown as
            `repr` shows them, except for newlines, tabs and colours; "raw" shows lines as they were printed.
        :param env_vars: Environment variables that functions run with.
        :param working_dir: Directory that functions run in and can import from: a path on each node, or a directory here,
            which is sent to nodes that lack it.
        :param modules_by_value: Modules, or their names, whose code is sent along, so that nodes need not have them.
        :param max_functions: Number of functions that functions of the run may add with `Subgraph`, altogether; in an open run,
            that each function of the app may add, with all that those add.
        :raises DagError: The graph is invalid.
        :raises UnsupportedPlatform: There is no cluster, and this is not Linux.
        :raises AllocationError: No node could ever hold a function, for `allocation_timeout` seconds.
        :raises FunctionFailed: A function has raised at each attempt; the cause is its own exception.
        :raises WorkerDied: A function has ended its worker process at each attempt.
        :raises TooManyFunctions: Functions have added more than `max_functions` functions.
        :raises NodeLost: The run needs a node, or a result on one, that is gone.
        :raises RunTimeout: `timeout` is over.
        :raises SerializationError: Code, an argument or a result can't be pickled, or not be loaded elsewhere.
        :raises EnvironmentFailed: A working directory can't be had on a node.
        :raises JournalError: The journal can't be used.
        :raises ValueError: An option has a value that is not allowed.
        :raises TypeError: An option has a type that is not allowed.
        :raises ImportError: A module of `modules_by_value` can't be imported.
        """
        settings = RunSettings(
            allocation_strategy=allocation_strategy, max_retries=max_retries, max_concurrency=max_concurrency,
            timeout=timeout, nodes=nodes, fetch=fetch, on_event=on_event, retry_backoff=retry_backoff,
            retry_on=retry_on, on_failure=on_failure, allocation_timeout=allocation_timeout, journal=journal,
            on_result=on_result, progress=progress, output=output, env_vars=env_vars, working_dir=working_dir,
            modules_by_value=modules_by_value, max_functions=max_functions,
        )  # fmt: skip
        return await self._execute(dag, settings)

    @inside_hidden
    async def execute_local(self, dag: DAG, **options: Unpack[LocalExecuteOptions]) -> Run:
        """Run a DAG on the node of this process alone, ignoring costs and placements; start that node if there is none.

        Options and errors are those of `execute_distributed`, without `nodes`.
        """
        check_names("execute_local", options, LocalExecuteOptions.__annotations__)
        return await self._execute(dag, RunSettings(**options, nodes=None), local=True)

    @overload
    async def get_result(
        self,
        dag_id: FunctionId,
        function_id: Handle[ResultT],
        timeout: float = ...,  # noqa: ASYNC109 - as asyncio's own
    ) -> ResultT: ...
    @overload
    async def get_result(
        self,
        dag_id: FunctionId,
        function_id: FunctionId,
        timeout: float = ...,  # noqa: ASYNC109
    ) -> Any: ...
    @inside_hidden
    async def get_result(self, dag_id: FunctionId, function_id: FunctionId, timeout: float = 5.0) -> Any:  # noqa: ASYNC109 - as asyncio's own
        """Return the value of a function as soon as it is done, of the latest run of a DAG in this session.

        :param dag_id: Id of the DAG. Its run has to be going on, or its `Run` still be referred to.
        :param function_id: Id of the function, or its handle.
        :param timeout: Seconds to wait at most.
        :raises KeyError: There is no such run or function, or no such result any more.
        :raises TimeoutError: The function is not done in time.
        """
        self._hub.check_process()
        return await self._hub.runs.result(dag_id, function_id, timeout)

    def explain(self, dag_id: FunctionId) -> "list[Explanation]":
        """Return why each function that is not done is where it is, over all runs of a DAG that are going on in this session."""
        self._hub.check_process()
        return self._hub.runs.explain(dag_id)

    async def _execute(self, dag: DAG, settings: RunSettings, *, local: bool = False) -> Run:
        check_dag(dag)
        check_may_start("a run")
        self._hub.check_process()
        closings = self._hub.closings
        plan = await offload(len(dag.functions), partial(Plan.compile, dag, local=local))
        self._hub.check_not_closed_since(closings)
        await self._ready(local=local)
        self._hub.check_not_closed_since(closings)
        if local:
            node = self._hub.node or await self.register_local_node(own_capabilities())
            settings = replace(settings, nodes=[node.name])
        run = await self._hub.runs.execute(plan, settings, nodes_may_join=self._hub.is_in_cluster)
        note_run(dag, run)
        return run

    def _join_wait(self, seconds: float | None) -> float:
        return self._join_wait_s if seconds is None else check_join_wait(seconds)

    @property
    def _is_within_cluster(self) -> bool:
        """True if the session is to use the cluster of the node whose worker this process is."""
        return self._is_implicit and is_worker()

    async def _ready(self, *, local: bool = False) -> None:
        """Start the session, and a node of this process where there is no other; wait until some node can be used."""
        await self.start()
        async with self._first_run:
            await self._hub.replace_crashed_node()
            if self._hub.node is None and not self._hub.is_in_cluster:
                around = None
                if self._is_within_cluster and not local:
                    around = await asyncio.to_thread(surroundings)
                if around is None:
                    await self.register_local_node(own_capabilities())
                else:
                    await self._hub.join_surroundings(around)
        await self._hub.wait_for_any()

    def received_bytes(self) -> int:
        """Return how many bytes this process has received over sockets, in messages and values, by the links that exist now."""
        return self._hub.received_bytes()

    def __repr__(self) -> str:
        state = self._hub.standing()
        return f"<Session: {state if isinstance(state, str) else state.text()}>"

    def _repr_html_(self) -> str:
        from handoff_actors.client.html_forms import session_form  # noqa: PLC0415 - few programs are notebooks

        return session_form(self._hub.standing())
