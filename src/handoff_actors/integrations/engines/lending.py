"""A session whose nodes are on the workers of another cluster: the part in the app that all such clusters share.

An `Engine` knows its own kind of cluster. `session_on` gives it `LentNodes`, by which it orders a node for each worker and
reports how that went, for as long as the session is used.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Final, Protocol, TypedDict, Unpack

from handoff_actors.client.session import Session
from handoff_actors.display.options import OutputOption
from handoff_actors.errors import ConnectionFailed, HandoffError
from handoff_actors.events import OnEvent
from handoff_actors.ids import Resources
from handoff_actors.integrations.engines.worker_node import NodeOrder
from handoff_actors.transport.keys import ClusterKey

log = logging.getLogger(__name__)

#: Wait this long for the other workers once a node serves on one of them.
_GRACE_S: Final = 10.0
#: Once one of them can't have a node, wait this long for the failures of others: they often lack the same.
_OTHER_FAILURES_S: Final = 0.5
#: Seconds for the app to reach a node that serves.
_REACH_S: Final = 5.0
#: Addresses that a node is told to join.
_MOST_SEEDS: Final = 3
#: Workers that an error names.
_MOST_NAMED: Final = 5
#: Characters of a worker's name in that of its node.
_MOST_OF_LABEL: Final = 100


class LentSessionOptions(TypedDict, total=False):
    """The options of `Session` that a session on other clusters' machines has, too."""

    #: Default for the option `on_event` of each run.
    on_event: OnEvent | None
    #: Default for the option `progress` of each run.
    progress: bool | None
    #: Default for the option `output` of each run.
    output: OutputOption
    #: Modules, or their names, whose code is sent along with each run.
    modules_by_value: Sequence[ModuleType | str]


class Engine(Protocol):
    """A cluster of another library, whose workers can have nodes."""

    @property
    def name(self) -> str:
        """The name of the library, for people: "Dask"."""

    @property
    def hint(self) -> str:
        """The likely reason why workers start no node, for an error."""

    async def lend(self, nodes: "LentNodes") -> None:
        """Keep a node on each worker, and on those that come later, until it is cancelled; then end all of them.

        All workers that are there at first are passed to `nodes.expect` before any of them is reported on. Cancelled, it
        returns or raises only once nothing of its nodes is left, or can't be reached, within a few seconds.
        Raises HandoffError once the cluster can't be used.
        """


