"""The peers of a node, their leases, and the runs that belong to each."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec import Struct, field

from handoff_actors.core.node.events import FetchInput, ForgetPeer, LogRunOpened
from handoff_actors.core.node.scheduling.fair_queue import tickets_of
from handoff_actors.ids import Index, PeerId, RunId
from handoff_actors.lru import LruCache
from handoff_actors.wire.messages.jobs import Job, OwnModules, Ref, Template, Ticket, ValueOf
from handoff_actors.wire.messages.members import Backlog, RunProgress
from handoff_actors.wire.messages.nested import Ancestor
from handoff_actors.wire.messages.runs import Assign, Fetched

#: Seconds until all have heard that another node has been sent what was given back here.
FILLED_S = 0.03
#: A service begins hundreds of runs in a second, for each of which files would be looked at.
IMPORTABLE_FOR_S = 0.1
#: Fetches that are reported together, as the next function succeeds: beyond that they are not reported.
MOST_FETCHED = 10_000
#: Closed runs whose late messages are still recognised as such.
REMEMBERED_RUNS = 1024


class Client(Struct):
    """A peer that is connected to this node."""

    #: Peers that connected later have higher numbers.
    number: int
    #: Monotonic seconds; None: no lease, as the peer can't vanish unnoticed.
    lease_ends_at: float | None
    #: For people.
    name: str = ""
    #: True once the client has left; it is kept until its last run is closed.
    is_gone: bool = False
    #: It was the client that said so.
    has_left: bool = False
    runs: set[RunId] = field(default_factory=set)
    #: Assignments rejected while an older connection still owned the run.
    refused: "dict[RunId, ClientRun]" = field(default_factory=dict)
    #: Its functions that wait for nodes with room, as it has last told them.
    backlogs: Sequence[Backlog] = ()


class FetchedValue(Struct, frozen=True):
    """A value that was fetched from elsewhere."""

    index: Index
    nbytes: int
    began_at: float
    ended_at: float


class ClientRun(Struct):
    """A run that this node serves."""

    peer: PeerId
    #: For monitors.
    dag_name: str = ""
    progress: RunProgress | None = None
    templates: dict[int, Template] = field(default_factory=dict)
    #: Numbers of those that the run needs no more, and jobs here still use.
    dropped_templates: set[int] = field(default_factory=set)
    #: The function that has begun the run and waits for it; None for a run that an app has begun.
    parent: Ancestor | None = None
    #: The run is over, and what it has left is being cleared away, or has been but for its values, if it `keeps_values`.
    is_over: bool = False
    keeps_values: bool = False
    #: The highest attempt seen of each function.
    attempts: dict[Index, int] = field(default_factory=dict)
    #: When each fetch that is under way began, and the fetches not yet reported to the run.
    fetching_since: dict[Index, float] = field(default_factory=dict)
    fetched: list[FetchedValue] = field(default_factory=list)
    #: The packed directory and the definitions of modules that functions of a template need and that are not here yet, by
    #: template. The path of each directory, and the names and sources of the modules, by the index of the value.
    packages: dict[int, list[Ref]] = field(default_factory=dict)
    directories: dict[Index, bytes] = field(default_factory=dict)
    modules: dict[Index, OwnModules] = field(default_factory=dict)
    #: Those that are here: jobs need not ask for them again.
    packages_here: set[Index] = field(default_factory=set)

    #: Its app wants the progress of its functions.
    sends_progress: bool = False

    def learn(self, templates: Iterable[Template], importable: Collection[bytes] = ()) -> None:
        """Store templates, which the run's jobs refer to. `importable` are keys of modules that workers can import."""
        for template in templates:
            self.templates[template.number] = template
            self.sends_progress |= template.sends_progress
            environment, modules = template.environment, template.modules
            if environment is not None and environment.package is not None:
                self._need(template.number, environment.package)
                self.directories[environment.package.index] = environment.directory
            if modules is not None and modules.key not in importable:
                self._need(template.number, modules.definitions)
                self.modules[modules.definitions.index] = modules

    def lose_packages(self) -> None:
        """Take note that all packages are gone from the store."""
        self.packages_here.clear()
        self.packages.clear()
        self.learn(list(self.templates.values()))

    def lose_package(self, index: Index) -> None:
        """Take note that a value is gone from the store, which may have been a package."""
        if index in self.packages_here:
            self.packages_here.discard(index)
            self.packages.clear()
            self.learn(list(self.templates.values()))

    def forget_templates(self, numbers: Iterable[int]) -> list[bytes]:
        """Drop templates. Returns the keys of the sets of modules that no other one needs."""
        former = {modules.key for modules in self.modules.values()}
        for number in numbers:
            del self.templates[number]
            self.packages.pop(number, None)
        self.dropped_templates.difference_update(numbers)
        needed = {ref.index for template in self.templates.values() for ref in _packages_of(template)}
        self.directories = {index: path for index, path in self.directories.items() if index in needed}
        self.modules = {index: modules for index, modules in self.modules.items() if index in needed}
        self.packages_here &= needed
        return sorted(former - {modules.key for modules in self.modules.values()})

    def _need(self, template: int, package: Ref) -> None:
        if package.index not in self.packages_here:
            self.packages.setdefault(template, []).append(package)

    def packages_of(self, job: Job) -> list[Ref]:
        """The packages that are not here, and that a job and the rest of its fused group need."""
        used = {member.template for member in (job, *job.then)}
        return [ref for number in sorted(used & self.packages.keys()) for ref in self.packages[number]]

    def fetches(
        self, run: RunId, missing: Iterable[Ref], now: float, is_here: Callable[[ValueOf], bool]
    ) -> list[FetchInput]:
        """Begin to fetch values. `is_here` tells whether one of another run is in the store."""
        effects: list[FetchInput] = []
        for ref in missing:
            self.fetching_since[ref.index] = now
            directory, modules = self.directories.get(ref.index, b""), self.modules.get(ref.index)
            holders = tuple(ref.holders)
            source = ref.source
            effects.append(
                FetchInput(
                    self.peer,
                    run,
                    ref.index,
                    ref.nbytes,
                    holders,
                    directory,
                    ref.version,
                    modules,
                    source,
                    is_here=source is not None and is_here(source),
                )
            )
        return effects

    def arrived(self, index: Index, nbytes: int, now: float) -> None:
        """Record a fetch that has ended."""
        began_at = self.fetching_since.pop(index, None)
        if index in self.directories or index in self.modules:
            self.packages_here.add(index)
            missing = {
                number: [ref for ref in refs if ref.index != index] for number, refs in self.packages.items()
            }
            self.packages = {number: refs for number, refs in missing.items() if refs}
        # A value without bytes is a package that was here already.
        if began_at is not None and nbytes and len(self.fetched) < MOST_FETCHED:
            self.fetched.append(FetchedValue(index, nbytes, began_at, now))

    def take_fetched(self, now: float) -> list[Fetched]:
        """Drain the fetches not yet reported."""
        fetched, self.fetched = self.fetched, []
        return [
            Fetched(entry.index, entry.nbytes, entry.ended_at - entry.began_at, now - entry.ended_at)
            for entry in fetched
        ]


