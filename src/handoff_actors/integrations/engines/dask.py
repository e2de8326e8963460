"""`on_dask`: a session whose nodes are on the workers of a Dask cluster."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from pickle import loads
from typing import TYPE_CHECKING, Any, Final, Unpack

from msgspec import Struct

from handoff_actors.client.options import check_resources
from handoff_actors.client.session import Session
from handoff_actors.errors import HandoffError, VersionMismatch
from handoff_actors.extras import how_to_install
from handoff_actors.ids import Resources
from handoff_actors.integrations.engines.dask_cluster import (
    DaskClientClosed,
    DaskCluster,
    DaskTaskFailed,
    DaskWorker,
)
from handoff_actors.integrations.engines.dask_worker import (
    NodeReport,
    WorkerFacts,
    as_task,
    end_nodes,
    hand_over,
    keep_node,
    look,
    report,
)
from handoff_actors.integrations.engines.lending import LentNodes, LentSessionOptions, session_on
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.text import repr_of
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.versions import VERSION

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

#: Ask this often which workers there are.
_PERIOD_S: Final = 1.0
#: Pauses between the looks whether others have claimed the resources that a node waits for.
_CLAIM_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
#: Wait this long for workers to confirm that nothing is left.
_END_S: Final = 15.0
#: Pauses before a node that has ended by itself is started again.
_PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
#: Errors of workers whose installation differs from this process's.
_NOT_THERE: Final = ("ImportError", "ModuleNotFoundError", "AttributeError")
#: Dask's usual name, and the one that functions claim.
_GPU: Final = "GPU"
_OWN_NAMES: Final = {_GPU: "gpu"}


@asynccontextmanager
async def on_dask(
    client: "Client",
    *,
    workers: Collection[str | int] | None = None,
    cpu: float | None = None,
    memory: float | None = None,
    resources: Collection[str] = (_GPU,),
    start_timeout: float = 60.0,
    **options: Unpack[LentSessionOptions],
) -> AsyncIterator[Session]:
    """Use the machines of a Dask cluster for runs: each worker, and each that comes later, has a node while the block lasts.

    For each worker there is a long task, which starts the node as a child process of the worker. It takes none of the worker's
    threads, so Dask's own tasks go on beside the session's functions; it claims the worker's GPUs; and adaptive clusters don't
    close workers that have such a task. When the block ends, however it does, or this process dies, nothing is left.

    :param client: A `distributed.Client`, synchronous or asynchronous, in this thread or another.
    :param workers: Addresses or names of the only workers to use; None: all.
    :param cpu: Cores that each node offers; None: as many as its worker has threads.
    :param memory: MB that each node offers; None: the memory limit of its worker.
    :param resources: Names of workers' resources that nodes claim, as far as they are free, and offer to functions: "GPU" as
        gpu, others under their own names. Dask's tasks that need them wait until the block ends. (): none.
    :param start_timeout: Seconds to wait for the first node. A worker has to have a free thread for a moment.
    :param options: Further options of `Session`: on_event, progress, output, modules_by_value.
    :returns: A context manager for `async with`, which gives the session. It has a key of its own.
    :raises HandoffError: No worker has a node in time, or one of those that are there can't have one.
    :raises VersionMismatch: A worker has a version of this library, or of Python, that can't be used.
    :raises ImportError: Dask's `distributed` is not installed here.
    :raises TypeError: `client` is no `distributed.Client`.
    :raises ValueError: An amount is not allowed.
    """
    _check_client(client)
    given = {"cpu": cpu, "memory": memory}
    offer = check_resources({name: amount for name, amount in given.items() if amount is not None})
    cluster = DaskCluster(client)
    cluster.check()
    only = None if workers is None else frozenset(map(str, workers))
    engine = _DaskEngine(cluster, only, offer, frozenset(resources))
    async with session_on(engine, start_timeout, **options) as session:
        yield session


class _Tasks(Struct, eq=False):
    """The tasks of a node that has been ordered."""

    node: str
    worker: str
    #: Of the task that keeps the node.
    keeping: "list[Future[Any]]"
    #: Of the task that reports on it.
    reporting: "list[Future[Any]]"


class _DaskEngine:
    """See Engine."""

    name = "Dask"
    hint = "their threads run other tasks of Dask's, which the start of a node waits for"

    def __init__(
        self, cluster: DaskCluster, only: frozenset[str] | None, offer: Resources, claimed: frozenset[str]
    ) -> None:
        self._cluster = cluster
        self._only = only
        self._offer = offer
        self._claimed = claimed
        self._nodes: LentNodes
        #: Addresses of workers that are there.
        self._known: frozenset[str] = frozenset()
        #: By the addresses of those that are used.
        self._lending: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[_Tasks] = set()
        #: A task that any worker may run.
        self._wish: list[Future[Any]] = []

    async def lend(self, nodes: LentNodes) -> None:
        """See Engine."""
        self._nodes = nodes
        try:
            async with asyncio.TaskGroup() as tasks:
                lost = await self._follow(tasks)
                for lending in self._lending.values():
                    lending.cancel()
        finally:
            await self._end_all()
        raise lost

    # --- Workers that come and go -------------------------------------------------------------------------------

    async def _follow(self, tasks: asyncio.TaskGroup) -> HandoffError:
        """Have a node on each worker. Returns the error once the client can't be used any more."""
        was_connected = True
        while True:
            try:
                # The client tries to connect again, and says when it has given up.
                with suppress(OSError):
                    await self._look_for_workers(tasks)
                is_connected = self._cluster.is_connected()
            except HandoffError as error:
                return error
            if was_connected and not is_connected:
                log.warning("the Dask client has lost its scheduler, with which workers end")
            was_connected = is_connected
            await asyncio.sleep(_PERIOD_S)

    async def _look_for_workers(self, tasks: asyncio.TaskGroup) -> None:
        there = await self._cluster.addresses()
        for address in self._known - there:
            await self._forget(address)
        await self._want_any(is_there=bool(there))
        if there <= self._known:
            return
        workers = [worker for worker in await self._cluster.workers() if worker.address not in self._known]
        self._known |= {worker.address for worker in workers}
        chosen = [worker for worker in workers if self._is_chosen(worker)]
        if not (chosen or self._lending):
            log.warning(
                "none of the workers asked for is there",
                extra={"wanted": sorted(self._only or ()), "there": [str(worker) for worker in workers]},
            )
        for worker in chosen:
            self._nodes.expect(worker.address)
        for worker in chosen:
            self._lending[worker.address] = tasks.create_task(self._lend_on(worker), name="lending a worker")

    async def _want_any(self, *, is_there: bool) -> None:
        """Have a task wait while there is no worker: an adaptive cluster starts one for it."""
        if is_there and self._wish:
            await self._cluster.cancel([self._wish])
        elif not (is_there or self._wish):
            await self._cluster.submit(_key("worker"), None, str, claims={}, into=self._wish)

    def _is_chosen(self, worker: DaskWorker) -> bool:
        return self._only is None or not self._only.isdisjoint((worker.address, worker.name))

    async def _forget(self, address: str) -> None:
        self._known -= {address}
        if (lending := self._lending.pop(address, None)) is not None:
            lending.cancel()
            self._nodes.gone(address)
        orphans = [tasks for tasks in self._tasks if tasks.worker == address]
        self._tasks.difference_update(orphans)
        # Else they would wait for a worker at this address for ever.
        await self._cluster.cancel(_futures(orphans))

    # --- One worker ---------------------------------------------------------------------------------------------

    async def _lend_on(self, worker: DaskWorker) -> None:
        """Keep a node on a worker, again if it ends by itself."""
        for pause_s in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
            try:
                if not await self._have_node(worker):
                    return
            except DaskClientClosed:
                # Whoever looks for workers says so once for all of them.
                return
            except HandoffError as error:
                if isinstance(error, DaskTaskFailed):
                    # So do those of a worker that has died, which ends this task in a moment.
                    await asyncio.sleep(2 * _PERIOD_S)
                self._nodes.failed(worker.address, error)
                return
            except OSError as error:
                # It is perhaps gone, which the scheduler knows in a moment.
                log.debug("a Dask worker doesn't answer", extra={"reason": str(error)})
            self._nodes.gone(worker.address)
            await asyncio.sleep(pause_s)
            self._nodes.expect(worker.address)

    async def _have_node(self, worker: DaskWorker) -> bool:
        """Have a node on a worker until it ends; return False at once if this process can't use it.

        Raises HandoffError if there can't be one, OSError if the worker doesn't answer.
        """
        tasks, said = await self._started(worker)
        if said is not None and said[0] == "failed":
            raise HandoffError(f"no node can be started on Dask worker {worker}: {said[1]}")
        is_usable = True
        if said is not None and said[0] == "serves":
            is_usable = await self._nodes.serves(worker.address, said[1])
            if is_usable:
                await self._cluster.result(tasks.keeping[0])
                log.warning(
                    "the node on a worker has ended", extra={"worker": str(worker), "node": tasks.node}
                )
        await self._end([tasks])
        return is_usable

    async def _started(self, worker: DaskWorker) -> tuple[_Tasks, NodeReport | None]:
        """Start a node on a worker, and return the report on it; None if its tasks have been cancelled."""
        while True:
            facts = await self._facts(worker)
            _check_versions(worker, facts)
            claims = self._claims(worker, facts)
            tasks = await self._order(worker, facts, claims)
            if not await self._is_outrun(worker, tasks, claims):
                said: NodeReport | None = await self._cluster.result(tasks.reporting[0])
                # Dask would keep the result as long as the node runs.
                await self._cluster.cancel([tasks.reporting])
                return tasks, said
            await self._end([tasks])

    async def _facts(self, worker: DaskWorker) -> WorkerFacts:
        answer: WorkerFacts | Exception | None = (await self._cluster.call([worker.address], look)).get(
            worker.address
        )
        match answer:
            case dict():
                return answer
            case OSError():
                raise answer
            case _:
                raise HandoffError(_why_not(worker, repr(answer)))

    def _claims(self, worker: DaskWorker, facts: WorkerFacts) -> Resources:
        """The resources of a worker to claim: those that nobody else has."""
        offered = {name: amount for name, amount in worker.resources.items() if name in self._claimed}
        free = {name: min(amount, facts["available"].get(name, 0)) for name, amount in offered.items()}
        if free != offered:
            log.warning(
                "others have claimed resources of a worker, which its node doesn't offer",
                extra={"worker": str(worker), "offered": free},
            )
        return {name: amount for name, amount in free.items() if amount > 0}

    async def _order(self, worker: DaskWorker, facts: WorkerFacts, claims: Resources) -> _Tasks:
        usual = {"cpu": float(facts["nthreads"]), "memory": facts["memory_mb"]}
        capabilities = usual | self._offer | {_OWN_NAMES.get(name, name): claims[name] for name in claims}
        order = self._nodes.order(worker.address, worker.label, capabilities, worker.host)
        tasks = _Tasks(order.name, worker.address, [], [])
        self._tasks.add(tasks)
        await self._cluster.call([worker.address], hand_over, order)
        for purpose, function, claimed, into in (
            ("node", keep_node, claims, tasks.keeping),
            ("report", report, {}, tasks.reporting),
        ):
            task = as_task(function, order.name)
            await self._cluster.submit(_key(purpose), worker.address, loads, task, claims=claimed, into=into)
        return tasks

    async def _is_outrun(self, worker: DaskWorker, tasks: _Tasks, claims: Resources) -> bool:
        """Return True if others have claimed resources before the node could; it would wait for as long as they have them."""
        for limit_s in _CLAIM_S if claims else ():
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._cluster.result(tasks.reporting[0])
                    return False
            facts = await self._facts(worker)
            is_short = any(facts["available"].get(name, 0) < amount for name, amount in claims.items())
            if is_short and tasks.node not in facts["kept"]:
                return True
        return False

    # --- The end ------------------------------------------------------------------------------------------------

    async def _end_all(self) -> None:
        try:
            async with asyncio.timeout(_END_S if self._cluster.is_connected() else 0):
                await self._cluster.cancel([self._wish])
                await self._end(list(self._tasks))
        except (TimeoutError, OSError, HandoffError) as error:
            # They end once their workers hear that the tasks are not wanted any more, or end themselves.
            log.warning(
                "Dask workers have not confirmed that their nodes have ended", extra={"reason": str(error)}
            )

    async def _end(self, ending: Collection[_Tasks]) -> None:
        if not ending:
            return
        await self._cluster.cancel(_futures(ending))
        there = await self._cluster.addresses()
        workers = [tasks.worker for tasks in ending if tasks.worker in there]
        await self._cluster.call(workers, end_nodes, [tasks.node for tasks in ending])
        self._tasks.difference_update(ending)


