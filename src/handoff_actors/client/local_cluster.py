"""A cluster of daemons on this machine, for tests, notebooks and trying things out."""

import asyncio
import os
from collections.abc import Mapping
from contextlib import ExitStack
from types import MappingProxyType, TracebackType
from typing import Final, Self, Unpack

from handoff_actors.actors.node.host.capabilities import own_capabilities
from handoff_actors.actors.node.local_node import LocalNode
from handoff_actors.client.api import run_on
from handoff_actors.client.execute_options import ExecuteOptions, SessionOptions
from handoff_actors.client.options import check_names, check_resources
from handoff_actors.client.process.forks import Owner
from handoff_actors.client.process.interrupts import FirstInterrupt
from handoff_actors.client.run import Run
from handoff_actors.client.session import Session
from handoff_actors.graph.dag import DAG
from handoff_actors.platforms import check_nodes_run_here
from handoff_actors.report.table import count
from handoff_actors.text import check_node_name, shortened
from handoff_actors.transport.credentials import INSECURE_VARIABLE
from handoff_actors.transport.keys import ALSO_ACCEPT_VARIABLE, KEY_FILE_VARIABLE, KEY_VARIABLE, ClusterKey
from handoff_actors.workers.child.loading import check_may_start

LISTEN = "tcp://127.0.0.1:0"
#: Characters of the names of nodes.
MOST_OF_NAMES: Final = 200
NO_CHANGE: Final[Mapping[str, float]] = MappingProxyType({})


class LocalCluster:
    """Nodes named n1, n2, ... on the loopback, each a process of its own. Use it with `with` or `async with`.

    Once it is closed, or this process has ended in whatever way, none of its processes, sockets and files is left.
    """

    def __init__(
        self,
        nodes: int = 2,
        cpu: float = 1,
        *,
        memory: float | None = None,
        resources: Mapping[str, float] | None = None,
        workers: int | None = None,
        key: str | ClusterKey | None = None,
        log_level: str = "warning",
    ) -> None:
        """Take note of the settings; `start` starts the nodes.

        :param nodes: Number of nodes.
        :param cpu: Cores that each node offers.
        :param memory: MB that each node offers; None: its share of this machine's.
        :param resources: Other resources that each node offers.
        :param workers: Number of processes on each node that run sync functions; None: one for each core.
        :param key: Key of the cluster, as for `Session`.
        :param log_level: Least level of the records that nodes log to stderr.
        :raises ValueError: A number or a name is not allowed.
        """
        if nodes < 1:
            raise ValueError(f"nodes={nodes!r}: it must be 1 or more")
        share = own_capabilities()["memory"] // nodes if memory is None else memory
        self._size = nodes
        self._capabilities = check_resources({"cpu": cpu, "memory": share, **(resources or {})})
        self._workers = workers
        self._key = ClusterKey.from_text(key) if isinstance(key, str) else key
        self._log_level = log_level
        self._nodes: list[LocalNode] = []
        self._started = 0
        self._owner: Owner | None = None

    # --- Life ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start all nodes, and return once they serve. Raises HandoffError if one can't, then none is left, and UnsupportedPlatform unless this is Linux."""
        check_nodes_run_here()
        check_may_start("nodes")
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._start(1)
            self._start(self._size - 1)
            on_failure.pop_all()
        return self

    def close(self) -> None:
        """End all nodes at once, whatever runs there. A second call does nothing, nor does one in a fork."""
        if not self._is_here():
            return
        nodes, self._nodes = self._nodes, []
        with FirstInterrupt():
            for node in nodes:
                node.ask_to_end()
            for node in nodes:
                node.wait_until_ended()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        # Here, as another thread starts them.
        check_may_start("nodes")
        starting = asyncio.get_running_loop().run_in_executor(None, self.start)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread can't be cancelled: it finishes the start.
            await asyncio.wait([starting])
            await asyncio.to_thread(self.close)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # --- Nodes --------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[LocalNode]:
        """The nodes that are running, in the order of their start."""
        self._check_process()
        return [node for node in self._nodes if node.is_running]

    @property
    def seeds(self) -> list[str]:
        """The addresses of all nodes that are running, for `Session`, `connect`, or `--join`."""
        return [node.address for node in self.nodes]

    def add(self, capabilities: Mapping[str, float] | None = None, *, name: str | None = None) -> LocalNode:
        """Start one more node, and return once it serves. Runs that are going on use it, too.

        :param capabilities: Resources that differ from those of the other nodes.
        :param name: Name of the node; None: the next of n1, n2, ...
        :raises HandoffError: The node can't serve.
        :raises ValueError: An amount or a name is not allowed.
        """
        [node] = self._start(1, capabilities or NO_CHANGE, name)
        return node

    # --- Runs ---------------------------------------------------------------------------------------------------

    def session(self, **options: Unpack[SessionOptions]) -> Session:
        """Return a session with this cluster, for `async with`. Options are those of `Session`; seeds and key are the cluster's."""
        check_names("LocalCluster.session", options, SessionOptions.__annotations__)
        return Session(self.seeds, key=self._key, **options)

    def run_sync(self, dag: DAG, **options: Unpack[ExecuteOptions]) -> Run:
        """Run a DAG on this cluster while this thread waits, as `handoff.run_sync` does."""
        return run_on(self.session(), dag, **options)

    def __repr__(self) -> str:
        return f"<{self._summary()}>"

    def _repr_html_(self) -> str:
        from handoff_actors.client.html_forms import cluster_form  # noqa: PLC0415 - few programs are notebooks

        return cluster_form(self._summary(), self._nodes if self._is_here() else ())

    def _summary(self) -> str:
        if not self._started:
            return f"LocalCluster: {count(self._size, 'node')}, not started"
        if not self._is_here():
            return "LocalCluster: it belongs to the process that this one is a fork of"
        running = [node.name for node in self._nodes if node.is_running]
        if not self._nodes:
            return "LocalCluster: closed"
        return f"LocalCluster: {shortened(', '.join(running), MOST_OF_NAMES) or 'no node'} running"

    def _is_here(self) -> bool:
        return self._owner is None or self._owner.is_here()

    def _start(
        self, count: int, capabilities: Mapping[str, float] = NO_CHANGE, name: str | None = None
    ) -> list[LocalNode]:
        self._check_process()
        check_node_name(name)
        offered = self._capabilities | check_resources(capabilities)
        options = {"capabilities": offered, "workers": self._workers, "listen": LISTEN, "join": self.seeds}
        begun: list[LocalNode] = []
        for _ in range(count):
            self._started += 1
            node = LocalNode(name or f"n{self._started}", options, self._environment(), self._log_level)
            # From here on `close` ends it, whatever happens.
            self._nodes.append(node)
            self._owner = self._owner or Owner(
                "cluster",
                "hand its seeds over before the fork, and make a session with them there: Session(seeds)",
            )
            begun.append(node)
        for node in begun:
            node.wait_until_ready()
        return begun

    def _check_process(self) -> None:
        if self._owner is not None:
            self._owner.check()

    def _environment(self) -> dict[str, str]:
        """The environment of this process, without variables that would make a node part of another cluster."""
        inherited = {name: value for name, value in os.environ.items() if name != "HANDOFF_SEEDS"}
        if self._key is None:
            return inherited
        for variable in (KEY_FILE_VARIABLE, ALSO_ACCEPT_VARIABLE, INSECURE_VARIABLE):
            inherited.pop(variable, None)
        return inherited | {KEY_VARIABLE: self._key.text()}