def _packages_of(template: Template) -> list[Ref]:
    environment, modules = template.environment, template.modules
    packages = [] if environment is None or environment.package is None else [environment.package]
    return packages if modules is None else [*packages, modules.definitions]


class Clients:
    """All peers of a node, and their runs."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._peers: dict[PeerId, Client] = {}
        self._runs: dict[RunId, ClientRun] = {}
        #: Runs that are over and not yet cleared away, in the order in which they ended.
        self.closing: dict[RunId, None] = {}
        #: Open runs that are told when workers get their functions.
        self.watched: set[RunId] = set()
        #: With the peer, since a run may begin here anew over a new connection.
        #: Functions given back lately: when, to whom, how many.
        self._given_back: deque[tuple[float, PeerId, int]] = deque()
        #: By key of a set of modules: until when its sources need not be compared again.
        self._importable_until: dict[bytes, float] = {}
        self._closed: LruCache[tuple[PeerId, RunId], None] = LruCache(REMEMBERED_RUNS)
        self._peers_ever = 0
        self._departed: list[ForgetPeer] = []
        self._opened: list[LogRunOpened] = []

    def __len__(self) -> int:
        return len(self._runs)

    def can_import(self, key: bytes, now: float) -> None:
        """Note that workers would import a set of modules from the same sources."""
        self._importable_until[key] = now + IMPORTABLE_FOR_S

    def importable(self, now: float) -> Collection[bytes]:
        """The keys of sets of modules of which that was found a moment ago."""
        if any(until < now for until in self._importable_until.values()):
            self._importable_until = {
                key: until for key, until in self._importable_until.items() if until >= now
            }
        return self._importable_until.keys()

    def connected(self, peer: PeerId, now: float, name: str = "", *, has_lease: bool) -> None:
        """Add a peer. Adding it again changes nothing."""
        if peer in self._peers:
            return
        self._peers_ever += 1
        self._peers[peer] = Client(self._peers_ever, now + self._lease_s if has_lease else None, name)

    def renew_lease(self, peer: PeerId, now: float) -> bool:
        """Renew a peer's lease. Returns False for a peer that is unknown or has left."""
        state = self._peers.get(peer)
        if state is None or state.is_gone:
            return False
        if state.lease_ends_at is not None:
            state.lease_ends_at = now + self._lease_s
        return True

    def lapsed(self, now: float) -> list[PeerId]:
        """The peers whose lease has ended."""
        return [
            peer
            for peer, state in self._peers.items()
            if state.lease_ends_at is not None and now >= state.lease_ends_at
        ]

    @property
    def wake_at(self) -> float | None:
        """The time at which the next lease ends."""
        ends = (state.lease_ends_at for state in self._peers.values())
        return min((end for end in ends if end is not None), default=None)

    def known_templates(self, peer: PeerId, run: RunId) -> dict[int, Template] | None:
        """The templates that a peer has sent for its run; None where the run is over, or belongs to another peer."""
        state = self._runs.get(run)
        if state is None:
            future = self._peers[peer].refused.get(run)
            is_over = (peer, run) in self._closed
            return None if is_over else {} if future is None else future.templates
        return None if state.is_over or state.peer != peer else state.templates

    def open(self, peer: PeerId, run: RunId, dag_name: str = "", *, is_watched: bool = False) -> ClientRun:
        """Return the peer's run, opened if need be. It must not be over, nor belong to another peer."""
        state = self._runs.get(run)
        if state is None:
            state = self._runs[run] = self._peers[peer].refused.pop(run, ClientRun(peer))
            self._peers[peer].runs.add(run)
            self._opened.append(LogRunOpened(run, dag_name, self._peers[peer].name))
        if dag_name:
            state.dag_name = dag_name
        if is_watched:
            self.watched.add(run)
        return state

    def note_progress(self, peer: PeerId, told: Iterable[RunProgress]) -> None:
        """Note how far a peer's runs are, for monitors; other runs are ignored."""
        for progress in told:
            state = self._runs.get(progress.run)
            if state is not None and state.peer == peer:
                state.dag_name, state.progress = progress.dag_name, progress

    def note_backlogs(self, peer: PeerId, backlogs: Sequence[Backlog]) -> None:
        """Note what waits at a peer, for nodes with room."""
        self._peers[peer].backlogs = backlogs

    def backlogs(self) -> list[Backlog]:
        """List what waits at all peers."""
        return [backlog for state in self._peers.values() for backlog in state.backlogs]

    def is_displaced(self, run: RunId, peer: PeerId) -> bool:
        """True if the run belongs to an older connection than this one. That connection must then have been lost."""
        state = self._runs.get(run)
        return state is not None and self._peers[state.peer].number < self._peers[peer].number

    def refuse(self, peer: PeerId, message: Assign) -> list[Ticket]:
        """Refuse attempts for good, but keep the templates. Returns the attempts that were not refused before."""
        future = self._peers[peer].refused.setdefault(message.run, ClientRun(peer))
        future.learn(message.templates)
        named = [ticket for job in message.jobs for ticket in tickets_of(job)]
        fresh = [ticket for ticket in named if ticket.attempt > future.attempts.get(ticket.index, 0)]
        future.attempts.update((ticket.index, ticket.attempt) for ticket in fresh)
        return fresh

    def hand_over(self, run: RunId, peer: PeerId) -> None:
        """Give the run to another peer."""
        state = self._runs[run]
        self._drop(run, state.peer)
        state.peer = peer
        self._peers[peer].runs.add(run)

    def get(self, run: RunId) -> ClientRun | None:
        """Return a run, open or closing, or None."""
        return self._runs.get(run)

    def live(self, run: RunId) -> ClientRun | None:
        """Return a run that is open, or None."""
        state = self._runs.get(run)
        return None if state is None or state.is_over else state

    def owner(self, run: RunId) -> str:
        """The name of the peer that a run belongs to."""
        return self._peers[self._runs[run].peer].name

    def all_runs(self) -> list[tuple[RunId, ClientRun]]:
        """Every run, those that are being cleared away included."""
        return list(self._runs.items())

    def lives(self) -> list[tuple[RunId, ClientRun]]:
        """Every run that is open."""
        return [(run, state) for run, state in self._runs.items() if not state.is_over]

    def close(self, run: RunId, *, keeps_values: bool = False) -> None:
        """Mark a run as over, so that what it has left is cleared away."""
        state = self._runs[run]
        state.is_over, state.keeps_values = True, keeps_values
        self.closing[run] = None
        self.watched.discard(run)

    def leave(self, peer: PeerId, *, has_left: bool) -> list[RunId]:
        """Mark a peer as gone; `has_left`: it has said so. Returns its runs that were open until now."""
        state = self._peers.get(peer)
        if state is None:
            return []
        state.is_gone, state.has_left, state.lease_ends_at = True, has_left, None
        state.backlogs = ()
        self._depart(peer, state)
        return [run for run in sorted(state.runs) if not self.is_ending(run)]

    def is_ending(self, run: RunId) -> bool:
        """True if nothing of the run is to be left."""
        state = self._runs.get(run)
        return state is None or (state.is_over and not state.keeps_values)

    def stopped(self) -> list[RunId]:
        """Every run that has nothing but values any more, in the order in which they came."""
        return [run for run, state in self._runs.items() if state.keeps_values and run not in self.closing]

    def keeps_values(self, run: RunId) -> bool:
        """True if the values of a run stay when all else of it has been cleared away."""
        return self._runs[run].keeps_values

    def keep(self, run: RunId) -> PeerId:
        """Keep the values of a run that has nothing else any more. Returns the peer that it belongs to."""
        del self.closing[run]
        return self._runs[run].peer

    def take_changes(self) -> list[ForgetPeer | LogRunOpened]:
        """Drain the runs that have been opened, and the peers that have gone and have nothing left here."""
        if not (self._opened or self._departed):
            return []
        changes: list[ForgetPeer | LogRunOpened] = [*self._opened, *self._departed]
        self._opened, self._departed = [], []
        return changes

    def remove(self, run: RunId) -> PeerId:
        """Drop a run that has been cleared away. Returns the peer that it belonged to."""
        peer = self._runs.pop(run).peer
        del self.closing[run]
        self.remember_closed(peer, run)
        self._drop(run, peer)
        return peer

    def remember_closed(self, peer: PeerId, run: RunId) -> None:
        """Remember a closed run, so that late messages about it are ignored."""
        # A run that is closed twice is remembered from the first time on.
        if (peer, run) not in self._closed:
            self._closed.put((peer, run), None)

    def may_give_back(self, peer: PeerId, room: int, now: float) -> int:
        """The number of functions to give back to a peer that has seen room for `room` elsewhere.

        Others see the same room until the node that has it advertises what it has been sent.
        """
        while self._given_back and self._given_back[0][0] <= now - FILLED_S:
            self._given_back.popleft()
        return max(0, room - sum(count for _, other, count in self._given_back if other != peer))

    def gave_back(self, peer: PeerId, count: int, now: float) -> None:
        """Note that a peer has been given back so many functions."""
        self._given_back.append((now, peer, count))

    def check(self) -> None:
        """Assert that every run belongs to a peer."""
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
            self._departed.append(ForgetPeer(peer, state.has_left))
