"""Whose runs a node serves, and for how long: peers, their leases, and what belongs to each."""

from collections.abc import Iterable

from msgspec import Struct, field

from handoff_actors.core.node.events import FetchInput
from handoff_actors.core.node.fair_queue import tickets_of
from handoff_actors.ids import Index, PeerId, RunId
from handoff_actors.lru import LruCache
from handoff_actors.wire.messages.jobs import Job, Ref, Template, Ticket
from handoff_actors.wire.messages.runs import Assign, Fetched

#: Closed runs whose late messages are still recognised as such.
REMEMBERED_RUNS = 1024


class Client(Struct):
    """Somebody with a connection to this node."""

    #: Those that came later have higher ones.
    number: int
    #: Monotonic seconds; None: no lease, it can't vanish unnoticed.
    lease_ends_at: float | None
    #: For people.
    name: str = ""
    #: It has left; it is kept until its last run is closed.
    is_gone: bool = False
    runs: set[RunId] = field(default_factory=set)
    #: Runs to come, with what was refused while the remains of an earlier connection were in the way.
    refused: "dict[RunId, ClientRun]" = field(default_factory=dict)


class FetchedValue(Struct, frozen=True):
    """A value that was brought here."""

    index: Index
    nbytes: int
    began_at: float
    ended_at: float


class ClientRun(Struct):
    """A run that this node serves."""

    peer: PeerId
    templates: dict[int, Template] = field(default_factory=dict)
    #: It is over; what it left is being cleared away.
    is_closing: bool = False
    #: The highest attempt seen of each function.
    attempts: dict[Index, int] = field(default_factory=dict)
    #: Since when values are on their way here, and what has come since the run was last told.
    fetching_since: dict[Index, float] = field(default_factory=dict)
    fetched: list[FetchedValue] = field(default_factory=list)
    #: By template: what its functions need of a directory that this node may lack; and for which directory each is.
    packages: dict[int, Ref] = field(default_factory=dict)
    directories: dict[Index, str] = field(default_factory=dict)

    def learn(self, templates: Iterable[Template]) -> None:
        """Take in what the run's jobs have in common."""
        for template in templates:
            self.templates[template.number] = template
            environment = template.environment
            if environment is not None and environment.package is not None:
                self.packages[template.number] = environment.package
                self.directories[environment.package.index] = environment.directory

    def packages_of(self, job: Job) -> list[Ref]:
        """What a job, and those behind it, need of directories."""
        used = {member.template for member in (job, *job.then)}
        return [self.packages[number] for number in sorted(used & self.packages.keys())]

    def fetches(self, run: RunId, missing: Iterable[Ref], now: float) -> list[FetchInput]:
        """What brings values here, from now on."""
        effects: list[FetchInput] = []
        for ref in missing:
            self.fetching_since[ref.index] = now
            directory = self.directories.get(ref.index, "")
            holders = tuple(ref.holders)
            effects.append(FetchInput(self.peer, run, ref.index, ref.nbytes, holders, directory))
        return effects

    def arrived(self, index: Index, nbytes: int, now: float) -> None:
        """A value has come."""
        began_at = self.fetching_since.pop(index, None)
        # What takes nothing was here already.
        if began_at is not None and nbytes:
            self.fetched.append(FetchedValue(index, nbytes, began_at, now))

    def take_fetched(self, now: float) -> list[Fetched]:
        """What has come since this was last asked, as one tells others."""
        fetched, self.fetched = self.fetched, []
        return [
            Fetched(entry.index, entry.nbytes, entry.ended_at - entry.began_at, now - entry.ended_at)
            for entry in fetched
        ]


