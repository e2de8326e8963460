"""Performs the effects of a node's machine: on its workers, its store and its peers."""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import assert_never

from handoff_actors.actors.driver import Driver, clock
from handoff_actors.actors.handshake import NameInUse
from handoff_actors.actors.node.adverts import NOTHING_STARTABLE, StartableNodes, make_advert
from handoff_actors.actors.node.cluster_view import ClusterView
from handoff_actors.actors.node.discards import discard
from handoff_actors.actors.node.door import Door
from handoff_actors.actors.node.host.memory import MemoryWatch
from handoff_actors.actors.node.input_fetcher import InputFetcher
from handoff_actors.actors.node.limits import MemoryOptions
from handoff_actors.actors.node.logs.node_log import NodeLog
from handoff_actors.actors.node.metrics import NodeMetrics
from handoff_actors.actors.node.module_definitions import ModuleDefinitions
from handoff_actors.actors.node.peers.followers import Followers
from handoff_actors.actors.node.peers.greeter import Greeter
from handoff_actors.actors.node.protocol_errors import ProtocolErrors
from handoff_actors.actors.node.stage_relay import StageRelay
from handoff_actors.actors.node.store_watch import StoreWatch
from handoff_actors.actors.node.undeliverable import instead_of
from handoff_actors.actors.node.value_server import ValueServer
from handoff_actors.actors.node.worker_listener import WorkerListener
from handoff_actors.actors.node.worker_orders import tell_worker
from handoff_actors.core.node.crash import crash_report
from handoff_actors.core.node.events import (
    Advertise,
    CancelCoroutine,
    CheckValue,
    DiscardValue,
    FetchInput,
    ForgetPeer,
    ForgetRun,
    ForgetTemplates,
    ForgetValues,
    KeepValue,
    KillWorker,
    Leave,
    LeaveCompleted,
    LeaveDue,
    LogDeath,
    LogRetirement,
    LogRunOpened,
    LogSpill,
    MembersCounted,
    MessageFromPeer,
    NodeEffect,
    NodeEvent,
    PeerConnected,
    PeerLost,
    RecallWorker,
    Reply,
    ReportProtocolError,
    RunJobs,
    SpawnWorker,
    SpillFailed,
    SpillValue,
    TellId,
    ValueSpilled,
)
from handoff_actors.core.node.lifetime import FOREVER, Lifetime
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.stage_events import DiscardItems, PassRows
from handoff_actors.core.node.validation import Introductions
from handoff_actors.core.run.scheduling.requirements import MAX_AHEAD
from handoff_actors.errors import HandoffError, RemoteProtocolError, SerializationError
from handoff_actors.ids import Attempt, Incarnation, Index, NodeName, PeerId, Resources, RunId, WorkerId
from handoff_actors.store.files import ValueStore
from handoff_actors.transport.endpoint import Network, Service
from handoff_actors.wire.messages.directions import FromNode, OnBus, ToNode
from handoff_actors.wire.messages.kept import KeptEntry
from handoff_actors.wire.messages.members import (
    Advert,
    Backlog,
    Follow,
    Hello,
    Joined,
    Left,
    ListMembers,
    Members,
    Published,
    Refused,
)
from handoff_actors.wire.messages.stages import StageInput
from handoff_actors.wire.messages.values import Chunk, Fetch, Gone
from handoff_actors.workers.pool.pool import WorkerPool
from handoff_actors.workers.question_protocol import Surroundings, answer_packet

log = logging.getLogger(__name__)

INLINE_LIMIT = 64 * 1024
LEASE_S = 15.0
#: Bytes of answers that may wait for a peer, beside the results of all that an app may have sent ahead: four times as much
#: as four chunks of each of four values, which is what anybody asks for at once.
ANSWERS_NBYTES = 64 * 2**20
DEFAULT_OPTIONS = MemoryOptions()
#: Sync workers that claims of fractions may lead to, beyond the usual number.
MORE_WORKERS = 64


