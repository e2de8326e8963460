"""The part of `on_dask` that runs in Dask's workers: a long task keeps a node, and a short one reports on it.

The scheduler of a Dask cluster unpickles graphs, and may lack this library. So tasks are bytes whose unpickling, in a worker,
is the call: see `as_task`. The cluster's key is no part of a task, as Dask logs the arguments of those that fail: `hand_over`
has brought it before, with the rest of the order.
"""

import asyncio
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from handoff_actors.actors.node.host.capabilities import own_capabilities
from handoff_actors.errors import HandoffError
from handoff_actors.integrations.engines.worker_node import NodeOrder, WorkerNode
from handoff_actors.process.interpreter import PYTHON
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.versions import VERSION

if TYPE_CHECKING:
    from distributed import Worker

#: Look this often whether the app still wants the node. Threads of workers can't be told.
_PERIOD_S: Final = 0.25
#: The app's request to end nodes is answered by then.
_END_S: Final = 12.0
_BYTES_OF_MB: Final = 1e6
#: States of a task that its client wants to be running.
_WANTED: Final = frozenset({"executing", "long-running"})
_CLOSED: Final = frozenset({"closing", "closed", "failed", "stopping", "stopped"})

#: A node serves at an address; can't be started, for a reason; or is not wanted any more.
NodeReport = tuple[Literal["serves", "failed", "over"], str]


class WorkerFacts(TypedDict):
    """The facts about a worker that the app asks for, in types that each version can read."""

    protocol: int
    version: str
    python: str
    nthreads: int
    memory_mb: float
    #: The worker's resources that no task has claimed.
    available: dict[str, float]
    #: Nodes that are started or run there.
    kept: list[str]


class _LentNode:
    """The node of one order in this process."""

    def __init__(self, order: NodeOrder) -> None:
        self.order = order
        self.report: NodeReport | None = None
        self.is_kept = False
        self.is_over = False


_change = threading.Condition()
#: By the names of nodes.
_lent: dict[str, _LentNode] = {}


def as_task(function: Callable[[str], object], name: str) -> bytes:
    """Return the bytes whose unpickling calls a function of this module with the name of a node."""
    return pickle.dumps(_Call(function, name))


class _Call:
    def __init__(self, function: Callable[[str], object], name: str) -> None:
        self._function = function
        self._name = name

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return self._function, (self._name,)


# --- Run by Dask outside of its tasks -------------------------------------------------------------------------


def look(dask_worker: "Worker") -> WorkerFacts:
    """Return the facts about this worker."""
    return {
        "protocol": PROTOCOL,
        "version": VERSION,
        "python": PYTHON,
        "nthreads": dask_worker.state.nthreads,
        "memory_mb": _memory_mb(dask_worker),
        "available": dict(dask_worker.state.available_resources),
        "kept": [name for name, lent in list(_lent.items()) if lent.is_kept],
    }


def hand_over(order: NodeOrder) -> None:
    """Take an order for which tasks are going to come."""
    with _change:
        _lent[order.name] = _LentNode(order)


async def end_nodes(names: Sequence[str]) -> None:
    """End these nodes as far as they are in this process. Returns when nothing of them is left here."""
    with _change:
        for lent in [_lent[name] for name in names if name in _lent]:
            lent.is_over = True
            # The task of one that is kept forgets it at the end: an app whose first request was cut short asks again.
            if not lent.is_kept:
                del _lent[lent.order.name]
        _change.notify_all()
    # The loop is Dask's, and must not be held up.
    await asyncio.to_thread(_wait_for, lambda: _lent.keys().isdisjoint(names), _END_S)


# --- Tasks ------------------------------------------------------------------------------------------------------


def keep_node(name: str) -> None:
    """Start a node, and end it when this task is not wanted any more: its app has ended, or says so, or the worker is closed."""
    task = _Task()
    with _change:
        lent = _lent.get(name)
        if lent is None:
            return
        lent.is_kept = True
    try:
        _keep(lent, task)
    finally:
        with _change:
            lent.is_kept = False
            _lent.pop(name, None)
            lent.report = ("over", "") if lent.report is None else lent.report
            _change.notify_all()


def report(name: str) -> NodeReport:
    """Wait until a node serves or can't, and return that."""
    task = _Task()
    with _change:
        lent = _lent.get(name)
    if lent is None:
        return "over", ""
    while not _wait_for(lambda: lent.report is not None or lent.is_over, _PERIOD_S):
        if not task.is_wanted:
            break
    return lent.report or ("over", "")


class _Task:
    """The Dask task that this thread runs. It doesn't count as one of the worker's threads, which go on with other tasks."""

    def __init__(self) -> None:
        from distributed import get_worker, secede  # noqa: PLC0415 - the app has it, too, and may lack Dask

        secede()
        self._worker = get_worker()
        self._key = self._worker.get_current_task()

    @property
    def is_wanted(self) -> bool:
        """False once no client has the task's future any more, or the worker is closed."""
        state = self._worker.state.tasks.get(self._key)
        return state is not None and state.state in _WANTED and self._worker.status.name not in _CLOSED

    @property
    def is_leaving(self) -> bool:
        """True if the worker is to be closed once its values have been moved."""
        return bool(self._worker.status.name == "closing_gracefully")


def _keep(lent: _LentNode, task: _Task) -> None:
    try:
        node = WorkerNode(lent.order)
        address = node.wait_until_ready()
    except (HandoffError, OSError) as error:
        _tell(lent, ("failed", str(error)))
        return
    try:
        _tell(lent, ("serves", address))
        is_draining = False
        while task.is_wanted and not _wait_for(lambda: lent.is_over or node.has_ended, _PERIOD_S):
            if task.is_leaving and not is_draining:
                is_draining = True
                node.drain()
    finally:
        node.end()


def _tell(lent: _LentNode, said: NodeReport) -> None:
    with _change:
        lent.report = said
        _change.notify_all()


def _wait_for(holds: Callable[[], bool], seconds: float) -> bool:
    with _change:
        return _change.wait_for(holds, seconds)


def _memory_mb(worker: "Worker") -> float:
    limit: Any = worker.memory_manager.memory_limit
    if limit:
        return float(limit) / _BYTES_OF_MB
    # Without a limit of its own, a worker has its share by threads, as Dask's own default is.
    here = own_capabilities()
    return here["memory"] * min(1.0, worker.state.nthreads / here["cpu"])
