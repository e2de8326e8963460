"""Routes messages between the runs of a session and the nodes of its cluster, and holds both.

Three others call it: `Connections` with the messages and the comings and goings of nodes that it is linked to, `Discovery`
with the members that it finds, and the runs with messages for nodes and values to fetch.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from types import ModuleType

from handoff_actors.actors.app.foreign_arguments import FoundValue
from handoff_actors.actors.app.run_host import Buffer
from handoff_actors.actors.app.values import AppValues
from handoff_actors.actors.connections import Connections
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.actors.join_files.directory import JoinDirectory
from handoff_actors.actors.member import Member, open_zeromq
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.actors.node.host.capabilities import own_capabilities
from handoff_actors.actors.node.hosting import host_node
from handoff_actors.client.kept_client import KeptClient
from handoff_actors.client.process.forks import Owner
from handoff_actors.client.run_registry import RunRegistry
from handoff_actors.client.standing import SessionStanding
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.display.options import DisplayOptions
from handoff_actors.errors import HandoffError
from handoff_actors.ids import Index, Resources, RunId
from handoff_actors.transport.credentials import Credentials
from handoff_actors.transport.endpoint import Network
from handoff_actors.transport.keys import ClusterKey
from handoff_actors.transport.memory import MemoryNetwork
from handoff_actors.wire.messages.directions import FromNode, ToNode
from handoff_actors.wire.messages.kept import KeptAnswer
from handoff_actors.wire.messages.members import Advert, Redeclare, Redeclared
from handoff_actors.wire.messages.nested import Identify, Probed
from handoff_actors.wire.messages.runs import (
    Closed,
    Completed,
    Copied,
    Crashed,
    Failed,
    Output,
    Recalled,
    Rejected,
    Started,
    Stopped,
    WorkerRetired,
)
from handoff_actors.wire.messages.stages import StageInputLost, StageOutput
from handoff_actors.wire.messages.values import Fetch
from handoff_actors.workers.child.loading import check_may_start
from handoff_actors.workers.question_protocol import Surroundings

log = logging.getLogger(__name__)

#: On closing, wait this long for nodes to confirm that running functions have stopped.
CLOSE_S = 5.0
#: Wait this long for a node to offer the capabilities that it was told to.
REDECLARE_S = 5.0


class Hub:
    """The runs of one session, and all that connects them to nodes. Nothing but `runs` exists before `start`."""

    def __init__(
        self,
        credentials: Credentials,
        seen: DisplayOptions,
        modules_by_value: Sequence[ModuleType],
        open_network: Callable[[Credentials], Network] = open_zeromq,
    ) -> None:
        self._credentials = credentials
        self._open_network = open_network
        self.runs = RunRegistry(self, seen, modules_by_value)
        self.is_started = False
        self._owner: Owner
        #: How often it has been closed: a run that began to be prepared before is not to start after.
        self.closings = 0
        #: The node of this process, if it has one.
        self.node: NodeActor | None = None
        #: A run of this session that would wait for what its ancestors hold gets a node in this process.
        self.may_start_node = False
        self._start_of_node: asyncio.Task[None] | None = None
        self._start_again: Callable[[], Awaitable[NodeActor]]
        self._redeclaring = asyncio.Lock()
        self._ending = asyncio.Lock()

    # --- Life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Be ready to have nodes. May be called again after `close`. Raises UnguardedStart."""
        check_may_start("a session")
        self.is_started = True
        self._owner = Owner("session", "make a session of its own in the fork")
        self.node = None
        self.may_start_node = False
        self._start_of_node = None
        own_name = f"app-{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(2)}"
        self._memory = MemoryNetwork()
        self._member = Member(own_name, self, self._credentials, self._open_network)
        self._connections = Connections(own_name, self, self.runs.progress, self.runs.backlogs)
        self._values = AppValues(own_name, self)
        self.kept = KeptClient(self, self._values.offered, self.runs.own_modules)

    async def close(self) -> None:
        """Cancel all runs, leave the cluster, and end the node of this process. Nothing is left behind."""
        # In a fork everything is its parent's, and stays.
        if not self.is_started or not self._owner.is_here():
            return
        self.is_started = False
        self.closings += 1
        runners = self.runs.all()
        try:
            for runner in runners:
                runner.stop()
            if runners:
                await asyncio.wait([runner.forgotten for runner in runners], timeout=CLOSE_S)
        finally:
            self.runs.close()
            self.kept.close()
            self._values.close()
            self._connections.close()
            await self._memory.close()
            if self._start_of_node is not None:
                self._start_of_node.cancel()
                await asyncio.wait([self._start_of_node])
            # Else a node that is being ended would outlive the session.
            async with self._ending:
                await self._member.close()

    def check_process(self) -> None:
        """Raise HandoffError in a fork of the process that has started it."""
        if self.is_started:
            self._owner.check()

    def check_not_closed_since(self, closings: int) -> None:
        """Raise HandoffError if the session has been closed since `closings` was read."""
        if closings != self.closings:
            raise HandoffError("the session was closed before the run, or its node, had started")

    # --- The node of this process -------------------------------------------------------------------------------

    async def start_node(
        self,
        capabilities: Resources,
        *,
        name: str | None,
        workers: int | None,
        listen: str | None,
        seeds: Sequence[str],
        join_wait_s: float = 0.0,
        join_file: str | os.PathLike[str] | None = None,
    ) -> NodeActor:
        """Start a node in this process, and wait until it and the members that it finds can be used.

        Raises as `Session.register_local_node` does.
        """
        if self.node is not None and self.node.crashed.done():
            await self.end_node(self.node)
        self._start_again = partial(
            self.start_node, capabilities, name=name, workers=workers, listen=listen, seeds=seeds,
            join_wait_s=join_wait_s, join_file=join_file,
        )  # fmt: skip
        member, closings = self._member, self.closings
        node = await host_node(
            member, capabilities, name=name, workers=workers, listen=listen, seeds=seeds,
            join_wait_s=join_wait_s, join_file=join_file,
        )  # fmt: skip
        if closings != self.closings:
            # The node was not there yet when all was closed.
            await member.close()
        self.check_not_closed_since(closings)
        self.node = node
        address = node.serve(self._memory, f"memory://{node.incarnation}", has_lease=False)
        self._connections.add(node.advert(), self._memory, address)
        await self._connections.wait_until_settled()
        return node

    async def replace_crashed_node(self) -> None:
        """Start another node as the last one was started, if that has crashed. Raises as `start_node` does."""
        if self.node is not None and self.node.crashed.done():
            await self._start_again()

    async def end_node(self, node: NodeActor) -> None:
        """End a node of this process, if it has not ended yet. Runs go on without it."""
        self.check_process()
        async with self._ending:
            if self.is_started and self.node is node:
                self._connections.remove(node.name, "it has been closed")
                await self._member.end_node()
                self.node = None

    # --- The cluster --------------------------------------------------------------------------------------------

    @property
    def is_in_cluster(self) -> bool:
        """True if runs may use nodes of other processes."""
        return self._member.is_open

    def is_elsewhere(self, nodes: Collection[str] | None) -> bool:
        """See Cluster."""
        own = {self.node.name} if self.node is not None else set()
        return self.is_in_cluster and (nodes is None or not own.issuperset(nodes))

    async def join(self, seeds: Sequence[str], wait_s: float = 0.0) -> None:
        """Use the cluster that any of `seeds` belongs to. Raises as `Session.connect` does."""
        await self._member.join(seeds, wait_s)
        await self._connections.wait_until_settled()

    async def meet(self, join_file: str | os.PathLike[str], wait_s: float = 0.0) -> None:
        """Use the cluster whose members have files in a directory. Raises as `Session.start` does."""
        directory = JoinDirectory(join_file)
        await self._member.adopt_key_of(directory)
        await self._member.meet(directory, wait_s)
        await self._connections.wait_until_settled()

    async def join_surroundings(self, around: Surroundings) -> None:
        """Use the cluster of the node whose worker this process is. Raises as `Session.connect` does."""
        key = None if around.key is None else ClusterKey.from_text(around.key)
        if key is not None and around.also_accepted is not None:
            key = key.accepting(ClusterKey.from_text(around.also_accepted))
        self._member.adopt(Credentials(key, is_insecure=key is None))
        self.may_start_node = True
        await self.join([around.address])

    async def wait_for_any(self) -> None:
        """Wait until some node can be used, or all have been given up."""
        await self._connections.wait_for_any()

    async def declare(self, name: str, capabilities: Resources) -> None:
        """Have a node offer these capabilities. Raises NodeLost, and TimeoutError after REDECLARE_S."""
        async with asyncio.timeout(REDECLARE_S), self._redeclaring:
            self.send(name, Redeclare(capabilities))
            await self._connections.wait_until_offered(name, capabilities)

    def standing(self) -> SessionStanding | str:
        """The nodes and runs that there are now, or why there are none."""
        if not self.is_started:
            return "closed" if self.closings else "not started"
        if not self._owner.is_here():
            return "it belongs to the process that this one is a fork of"
        own_name = None if self.node is None else self.node.name
        return SessionStanding(self.adverts(), own_name, self.runs.going_on())

    def network(self) -> Network:
        """The sockets of this process. Raises InvalidKeyError."""
        return self._member.network()

    def received_bytes(self) -> int:
        """The bytes that have come over all links that exist now."""
        return self._values.received_bytes() + self._connections.received_bytes()

    # --- Called by runs, see RunHost and Cluster ----------------------------------------------------------------

    def ups(self) -> list[NodeUp]:
        """See Cluster."""
        return self._connections.ups()

    def adverts(self) -> list[Advert]:
        """See Cluster."""
        return self._connections.adverts()

    def send(self, name: str, message: ToNode) -> None:
        """See RunHost."""
        self._connections.send(name, message)

    def fetch(
        self,
        run: RunId,
        index: Index,
        nbytes: int,
        holders: list[str],
        done: Callable[[Buffer | FetchFailure], None],
        version: int = 0,
    ) -> Callable[[], None]:
        """See RunHost."""
        return self._values.fetch(run, index, nbytes, holders, done, version)

    async def keep(self, value: FoundValue, name: str, ttl_s: float) -> None:
        """See RunHost."""
        self.check_process()
        await self.kept.keep(value, name, ttl_s)

    def run_ended(self, run: RunId) -> None:
        """See RunHost."""
        self._values.run_ended(run)

    def forget(self, run: RunId) -> None:
        """See RunHost."""
        self.runs.forget(run)
        self._values.forget(run)

    def tell_of_room(self) -> None:
        """See RunHost."""
        self.runs.tell_of_room()

    def node_wanted(self) -> None:
        """See RunHost."""
        if self.node is None and self._start_of_node is None:
            starting = self._start_wanted_node(self.closings)
            # Nobody waits for it, and `close` ends it.
            self._start_of_node = asyncio.get_running_loop().create_task(starting, name="start of a node")

    async def _start_wanted_node(self, closings: int) -> None:
        try:
            offer = own_capabilities()
            await self.start_node(offer, name=None, workers=None, listen=None, seeds=())
        except (HandoffError, OSError) as error:
            # Its run will end, and say why.
            if closings == self.closings:
                log.warning("no node in a worker", extra={"reason": str(error)})

    # --- Called by discovery, see MembershipListener ------------------------------------------------------------

    def member_up(self, advert: Advert) -> None:
        """See MembershipListener."""
        self._connections.add(advert, self._member.network(), advert.address)

    def member_changed(self, advert: Advert) -> None:
        """See MembershipListener."""
        self._connections.change(advert)

    def member_suspected(self, name: str, *, is_suspect: bool) -> None:
        """See MembershipListener."""
        self._connections.suspect(name, is_suspect=is_suspect)

    def member_down(self, name: str, reason: str) -> None:
        """See MembershipListener."""
        self._connections.remove(name, reason)

    def member_left(self, name: str, reason: str) -> None:
        """See MembershipListener."""
        self._connections.leave(name, reason)

    # --- Called by connections, see ConnectionListener ----------------------------------------------------------

    def member_unreachable(self, name: str, incarnation: str, reason: str) -> None:
        """See ConnectionListener."""
        self._member.member_unreachable(name, incarnation, reason)

    def member_reported(self, advert: Advert) -> None:
        """See ConnectionListener."""
        self._member.advert_received(advert, "answer")

    def node_event(self, event: NodeUp | NodeDown) -> None:
        """See ConnectionListener."""
        # First the runs: they make anew what is lost with a node, and not what could only not be fetched.
        self.runs.node_event(event)
        if isinstance(event, NodeDown):
            self._values.node_gone(event.name, event.reason)
            self.kept.node_gone(event.name)
        else:
            self.kept.nodes_changed()

    def message_received(self, name: str, message: FromNode) -> None:  # noqa: C901 - one table
        """See ConnectionListener."""
        match message:
            case (
                Completed()
                | Failed()
                | Recalled()
                | Copied()
                | Stopped()
                | Closed()
                | Rejected()
                | Started()
                | WorkerRetired()
                | Probed()
                | Identify()
            ):
                runner = self.runs.get(message.run)
                if runner is not None:
                    runner.message_received(name, message)
            case StageOutput() | StageInputLost():
                listener = self.runs.stage_listeners.get(message.run)
                if listener is not None:
                    listener(name, message)
            case Crashed():
                for runner in self.runs.all():
                    runner.message_received(name, message)
            case Fetch():
                runner = self.runs.get(message.run)
                serve = partial(self._values.serve, name, message, runner)
                if runner is None or not runner.pack(message.index, serve):
                    serve()
            case KeptAnswer():
                self.kept.heard(name, message)
            case Output():
                self.runs.said(name, message)
            case Redeclared():
                # The advert that follows says it, too, and to every run.
                pass
            case _:
                log.debug("unexpected", extra={"node": name, "said": type(message).__name__})