class NodeActor:
    """One node in this process. It serves at any number of addresses, and gives `on_advert` its adverts."""

    #: The end of a node that has crashed; `close` awaits it.
    _ending: asyncio.Task[None] | None = None
    #: The nodes that it could have started.
    startable = NOTHING_STARTABLE
    address = bus = ""

    def __init__(
        self,
        name: str,
        capabilities: Resources,
        workers: int,
        cluster: ClusterView,
        most_workers: int | None = None,
        lease_s: float = LEASE_S,
        options: MemoryOptions = DEFAULT_OPTIONS,
        lifetime: Lifetime = FOREVER,
    ) -> None:
        """Make the directories of its store. Raises OSError."""
        self.name, self.rank = NodeName(name), time.time_ns()
        self.incarnation = Incarnation(f"{self.rank:016x}{secrets.token_hex(4)}")
        #: Of strangers, and of messages that are not in the protocol.
        self.protocol_errors = ProtocolErrors(name, asyncio.get_running_loop().call_later)
        self.metrics, self._log = NodeMetrics(), NodeLog(name)
        self._cluster, self._services = cluster, list[Service]()
        self._most_waiting_nbytes = ANSWERS_NBYTES + workers * (1 + MAX_AHEAD) * INLINE_LIMIT
        limits, most_workers = options.limits(), most_workers or workers + MORE_WORKERS
        self._machine = NodeMachine(capabilities, workers, most_workers, lease_s, limits, lifetime)
        spill, keep = options.spill_dir, options.store_dir
        store = self._store = ValueStore(self.incarnation, spill, limits.store_nbytes, keep)
        watch = self._store_watch = StoreWatch(name, store, self._feed)
        relay = self._stages = StageRelay(self._machine.stages, self._feed, self._reply, self._services)
        listener = self._listener = WorkerListener(
            name, self._feed, self._kill_worker, self._was_memory_short, self._services, watch, self.metrics, relay
        )  # fmt: skip
        self._values = ValueServer(name, self._machine, watch)
        own, place, disk = ModuleDefinitions(lambda: self._pool.import_path), store.directory, store.disk
        self._pool = WorkerPool(listener, place, INLINE_LIMIT, disk, self._surroundings, own.kept, name)
        self._input_fetcher = InputFetcher(name, watch, self._feed, self._ask_app, self.metrics, own)
        self._peers, self._introductions = dict[PeerId, Service](), Introductions()
        self._followers = Followers(self._introductions, cluster, self._reply)
        self._greeter = Greeter(self, cluster, self._introductions, lease_s)
        self._seq, self._left = itertools.count(1), asyncio.Event()
        #: The error that has ended the node, if one has; and the reason for which it should begin to leave by itself, if any.
        self.crashed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.leave_due: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        #: The node's state in its last advert.
        self.advertised = self._machine.advertisement()

    # --- Life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers, which are ready soon after. Raises HandoffError, OSError."""
        self._driver: Driver[NodeEvent, NodeEffect] = Driver(self._machine, self._perform, self._crashed)
        self._watch = MemoryWatch(
            self._listener.pids,
            lambda: self._machine.is_to_be_sampled,
            self._feed,
            self._store.give_up_spares,
        )
        self._store_watch.start()
        await self._pool.start()
        self._driver.start(self._machine.start)
        if self.crashed.done():
            raise HandoffError(f"node {self.name!r} could not start") from self.crashed.result()

    def serve(self, network: Network, address: str, *, has_lease: bool = True) -> str:
        """Serve at one more address, and return the real one. Raises OSError if that can't be."""
        door = Door(self, network, address, self._most_waiting_nbytes, has_lease=has_lease)
        self._services.append(door.service)
        return door.service.address

    def advertise_as(self, address: str, bus: str) -> None:
        """Be known to others under the address of one of its services, and of the bus that carries its adverts."""
        self.address, self.bus = address, bus

    def fetch_over(self, network: Network) -> None:
        """Fetch values from other nodes over this network."""
        self._input_fetcher.fetch_over(network)

    async def leave(self, within_s: float) -> None:
        """Accept no more work, and wait until running functions have ended, or for `within_s`."""
        self._feed(Leave())
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._left.wait()

    async def close(self) -> None:
        """End at once. No process, socket or file is left."""
        if self._ending is None:
            await self._end()
        else:
            await asyncio.shield(self._ending)

    async def _end(self) -> None:
        self._driver.close()
        self._watch.close()
        self._store_watch.close()
        self._input_fetcher.close()
        self.protocol_errors.close()
        for service in self._services:
            service.close()
        await self._pool.close()
        self._store.close()

    def advert(self) -> Advert:
        """Make the next advert."""
        return make_advert(self, next(self._seq), self._cluster, asyncio.get_running_loop().time())

    def start_others(self, startable: StartableNodes) -> None:
        """Advertise from now on that it could have such nodes started."""
        if startable != self.startable:
            self.startable = startable
            self._cluster.announce(self.advert())

    @property
    def backlogs(self) -> list[Backlog]:
        """The functions that wait for nodes with room, as all apps have last told them."""
        return self._machine.backlogs

    def raise_rank(self, rank: int) -> None:
        """Take this rank among nodes of its name from now on, and advertise it."""
        self.rank = rank
        self._cluster.announce(self.advert())

    def lose_name(self, reason: str) -> None:
        """End, since another node has its name."""
        if not self.crashed.done():
            log.error("node ends: %s", reason, extra={"node": self.name})
            self._end_because(NameInUse(f"node {self.name!r} ends: {reason}"), None)

    def tell_followers(self, message: OnBus) -> None:
        """Tell the peers that follow it what is on its bus."""
        self._followers.tell(message)

    def _surroundings(self) -> bytes:
        """Answer a worker whose function begins a run."""
        try:
            entrance = self._cluster.entrance()
        except (HandoffError, OSError) as error:
            log.warning("workers can't reach the cluster", extra={"node": self.name, "reason": str(error)})
            entrance = None
        return answer_packet(None if entrance is None else Surroundings(*entrance))

    def set_member_count(self, members: int) -> None:
        """Note that this many other members receive the node's adverts."""
        self._feed(MembersCounted(members))

    @property
    def runs(self) -> int:
        """The number of runs that the node serves."""
        return self._machine.runs

    @property
    def spilled_nbytes(self) -> int:
        """Bytes of all values that have been moved to disk so far."""
        return self._machine.spilled_nbytes

    def kept_values(self) -> list[KeptEntry]:
        """List the values that it has under names."""
        return self._machine.kept_values(clock())

    def member_counts(self) -> tuple[int, int]:
        """The number of other members, and of those that have been silent for a while."""
        return len(self._cluster.members()), len(self._cluster.suspects())

    @property
    def is_idle(self) -> bool:
        """True if no run, job or claim is left."""
        return self._machine.is_idle

    def stored_value(self, run: RunId, index: Index, version: int = 0) -> memoryview | None:
        """The bytes of a value in its store, mapped; for a session in the same process. `version` is as in `Ref`."""
        return self._values.view(run, index, version)

    # The pool and the watch are made after the listener that asks for them.

    def _kill_worker(self, worker: WorkerId) -> None:
        self._pool.kill(worker)

    def _was_memory_short(self, signal: int | None) -> bool:
        return self._watch.was_short(signal)

    def _feed(self, event: NodeEvent) -> None:
        # The effects of one event reach a worker in one system call, and at once.
        self._pool.hold()
        self._driver.feed(event)
        self._pool.flush()

    def _crashed(self, error: Exception) -> None:
        """End the node, all by itself: its machine is not to be asked any more."""
        log.critical(
            "node %s ends because of a bug of its own; what it was running goes to other nodes. Please report the bug with "
            "this traceback. A daemon has to be started again, a session starts another node for its next run",
            self.name,
            exc_info=error,
        )
        self._end_because(error, self._driver.broken_by)

    def _end_because(self, error: Exception, event: NodeEvent | None) -> None:
        self.crashed.set_result(error)
        self._left.set()
        # Not now: whoever has fed the machine is still at work with what is to be closed.
        self._ending = asyncio.get_running_loop().create_task(self._end(), name=f"end of node {self.name}")
        report = crash_report(error, event)
        for peer, service in self._peers.items():
            service.send(peer, report)

    # --- Peers --------------------------------------------------------------------------------------------------

    def messages_received(
        self, peer: PeerId, messages: Iterable[ToNode], service: Service, *, has_lease: bool
    ) -> None:
        """Handle messages of a peer."""
        if self.crashed.done():
            return
        for message in messages:
            self._log.peer_said(peer, message)
            self._take(peer, message, service, has_lease=has_lease)
        self._pool.flush()

    def _take(  # noqa: C901 - one table
        self, peer: PeerId, message: ToNode, service: Service, *, has_lease: bool
    ) -> None:
        match message:
            case Hello():
                try:
                    self._greeter.greet(peer, message, service, has_lease=has_lease)
                except RemoteProtocolError as error:
                    self.protocol_errors.note("malformed message", str(error), self._log.name_of(peer))
            case _ if peer not in self._peers:
                service.send(peer, Refused("say Hello first"))
            case StageInput():
                self._stages.received(peer, message, self._pool)
            case Fetch():
                self._values.answer(message, peer, service)
            case Chunk() | Gone():
                self._input_fetcher.heard(peer, message)
            case ListMembers():
                service.send(
                    peer, Members([self.advert(), *self._cluster.members()], self._cluster.suspects())
                )
            case Follow() | Published() | Joined() | Left():
                self._hear(peer, message)
            case _:
                self._feed(MessageFromPeer(peer, message))

    def _hear(self, peer: PeerId, message: Follow | OnBus) -> None:
        try:
            self._followers.heard(peer, message)
        except RemoteProtocolError as error:
            self.protocol_errors.note("malformed message", str(error), self._log.name_of(peer))

    def malformed(self, peer: PeerId, reason: str, service: Service) -> None:
        """Give up a connection on which a frame can't be decoded, since what else it said is unknown."""
        self.protocol_errors.note("malformed message", reason, self._log.name_of(peer))
        if peer in self._peers:
            service.send(peer, Refused(f"node {self.name} can't decode a message: {reason}"))
            self.lost(peer, reason)

    def lost(self, peer: PeerId, reason: str) -> None:
        """Handle the loss of a peer."""
        if self._forget_peer(peer, reason):
            self._feed(PeerLost(peer))

    def _forget_peer(self, peer: PeerId, reason: str) -> bool:
        """Forget a peer, which has left if no other reason is given. Returns False for one that isn't known."""
        if self._peers.pop(peer, None) is None:
            return False
        self._introductions.forget(peer)
        self._followers.forget(peer)
        self._log.peer_gone(peer, reason)
        self._input_fetcher.lost(peer, reason or "it has left")
        return True

    def service_of(self, peer: PeerId) -> Service | None:
        """The service by which a peer that has said Hello is reached; None for others."""
        return self._peers.get(peer)

    def peer_came(self, peer: PeerId, name: str, service: Service, *, has_lease: bool) -> None:
        """Take note of a peer that has said Hello."""
        self._peers[peer] = service
        self._log.peer_connected(peer, name, is_own=not has_lease)
        self._feed(PeerConnected(peer, has_lease, name))

    # --- What the machine wants ---------------------------------------------------------------------------------

    def _perform(self, effect: NodeEffect) -> None:  # noqa: C901, PLR0912 - one table
        match effect:
            case RunJobs(worker, run, templates, jobs, devices):
                visible = None if devices is None else ",".join(map(str, devices))
                self._pool.give(worker, run, templates, jobs, visible)
                self._watch.wake()
            case Reply(peer, message):
                self._reply(peer, message)
            case ReportProtocolError(peer, reason):
                self.protocol_errors.note("malformed message", reason, self._log.name_of(peer))
            case Advertise():
                self._announce(effect)
            case KeepValue(run, index, attempt):
                self._keep(run, index, attempt)
            case DiscardValue() | DiscardItems():
                discard(self._store, effect)
            case SpillValue() | CheckValue():
                self._look_after(effect)
            case FetchInput():
                self._input_fetcher.fetch(effect, self.address)
            case SpawnWorker(worker, is_async):
                self._pool.spawn(worker, is_async)
            case KillWorker(worker):
                self.metrics.dismissed(worker)
                self._pool.kill(worker)
            case LogRetirement() | LogDeath() | LogRunOpened() | LogSpill():
                self._log.told(effect)
            case RecallWorker() | CancelCoroutine() | PassRows() | TellId():
                tell_worker(self._pool, effect)
            case ForgetRun() | ForgetValues() | ForgetTemplates():
                self._forget(effect)
            case ForgetPeer(peer, has_left):
                self._forget_peer(peer, "" if has_left else "its lease has ended")
            case LeaveDue(reason):
                self.leave_due.set_result(reason)
            case LeaveCompleted():
                self._left.set()
            case _:
                assert_never(effect)

    def _announce(self, state: Advertise) -> None:
        if state.out_of_use and not self.advertised.out_of_use:
            log.error("out of use", extra={"node": self.name, "reason": state.out_of_use})
        elif self.advertised.out_of_use and not state.out_of_use:
            log.info("in use again", extra={"node": self.name})
        self.advertised = state
        self._cluster.announce(self.advert())

    def _forget(self, effect: ForgetRun | ForgetValues | ForgetTemplates) -> None:
        match effect:
            case ForgetValues(run, stored, fetches):
                self._input_fetcher.give_up(run, fetches)
                self._store.drop(run, stored)
            case ForgetTemplates(run, numbers, modules):
                self._pool.forget_templates(run, numbers)
                self._input_fetcher.forget_modules(run, modules)
            case ForgetRun(run):
                self._log.run_closed(run)
                self._input_fetcher.forget(run)
                self._pool.forget(run)
                self._store.forget(run)
            case _:
                assert_never(effect)

    def _reply(self, peer: PeerId, message: FromNode) -> None:
        self.metrics.reported(message)
        self._log.reported(message)
        service = self._peers.get(peer)
        if service is None:
            return
        try:
            service.send(peer, message)
        except SerializationError as error:
            self._log.unsendable(peer, str(error))
            for part in instead_of(message, str(error)):
                self._reply(peer, part)

    def _keep(self, run: RunId, index: Index, attempt: Attempt) -> None:
        try:
            self._store.keep(run, index, attempt)
        except FileNotFoundError:
            self._store_watch.check(run, index)
        if self._store.is_on_disk(run, index):
            # There was no room for it in memory.
            self._feed(ValueSpilled(run, index))

    def _look_after(self, value: SpillValue | CheckValue) -> None:
        run, index = value.run, value.index
        if isinstance(value, CheckValue):
            self._store_watch.check(run, index)
            return

        def done(reason: str) -> None:
            self._feed(SpillFailed(run, index, reason) if reason else ValueSpilled(run, index))

        self._store.spill(run, index, done)

    def _ask_app(self, peer: PeerId, message: Fetch) -> None:
        service = self._peers.get(peer)
        if service is not None:
            service.send(peer, message)