class LentNodes:
    """The nodes of one session on the workers of an engine, by the names or addresses that the engine has for its workers."""

    def __init__(self, session: Session, key: ClusterKey, engine: Engine) -> None:
        self._session = session
        self._key = key
        self._engine = engine
        self._expected: set[str] = set()
        #: The addresses of the nodes that serve.
        self._serving: dict[str, str] = {}
        #: Workers whose nodes have been told to join others, which tell the app.
        self._introduced: set[str] = set()
        self._failures: dict[str, HandoffError] = {}
        #: The reason why each worker that could have a node later has none now.
        self._postponed: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._is_in_use = False
        self._is_closed = False

    # --- For engines --------------------------------------------------------------------------------------------

    def expect(self, worker: str) -> None:
        """Take note of a worker that is to have a node."""
        self._expected.add(worker)
        self._changed.set()

    def order(self, worker: str, label: str, capabilities: Resources, host: str) -> NodeOrder:
        """Make the order for a worker's node.

        :param worker: The worker.
        :param label: A name of it that people know it by, as part of the node's.
        :param capabilities: Resources that the node offers: cpu in cores, memory in MB, gpu in devices, others.
        :param host: IP address or name at which others reach its machine; "": only from the machine itself.
        """
        seeds = tuple(self._serving.values())[-_MOST_SEEDS:] if self._is_in_use else ()
        if seeds:
            self._introduced.add(worker)
        return NodeOrder(self._name(label), capabilities, self._key.text(), host, seeds)

    async def serves(self, worker: str, address: str) -> bool:
        """Use a worker's node, which serves at an address. Returns False if this process can't reach it, which is a failure."""
        if self._is_closed:
            return False
        try:
            # Seeds are asked for ever, and workers may come and go for days: one that joins the others is found by itself.
            if worker not in self._introduced:
                await self._session.connect([address], join_wait=_REACH_S)
        except ConnectionFailed as error:
            unreachable = HandoffError(
                f"the node on {self._engine.name} worker {worker} serves at {address}, and this process can't connect to it: "
                f"{error.reason}. An app needs to reach the workers' machines, at any port"
            )
            self.failed(worker, unreachable)
        except HandoffError as error:
            self.failed(worker, error)
        else:
            log.info("node on a worker", extra={"worker": worker, "address": address})
            self._settle(worker)
            self._serving[worker] = address
            return True
        return False

    def failed(self, worker: str, error: HandoffError) -> None:
        """Take note that a worker can't have a node. The session can't be entered; later, the log says so."""
        self._settle(worker)
        if self._is_closed:
            return
        if self._is_in_use:
            log.warning("no node on a worker", extra={"worker": worker, "reason": str(error)})
        else:
            self._failures[worker] = error

    def postpone(self, worker: str, reason: str) -> None:
        """Take note that a worker has no node yet, and why: "its cores are in use". The session is entered without it."""
        self._settle(worker)
        self._postponed[worker] = reason

    def gone(self, worker: str) -> None:
        """Take note that a worker has gone, or has no node any more."""
        self._settle(worker)
        self._serving.pop(worker, None)
        self._introduced.discard(worker)

    # --- For `session_on` ---------------------------------------------------------------------------------------

    async def wait_until_usable(self, within_s: float, lending: asyncio.Task[None]) -> None:
        """Wait for the nodes of the workers that are there: for the first one `within_s`, for the others a moment more.

        Raises HandoffError if there is no node by then, and the failure of any of them.
        """
        loop = asyncio.get_running_loop()
        limit = loop.time() + within_s
        while not lending.done() and not self._is_settled:
            if self._failures:
                limit = min(limit, loop.time() + _OTHER_FAILURES_S)
            elif self._serving:
                limit = min(limit, loop.time() + _GRACE_S)
            if not await self._changes_before(limit, lending):
                break
        self._raise_if_unusable(within_s, lending)
        self._is_in_use = True

    @property
    def _is_settled(self) -> bool:
        return not self._expected and bool(self._serving or self._failures)

    def close(self) -> None:
        """Use no nodes from now on, as the session is closed."""
        self._is_closed = True

    async def _changes_before(self, limit: float, lending: asyncio.Task[None]) -> bool:
        self._changed.clear()
        async with asyncio.TaskGroup() as tasks:
            changed = tasks.create_task(self._changed.wait(), name="change of lent nodes")
            left_s = max(0.0, limit - asyncio.get_running_loop().time())
            done, _ = await asyncio.wait(
                (changed, lending), timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )
            changed.cancel()
        return bool(done)

    def _raise_if_unusable(self, within_s: float, lending: asyncio.Task[None]) -> None:
        if lending.done():
            lending.result()
        if self._failures:
            first, *others = (self._failures[worker] for worker in sorted(self._failures))
            if not others:
                raise first
            named = [str(error) for error in (first, *others)][:_MOST_NAMED]
            rest = len(self._failures) - len(named)
            raise HandoffError("; ".join([*named, *([f"and {rest} more workers"] if rest else [])]))
        if not self._serving:
            raise HandoffError(
                f"no node serves on a {self._engine.name} worker after {within_s:g} s: {self._standing()}"
            )

    def _standing(self) -> str:
        if not self._expected and not self._postponed:
            return "there is no worker"
        said = [f"{worker}: {reason}" for worker, reason in sorted(self._postponed.items())][:_MOST_NAMED]
        named = sorted(self._expected)[: _MOST_NAMED - len(said)]
        rest = len(self._postponed) + len(self._expected) - len(said) - len(named)
        silent = [f"{', '.join(named)} did not start one; {self._engine.hint}"] if named else []
        return "; ".join([*said, *silent, *([f"and {rest} more"] if rest else [])])

    def _settle(self, worker: str) -> None:
        self._expected.discard(worker)
        self._postponed.pop(worker, None)
        self._changed.set()

    def _name(self, label: str) -> str:
        shown = "".join(letter if letter.isprintable() else "-" for letter in label)[:_MOST_OF_LABEL]
        # A worker that is restarted may have the name of one whose node is not known to be gone yet.
        return f"{self._engine.name.lower()}-{shown}-{secrets.token_hex(2)}"


@asynccontextmanager
async def session_on(
    engine: Engine, within_s: float, **options: Unpack[LentSessionOptions]
) -> AsyncIterator[Session]:
    """Give a session on the workers of an engine, with a key of its own. Afterwards nothing of it is left there.

    Raises HandoffError if no worker has a node after `within_s`, or one of those that are there can't have any.
    """
    key = ClusterKey.generate()
    session = Session((), key=key, **options)
    nodes = LentNodes(session, key, engine)
    async with AsyncExitStack() as ending:
        lending = asyncio.get_running_loop().create_task(engine.lend(nodes), name="lending")
        ending.push_async_callback(_end, lending)
        # Runs are cancelled while their nodes are there to confirm it.
        await ending.enter_async_context(session)
        ending.callback(nodes.close)
        await nodes.wait_until_usable(within_s, lending)
        lending.add_done_callback(_report)
        yield session


async def _end(lending: asyncio.Task[None]) -> None:
    """Cancel the task, and wait for it even if this one is cancelled, too: nodes must not stay on machines of others."""
    lending.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not lending.done():
        try:
            await asyncio.wait((lending,))
        except asyncio.CancelledError as error:
            cancelled = error
    if not lending.cancelled():
        # The error of one that had failed before was raised or logged then.
        lending.exception()
    if cancelled is not None:
        raise cancelled


def _report(lending: asyncio.Task[None]) -> None:
    if not lending.cancelled() and (error := lending.exception()) is not None:
        log.error("no nodes are taken on any more", extra={"reason": str(error)})