def _futures(ordered: Collection[_Tasks]) -> "list[list[Future[Any]]]":
    return [futures for tasks in ordered for futures in (tasks.keeping, tasks.reporting)]


def _key(purpose: str) -> str:
    # Dask shows tasks by their keys without the hash at the end.
    return f"handoff-{purpose}-{uuid.uuid4().hex}"


def _check_client(client: object) -> None:
    try:
        from distributed import Client  # noqa: PLC0415 - few programs have it
    except ImportError as missing:
        raise ImportError(
            f"handoff_actors.on_dask needs Dask's distributed: {how_to_install('dask')}"
        ) from missing
    if not isinstance(client, Client):
        raise TypeError(f"client={repr_of(client)}: it must be a distributed.Client")


def _why_not(worker: DaskWorker, answer: str) -> str:
    # From workers errors come as the texts of others.
    if not any(kind in answer for kind in _NOT_THERE):
        return f"Dask worker {worker} can't be asked about itself: {answer}"
    return (
        f"Dask worker {worker} can't import this library, or has another version of it ({answer}). Install version {VERSION} "
        f"there as here ({how_to_install('dask')}), or name other workers with workers=[...]"
    )


def _check_versions(worker: DaskWorker, facts: WorkerFacts) -> None:
    """Raise VersionMismatch, naming the worker, if its node would be of no use."""
    if facts["protocol"] != PROTOCOL:
        raise VersionMismatch(
            f"Dask worker {worker} has handoff_actors {facts['version']} (protocol {facts['protocol']}), and this process has "
            f"{VERSION} (protocol {PROTOCOL}). Install the same version there, or name other workers with workers=[...]"
        )
    if facts["python"] != PYTHON:
        raise VersionMismatch(
            f"Dask worker {worker} runs on Python {facts['python']}, and this process on {PYTHON}. Use the same minor version "
            "of Python on both sides, or name other workers with workers=[...]"
        )