class Clients:
    """All peers and their runs."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._peers: dict[PeerId, Client] = {}
        self._runs: dict[RunId, ClientRun] = {}
        #: Those that are over and not cleared away, in this order.
        self.closing: dict[RunId, None] = {}
        #: Those that go on and are told when workers get their functions.
        self.watched: set[RunId] = set()
        #: By whom, too: over a new connection a run may begin here anew.
        self._closed: LruCache[tuple[PeerId, RunId], None] = LruCache(REMEMBERED_RUNS)
        self._peers_ever = 0
        self._departed: list[PeerId] = []

    def __len__(self) -> int:
        return len(self._runs)

    def connected(self, peer: PeerId, now: float, name: str = "", *, has_lease: bool) -> None:
        """Somebody is here. To say so twice changes nothing."""
        if peer in self._peers:
            return
        self._peers_ever += 1
        self._peers[peer] = Client(self._peers_ever, now + self._lease_s if has_lease else None, name)

    def heard(self, peer: PeerId, now: float) -> bool:
        """Renew a lease; False: this is not one of ours."""
        state = self._peers.get(peer)
        if state is None or state.is_gone:
            return False
        if state.lease_ends_at is not None:
            state.lease_ends_at = now + self._lease_s
        return True

    def lapsed(self, now: float) -> list[PeerId]:
        """Those whose lease has ended."""
        return [
            peer
            for peer, state in self._peers.items()
            if state.lease_ends_at is not None and now >= state.lease_ends_at
        ]

    @property
    def wake_at(self) -> float | None:
        """When the next lease ends."""
        ends = (state.lease_ends_at for state in self._peers.values())
        return min((end for end in ends if end is not None), default=None)

    def known_templates(self, peer: PeerId, run: RunId) -> dict[int, Template] | None:
        """The templates that a peer has sent for its run; None where the run is over, or somebody else's."""
        state = self._runs.get(run)
        if state is None:
            future = self._peers[peer].refused.get(run)
            is_over = (peer, run) in self._closed
            return None if is_over else {} if future is None else future.templates
        return None if state.is_closing or state.peer != peer else state.templates

    def open(self, peer: PeerId, run: RunId, *, is_watched: bool = False) -> ClientRun:
        """The run, as the peer's, opened if need be. It must not be over, nor somebody else's."""
        state = self._runs.get(run)
        if state is None:
            state = self._runs[run] = self._peers[peer].refused.pop(run, ClientRun(peer))
            self._peers[peer].runs.add(run)
        if is_watched:
            self.watched.add(run)
        return state

    def is_displaced(self, run: RunId, peer: PeerId) -> bool:
        """Whether the run is here for an earlier connection than this one, which then must have been lost."""
        state = self._runs.get(run)
        return state is not None and self._peers[state.peer].number < self._peers[peer].number

    def refuse(self, peer: PeerId, message: Assign) -> list[Ticket]:
        """Refuse attempts for good, but keep the templates; the answer is the attempts not refused before."""
        future = self._peers[peer].refused.setdefault(message.run, ClientRun(peer))
        future.learn(message.templates)
        named = [ticket for job in message.jobs for ticket in tickets_of(job)]
        fresh = [ticket for ticket in named if ticket.attempt > future.attempts.get(ticket.index, 0)]
        future.attempts.update((ticket.index, ticket.attempt) for ticket in fresh)
        return fresh

    def hand_over(self, run: RunId, peer: PeerId) -> None:
        """Let the run be another peer's."""
        state = self._runs[run]
        self._drop(run, state.peer)
        state.peer = peer
        self._peers[peer].runs.add(run)

    def get(self, run: RunId) -> ClientRun | None:
        """A run that is here, closing or not."""
        return self._runs.get(run)

    def live(self, run: RunId) -> ClientRun | None:
        """A run that is here and goes on."""
        state = self._runs.get(run)
        return None if state is None or state.is_closing else state

    def owner(self, run: RunId) -> str:
        """The name of whoever a run that is here belongs to."""
        return self._peers[self._runs[run].peer].name

    def all_runs(self) -> list[tuple[RunId, bool]]:
        """Every run that is here, and whether it is over."""
        return [(run, state.is_closing) for run, state in self._runs.items()]

    def lives(self) -> list[tuple[RunId, ClientRun]]:
        """Every run that goes on."""
        return [(run, state) for run, state in self._runs.items() if not state.is_closing]

    def close(self, run: RunId) -> None:
        """A run is over; what it has left is to be cleared away."""
        self._runs[run].is_closing = True
        self.closing[run] = None
        self.watched.discard(run)

    def leave(self, peer: PeerId) -> list[RunId]:
        """A peer has gone; the answer is its runs that went on until now."""
        state = self._peers.get(peer)
        if state is None:
            return []
        state.is_gone, state.lease_ends_at = True, None
        self._depart(peer, state)
        return [run for run in sorted(state.runs) if not self._runs[run].is_closing]

    def take_departed(self) -> list[PeerId]:
        """Those that are gone, with all that was theirs, since this was last asked."""
        departed, self._departed = self._departed, []
        return departed

    def remove(self, run: RunId) -> PeerId:
        """A run has been cleared away; the answer is whose it was."""
        peer = self._runs.pop(run).peer
        del self.closing[run]
        self.remember_closed(peer, run)
        self._drop(run, peer)
        return peer

    def remember_closed(self, peer: PeerId, run: RunId) -> None:
        """Recognise what comes too late for this run."""
        # A run that is closed twice is remembered from the first time on.
        if (peer, run) not in self._closed:
            self._closed.put((peer, run), None)

    def check(self) -> None:
        """Assert that every run is somebody's."""
        for run, state in self._runs.items():
            assert run in self._peers[state.peer].runs, f"run {run} is not among its peer's"
        for peer in self._peers.values():
            assert peer.runs <= self._runs.keys(), "a peer has runs that are gone"
            assert peer.runs or not peer.is_gone, "a peer that has gone is remembered for nothing"

    def _drop(self, run: RunId, peer: PeerId) -> None:
        state = self._peers[peer]
        state.runs.discard(run)
        self._depart(peer, state)

    def _depart(self, peer: PeerId, state: Client) -> None:
        if state.is_gone and not state.runs:
            del self._peers[peer]
            self._departed.append(peer)
