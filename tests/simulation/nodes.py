"""A node: the real machine, simulated workers, a store, and the links of those who use it."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, assert_never

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
    InputFetched,
    InputMissing,
    KeepValue,
    KillWorker,
    Leave,
    LeaveCompleted,
    LeaveDue,
    LogDeath,
    LogRetirement,
    LogRunOpened,
    LogSpill,
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
    SpillValue,
    TellId,
    ValueSpilled,
)
from handoff_actors.core.node.lifetime import FOREVER
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.stage_events import DiscardItems, PassRows
from handoff_actors.core.resources import TOLERANCE
from handoff_actors.ids import Attempt, Index, PeerId, Resources, RunId, WorkerId
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.members import Redeclare
from handoff_actors.wire.messages.runs import Completed, Copied, Copy, Failed, Recalled
from tests.simulation.dags import LARGE_NBYTES, Conduct
from tests.simulation.network import Channel, Clock, Line, Timeline
from tests.simulation.relays import relayed
from tests.simulation.symbols import Evaluation, StoredBytes
from tests.simulation.workers import Inbox, Key, SimulatedWorker, Task, shares_of

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.cluster import Cluster
    from tests.simulation.links import Link

LEASE_S = 3.0
#: Few values fit into memory, so that many are spilled.
LIMITS = Limits(memory_factor=0, store_nbytes=3 * LARGE_NBYTES)
WORKER_DELAY_S = 0.0005
#: Seconds that a slow node takes to handle an event, times its slowness.
HANDLING_S = 0.001
#: Seconds until a message that can't pass now is tried again.
WAIT_S = 0.2
#: A copy is late when it takes longer.
LATE_S = 1.0
#: A node that is told to leave has left so soon after others are there and nothing goes wrong any more.
LEAVING_S = 25.0
#: The node talks to itself to be declared anew, as an app of its own process would.
SELF = PeerId(b"self")


class SimulatedNode:
    """One life of a node."""

    def __init__(
        self, name: str, address: str, incarnation: str, capabilities: Resources, cluster: "Cluster"
    ) -> None:
        self.name = name
        self.address = address
        self.incarnation = incarnation
        self.timeline: Timeline = cluster.timeline
        self.clock = Clock(cluster.timeline, cluster.random)
        self.is_alive = True
        self.is_leaving = False
        #: True while its adverts reach no app.
        self.is_mute = False
        #: The factor by which everything takes longer, and the end of that.
        self.slowness = 1.0
        self._slow_until = 0.0
        self.longest_lag_s = 0.0
        self.links: dict[PeerId, Link] = {}
        self.seq = 0
        self._cluster = cluster
        self._random: Random = cluster.random
        workers = max(1, int(capabilities.get("cpu", 1)))
        lifetime = cluster.lifetimes.get(name, FOREVER)
        self.machine = NodeMachine(capabilities, workers, workers + 4, LEASE_S, LIMITS, lifetime)
        self._events = Line(cluster.timeline)
        self._orders = Line(cluster.timeline)
        #: Copies that the node was asked for, and has not told of, and since when.
        self.copying: dict[tuple[PeerId, RunId, Index], float] = {}
        self._workers: dict[WorkerId, SimulatedWorker] = {}
        self._inboxes: dict[WorkerId, Channel[NodeEvent]] = {}
        self._store: dict[Key, StoredBytes] = {}
        self._results: dict[tuple[RunId, Index, Attempt], bytes] = {}
        #: One transfer for each value, the one asked for last.
        self._fetching: dict[Key, FetchInput] = {}
        self._reports: Counter[tuple[PeerId, RunId, Index, Attempt]] = Counter()
        #: Claims may exceed what has been redeclared until they end.
        self._allowed: Resources = dict(capabilities)
        self._is_redeclared = False
        #: True if its machine is to raise over the next event.
        self._has_a_bug = False

    # --- What the world does to it ------------------------------------------------------------------------------

    def start(self) -> None:
        self._cluster.drive(self, self.machine, self.machine.start, self.carry_out)
        self.handle(PeerConnected(SELF, has_lease=False))

    @property
    def lag_s(self) -> float:
        return HANDLING_S * self.slowness if self.slowness > 1 else 0.0

    def handle(self, event: NodeEvent) -> None:
        self._in_turn(lambda: self._handle(event))

    def _in_turn(self, action: Callable[[], None]) -> None:
        if self.slowness > 1 or not self._events.is_empty:
            self._events.after(self.lag_s, action)
        else:
            action()

    def _handle(self, event: NodeEvent) -> None:
        if not self.is_alive:
            return
        if isinstance(event, MessageFromPeer) and isinstance(event.message, Copy):
            for ref in event.message.values:
                self.copying[event.peer, event.message.run, ref.index] = self.timeline.now
        self._cluster.note(self.name, event)
        if self._has_a_bug:
            self._raise(event)
            return
        self._cluster.drive(self, self.machine, partial(self.machine.handle, event), self.carry_out)

    def connected(self, link: "Link") -> None:
        self.links[link.peer] = link
        self.handle(PeerConnected(link.peer))

    def lost(self, link: "Link") -> None:
        if self.links.pop(link.peer, None) is not None:
            self.handle(PeerLost(link.peer))

    def crash(self) -> None:
        """Be gone from one moment to the next, with everything."""
        self.is_alive = False
        for worker in self._workers.values():
            worker.die()
        for link in list(self.links.values()):
            link.cut(notify_node=False)

    def meet_a_bug(self) -> None:
        self._has_a_bug = True

    def _raise(self, event: NodeEvent) -> None:
        """End as the shell ends a node whose machine has raised: half of the event is done, and its effects are lost."""
        self.machine.handle(event, self.clock.now)
        self._cluster.faults["a bug"] += 1
        self.is_alive = False
        for worker in self._workers.values():
            worker.die()
        for link in list(self.links.values()):
            link.to_app.send(crash_report(AssertionError("a bug"), event))
            # The last words arrive, or the connection breaks before.
            self.timeline.after(self._random.random() * 0.1, partial(link.cut, notify_node=False))
        self.links.clear()

    def crash_a_worker(self) -> None:
        busy = [worker for worker in self._workers.values() if worker.running]
        if busy:
            self._random.choice(busy).die()

    def redeclare(self, capabilities: Resources) -> None:
        self._is_redeclared = True
        self.handle(MessageFromPeer(SELF, Redeclare(capabilities)))

    def leave(self) -> None:
        if self.is_leaving:
            return
        self.is_leaving = True
        self.handle(Leave())
        self._look_whether_it_leaves(self.timeline.now)

    def speak_again(self) -> None:
        self.is_mute = False

    def slow_down(self, slowness: float, for_s: float) -> None:
        self.slowness = slowness
        self._slow_until = self.timeline.now + for_s
        self.longest_lag_s = max(self.longest_lag_s, 20 * self.lag_s)
        self.timeline.after(for_s, self._speed_up)

    def takes_s(self, usual_s: float) -> float:
        """The seconds that an action takes if it begins now."""
        slow_s = max(0.0, self._slow_until - self.timeline.now)
        return min(usual_s * self.slowness, slow_s + max(0.0, usual_s - slow_s / self.slowness))

    def _speed_up(self) -> None:
        self.slowness = 1.0

    def _look_whether_it_leaves(self, since: float) -> None:
        """Assert that it does within the time allowed, from when it can."""
        if not self.is_alive or not self._cluster.goes_on:
            return
        now = self.timeline.now
        if not self._cluster.has_another_than(self):
            since = now
        since = max(since, self._cluster.calm_at)
        assert now < since + LEAVING_S, f"{self.name} does not leave"
        self.timeline.after(1.0, lambda: self._look_whether_it_leaves(since))

    # --- What its workers need ----------------------------------------------------------------------------------

    def conduct_of(self, key: Key, attempt: int) -> tuple[Conduct, int]:
        return self._cluster.conduct_of(key, attempt)

    def begin(self, task: Task) -> bytes:
        running = [other for worker in self._workers.values() for other in worker.running.values()]
        claims = [claim for worker in self._workers.values() for claim in worker.claims()]
        for resource in sorted({resource for claim in claims for resource in claim}):
            used = sum(claim.get(resource, 0.0) for claim in claims)
            allowed = self._allowed.get(resource, 0.0)
            assert used <= allowed + TOLERANCE, f"{self.name}: {used} of {allowed} {resource} are in use"
        if not self._is_redeclared:
            shares = shares_of(running)
            assert all(share <= 1 + TOLERANCE for share in shares.values()), f"devices are shared: {shares}"
        run = task.give.run
        workers = [worker for worker in self._workers.values() if worker.running.get(task.key) is task]
        if any(task.objects.keys() & worker.objects.keys() for worker in workers):
            self._cluster.faults["objects found"] += 1
        if task.is_behind:
            self._cluster.faults["ran in a fused group"] += 1
        look_up = partial(self._look_up, run)
        return Evaluation(task.job, task.give.templates, self.name, look_up, task.earlier).result()

    def store_result(self, task: Task) -> int:
        run, index = task.key
        self._results[run, index, task.job.attempt] = task.value
        return LARGE_NBYTES

    def store_part(self, task: Task, index: Index, value: bytes) -> None:
        self._cluster.faults["large arguments"] += 1
        self._results[task.give.run, index, task.job.attempt] = value

    def value(self, run: RunId, index: Index) -> bytes | None:
        stored = self.stored(run, index)
        return None if stored is None else stored.value

    def stored(self, run: RunId, index: Index, version: int = 0) -> StoredBytes | None:
        """A value that its machine says is here, in this version."""
        if not (self.is_alive and self.machine.has_version(run, index, version)):
            return None
        stored = self._store.get((run, index))
        assert stored is None or version in {0, stored.version}, f"{self.name} has {stored}, not {version}"
        return stored

    def versions_of(self, run: RunId) -> list[tuple[Index, int]]:
        """The values of a run in its store."""
        return [(index, stored.version) for (of, index), stored in self._store.items() if of == run]

    def _look_up(self, run: RunId, ref: Ref) -> bytes:
        assert (run, ref.index) in self._store, (
            f"{self.name} runs a function of {run} without its input {ref}"
        )
        value, version = self._store[run, ref.index]
        # It may have been made again meanwhile. The value of another function would come out in the results.
        assert ref.version <= version, f"{self.name} gives a function of {run} {version} for {ref}"
        return value

    # --- What the machine decides -------------------------------------------------------------------------------

    def carry_out(self, effect: NodeEffect) -> None:  # noqa: C901, PLR0912 - one table
        match effect:
            case Reply(peer, message):
                self._reply(peer, message)
            case ReportProtocolError(_, reason):
                raise AssertionError(f"{self.name} rejects a message: {reason}")
            case SpawnWorker():
                self._spawn(effect)
            case RunJobs(worker):
                self._after_a_moment(lambda: self._workers[worker].give(effect))
            case SpillValue(run, index):
                self._after_a_moment(lambda: self.handle(ValueSpilled(run, index)))
            case RecallWorker(worker):
                self._after_a_moment(self._workers[worker].give_back)
            case CancelCoroutine(worker, run, index):
                self._after_a_moment(lambda: self._workers[worker].cancel((run, index)))
            case KillWorker(worker):
                self._after_a_moment(self._workers[worker].die)
                self._cluster.note_given_up(self._workers[worker].objects)
            case FetchInput():
                self._fetching[effect.run, effect.index] = effect
                delay_s = self._random.choice(
                    (0.001, 0.02, 0.3, 0.3, 3.0 if self._cluster.has_faults else 0.3)
                )
                self.timeline.after(self.takes_s(delay_s), lambda: self._in_turn(lambda: self._fetch(effect)))
            case KeepValue(run, index, attempt):
                self._store[run, index] = StoredBytes(self._results.pop((run, index, attempt)), attempt)
            case DiscardValue(run, index, attempt):
                self._results.pop((run, index, attempt), None)
            case ForgetRun(run):
                self._forget(run)
            case ForgetValues(run, stored, fetches):
                for index in stored:
                    del self._store[run, index]
                for index in fetches:
                    del self._fetching[run, index]
            case ForgetTemplates():
                # Workers here are given them with each function.
                pass
            case Advertise():
                self.seq += 1
                self._cluster.publish(self, effect)
            case ForgetPeer(peer):
                self._forget_peer(peer)
            case CheckValue() | TellId() | PassRows() | DiscardItems():
                # Nobody removes anything here, asks for an id, or runs a stage.
                pass
            case LogRetirement() | LogDeath() | LogRunOpened() | LogSpill():
                self._cluster.faults["retired"] += 1
            case LeaveDue():
                self._cluster.faults["ended by itself"] += 1
                self.timeline.after(0.0, self.leave)
            case LeaveCompleted():
                self._cluster.faults["left"] += 1
                self.crash()
            case _:
                assert_never(effect)

    def _forget_peer(self, peer: PeerId) -> None:
        link = self.links.pop(peer, None)
        if link is not None and link.is_up and link.app.is_alive:
            self._cluster.faults["the node gave up a link"] += 1
        for lost in [copy for copy in self.copying if copy[0] == peer]:
            del self.copying[lost]
            self._cluster.faults["never copied"] += 1

    def _reply(self, peer: PeerId, message: FromNode) -> None:
        self._count_reports(peer, message)
        link = self.links.get(peer)
        if link is not None:
            link.to_app.send(message)

    def _count_reports(self, peer: PeerId, message: FromNode) -> None:
        match message:
            case Recalled(run, entries, is_separated):
                self._cluster.faults["separated"] += is_separated
                tickets = [(peer, run, entry.index, entry.attempt) for entry in entries]
            case Completed(run, entries):
                tickets = [(peer, run, entry.index, entry.attempt) for entry in entries]
            case Copied(run, copied, missing):
                self._count_copies(peer, run, [*copied, *missing])
                return
            case Failed(run, index, attempt):
                tickets = [(peer, run, index, attempt)]
            case _:
                return
        for ticket in tickets:
            self._reports[ticket] += 1
            assert self._reports[ticket] == 1, f"{self.name} reports twice about {ticket}"

    def _count_copies(self, peer: PeerId, run: RunId, indices: list[Index]) -> None:
        for index in indices:
            since = self.copying.pop((peer, run, index), self.timeline.now)
            is_late = self.timeline.now > since + LATE_S
            self._cluster.faults["copied late" if is_late else "copied"] += 1

    def _spawn(self, effect: SpawnWorker) -> None:
        inbox = Channel(self.timeline, self._random, WORKER_DELAY_S, Inbox(self.timeline, self.handle).take)
        worker = SimulatedWorker(effect.worker, self, inbox, is_async=effect.is_async)
        self._workers[effect.worker] = worker
        if self._cluster.has_faults and self._random.random() < 0.02:
            self.timeline.after(0.05, lambda: worker.die(signal=None))
        else:
            self.timeline.after(self._random.choice((0.001, 0.05)), worker.come_up)

    def _after_a_moment(self, action: Callable[[], None]) -> None:
        # One line for all, so that what is said to a worker stays in order.
        self._orders.after(self.takes_s(WORKER_DELAY_S), action)

    def _fetch(self, fetch: FetchInput) -> None:
        if self._fetching.get((fetch.run, fetch.index)) is not fetch or not self.is_alive:
            return
        link = self.links.get(fetch.peer)
        if "" in fetch.holders and link is not None and link.is_up and not link.path.is_clear:
            self.timeline.after(WAIT_S, lambda: self._in_turn(lambda: self._fetch(fetch)))
            return
        apart = [holder for holder in fetch.holders if holder and self._cluster.are_apart(self, holder)]
        for holder in fetch.holders:
            if holder in apart:
                continue
            value = self._cluster.value_at(holder, fetch.peer, fetch.run, fetch.index, fetch.version, self)
            if value is not None:
                self._fetched(fetch, value)
                return
        answer = relayed(self._cluster, self, fetch) if apart else "input"
        match answer:
            case StoredBytes():
                self._fetched(fetch, answer)
            case "later":
                self.timeline.after(WAIT_S, lambda: self._in_turn(lambda: self._fetch(fetch)))
            case _:
                del self._fetching[fetch.run, fetch.index]
                reason = f"{list(fetch.holders)} do not have it"
                self._handle(InputMissing(fetch.run, fetch.index, reason, answer))

    def _fetched(self, fetch: FetchInput, value: StoredBytes) -> None:
        assert fetch.version in {0, value.version}, f"{self.name} fetches {fetch} and gets {value}"
        del self._fetching[fetch.run, fetch.index]
        self._store[fetch.run, fetch.index] = value
        self._handle(InputFetched(fetch.run, fetch.index, fetch.nbytes))

    def _forget(self, run: RunId) -> None:
        for key in [key for key in self._store if key[0] == run]:
            del self._store[key]
        self._fetching = {key: fetch for key, fetch in self._fetching.items() if key[0] != run}

    # --- What must hold -----------------------------------------------------------------------------------------

    def check(self) -> None:
        self.machine.check()
        for run, index in self._store:
            assert self.machine.has_version(run, index, 0), f"{self.name} has forgotten {index} of {run}"
        ledger = self.machine.ledger
        for resource, claimed in ledger.claimed.items():
            allowed = max(ledger.totals.get(resource, 0.0), min(self._allowed.get(resource, 0.0), claimed))
            assert claimed <= allowed + TOLERANCE, (
                f"{self.name} has {claimed} of {allowed} {resource} claimed"
            )
            self._allowed[resource] = allowed
        self._allowed |= {
            resource: total for resource, total in ledger.totals.items() if resource not in self._allowed
        }

    @property
    def holds_values(self) -> bool:
        return bool(self._store)

    @property
    def is_empty(self) -> bool:
        return self.machine.is_idle and not self._store and not self._results and not self._fetching

    def check_that_it_is_empty(self) -> None:
        assert self.machine.is_idle, f"{self.name} is not idle"
        assert not self._store, f"{self.name} still stores {list(self._store)}"
        assert not self._results, f"{self.name} still holds results {list(self._results)}"
        assert not self._fetching
        assert not any(worker.running for worker in self._workers.values())
