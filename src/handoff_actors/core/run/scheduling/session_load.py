"""The load of each node as one session knows it: all that its runs have sent there, and the functions of others.

Each run of a session writes what it sends and what comes back; placement, and the recalls of waiting functions, count the
sum. What others have on a node is what the node advertises minus what this session had there when the advert came: wrong by
whatever was on its way then, until the next advert.

A run hears only of its own functions. So where room has become free that it could use, it is told to place again: first the
runs with functions that found no room, in turns, then those whose functions wait on a node, the latest run first.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from math import ceil
from typing import Protocol
from zlib import crc32

from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.resources import ROUNDING, TOLERANCE, holds, how_many
from handoff_actors.core.run.scheduling.requirements import RequirementClass, RequirementKey
from handoff_actors.core.run.scheduling.warm_nodes import WarmNodes
from handoff_actors.ids import Resources, RunId

#: Coroutines that one node is sent at once, if their claims allow it.
MAX_COROUTINES = 4096
#: Upper limit of slots, for functions that claim next to nothing.
MAX_SLOTS = 4096
#: Number of changes after which a reader looks at all nodes again.
MAX_CHANGES = 4096
#: Round trips are measured by this many messages before they count: the first functions load their code.
TRIPS = 4
#: Where so many runs find no room, others with the same needs will find none either, unless they may use other nodes.
MAX_REFUSALS = 4
#: A measured round trip counts up to this many seconds.
MAX_ROUND_TRIP_S = 0.25

#: What functions need, and the node that they are pinned to, if any.
Demand = tuple[RequirementKey, str | None]


class RunOnNode(Protocol):
    """The functions of one run on one node."""

    def leading(self) -> Iterable[RequirementClass]:
        """The classes of the functions that are no followers."""

    def count_by_class(self) -> Iterable[tuple[RequirementClass, int]]:
        """The number of those that are no followers, by class."""

    def may_have_waiting(self) -> bool:
        """True if some of them may have to wait there, and have not been asked back."""

    def clear(self) -> None:
        """Remove all of them."""


class NodeLoad:
    """One node: its offer, what the session has there, and what others have."""

    def __init__(self, event: NodeUp, session: "SessionLoad") -> None:
        self.name = event.name
        self.session = session
        #: The latest figures of the node, and their number.
        self.offer = event
        self.version = 0
        #: Claims on the node by any functions that run, as last advertised.
        self.claimed: Resources = {}
        #: Claims of other sessions' functions, whether they run or wait; the number of those that are sync, and of those of
        #: them that seem to claim no cores.
        self.others: Resources = {}
        self.others_busy = 0
        self._others_unclaimed = 0.0
        #: The same of this session, counted by `NodeState` from when a function is sent until its end is known.
        self.claims: Resources = {}
        self.busy = 0
        self.coroutines = 0
        #: Sync functions of this session that claim no cores.
        self.unclaimed = 0
        #: True after the node has returned functions without being asked, until its next advert: no more are sent.
        self.is_paused = False
        #: Breaks ties between nodes, the highest first.
        self.tie = _scattered(f"{session.salt} {event.name}") if session.salt else 0
        #: What each run of the session has here, in the order in which they learned of the node.
        self.states: dict[RunId, RunOnNode] = {}
        #: Functions that have been asked back, and not been answered about.
        self.recalling = 0
        self._trips = 0
        self._least_trip_s = MAX_ROUND_TRIP_S
        self._set_others()

    # --- The node's own figures ---------------------------------------------------------------------------------

    def update(self, event: NodeUp) -> bool:
        """Take new figures. True if they are more than a change of load."""
        earlier, self.offer = self.offer, event
        is_news = self.is_paused or not _offers_the_same(earlier, event)
        self.is_paused = False
        self._set_others()
        self.changed()
        return is_news

    def _set_others(self) -> None:
        offer = self.offer
        self.version += 1
        self.claimed = {
            resource: total - offer.spare.get(resource, total)
            for resource, total in offer.capabilities.items()
        }
        self.others = {
            resource: max(
                0.0, amount + offer.waiting_claims.get(resource, 0.0) - self.claims.get(resource, 0.0)
            )
            for resource, amount in self.claimed.items()
        }
        self.others_busy = max(0, offer.busy - self.busy)
        self._others_unclaimed = max(0.0, self.others_busy - self.others.get("cpu", 0.0))

    # --- What the session has here ------------------------------------------------------------------------------

    def changed(self) -> None:
        """Note that the load, or what some run may send, is another now."""
        if self.session.is_indexed:
            self.session.changed(self.name)

    def drop_if_empty(self, run: RunId) -> None:
        """Drop a run that sends nothing more, and has nothing here."""
        if run in self.states and not self.states[run].leading():
            del self.states[run]

    def measure_trip(self, seconds: float) -> None:
        """Take the time from sending a function until its end was known, without the time that it ran."""
        self._trips += 1
        self._least_trip_s = min(self._least_trip_s, max(0.0, seconds))

    # --- Questions ----------------------------------------------------------------------------------------------

    @property
    def round_trip_s(self) -> float:
        """The least time that a message to the node and its answer have taken; 0.0 until it is known."""
        return self._least_trip_s if self._trips >= TRIPS else 0.0

    @property
    def idle_workers(self) -> int:
        """The number of usual workers that wait for functions, if the node takes any."""
        offer = self.offer
        if self.is_paused or offer.leaving or offer.suspect:
            return 0
        return max(0, offer.workers - self.all_busy)

    @property
    def is_overloaded(self) -> bool:
        """True if some function has to wait there."""
        return self.all_busy > self.offer.workers or any(self.free(resource) < 0 for resource in self.claims)

    @property
    def all_busy(self) -> int:
        """The number of sync functions on the node, of anyone, running or waiting."""
        return self.busy + self.others_busy

    def free(self, resource: str) -> float:
        """The amount of a resource that nothing on the node claims, running or waiting; negative where functions wait for it."""
        total = self.offer.capabilities.get(resource, 0.0)
        return total - self.others.get(resource, 0.0) - self.claims.get(resource, 0.0)

    def spare_share(self, cost: Mapping[str, float], *, is_async: bool, is_claimed: bool) -> float:
        """The share of the scarcest resource in `cost` that is left after the claim; see `placement.spare_share`."""
        adding = 0 if is_claimed else 1
        share = float("inf")
        for resource, amount in cost.items():
            total = self.offer.capabilities.get(resource, 0.0)
            if total > 0:
                left = self.free(resource) - adding * amount
                if resource == "cpu":
                    # A function that claims no core takes one nevertheless.
                    left -= self.unclaimed + self._others_unclaimed
                share = min(share, left / total)
        if "cpu" in cost or (cost and is_async):
            return 0.0 if share == float("inf") else share
        busy = self.all_busy + adding + (self.coroutines if is_async else 0)
        return min(share, (self.offer.workers - busy) / max(1, self.offer.workers))

    def fits(self, need: RequirementClass) -> bool:
        """True if one more function of that class could start at once."""
        if not need.is_async:
            offer = self.offer
            if self.busy + self.others_busy >= (offer.most_workers if need.own else offer.workers):
                return False
        elif need.warm and not holds(self.offer.capabilities, need.least):
            return False
        for resource, amount in need.cost.items():  # noqa: SIM110 - a loop is faster, and this runs for every function
            if amount > self.free(resource) + TOLERANCE:
                return False
        return True

    def room(self, need: RequirementClass) -> int:
        """The number of further functions of that class that could start at once."""
        if need.warm and not holds(self.offer.capabilities, need.least):
            return 0
        most = self.most_at_once(need) - (self.coroutines if need.is_async else self.all_busy)
        return how_many({resource: self.free(resource) for resource in need.cost}, need.cost, max(0, most))

    def waiting(self, need: RequirementClass) -> int:
        """The number of functions of that class that would have to end or go before no function waits for what it claims."""
        waiting = (self.coroutines if need.is_async else self.all_busy) - self.most_at_once(need)
        for resource, amount in need.cost.items():
            if amount > 0:
                waiting = max(waiting, ceil(-self.free(resource) / amount - TOLERANCE))
        return max(0, waiting)

    def queued(self) -> Iterator[tuple[RequirementClass, int]]:
        """Count the functions of the session that have to wait here, by class."""
        counts: dict[RequirementKey, tuple[RequirementClass, int]] = {}
        for state in self.states.values():
            for need, count in state.count_by_class():
                counts[need.key] = (need, count + (counts[need.key][1] if need.key in counts else 0))
        # Those of one class that go leave room for others: none is counted twice.
        counted = 0
        for need, count in counts.values():
            waiting = min(count, self.waiting(need) - counted)
            if waiting > 0:
                counted += waiting
                yield need, waiting

    def most_at_once(self, need: RequirementClass) -> int:
        """The number of functions of that class that the node's processes can run at once, whatever they claim."""
        if need.is_async:
            return MAX_COROUTINES
        # A node starts more workers than the usual ones only for functions that claim something.
        return min(MAX_SLOTS, self.offer.most_workers) if need.own else self.offer.workers

    def check(self) -> None:
        """Assert that the sums are those of the runs."""
        needs = [need for state in self.states.values() for need in state.leading()]
        assert self.busy == sum(not need.is_async for need in needs)
        assert self.coroutines == sum(need.is_async for need in needs)
        for resource, amount in self.claims.items():
            summed = sum(need.cost.get(resource, 0.0) for need in needs)
            assert abs(summed - amount) < ROUNDING, (
                f"{self.name}: {resource} adds up to {summed}, not {amount}"
            )


class SessionLoad:
    """The nodes of one session. Given to each of its runs."""

    def __init__(self, salt: str = "") -> None:
        """Begin with no node. `salt` differs from session to session, so that each breaks ties in another way; "": by name."""
        self.salt = salt
        self.nodes: dict[str, NodeLoad] = {}
        #: Functions that have been sent so far.
        self.sent = 0
        #: The nodes where objects of `per_worker` are.
        self.warm = WarmNodes()
        #: True if room may have become free that some run has not been told of.
        self.is_freed = False
        #: Runs that have found no room, by what for.
        self._waiting: dict[Demand, dict[RunId, None]] = {}
        #: Runs that are asked after each change: a user's policy may have declined.
        self._asked_always: dict[RunId, None] = {}
        self._runs: dict[RunId, None] = {}
        #: True once some run keeps indexes of nodes, and has to know which ones change.
        self.is_indexed = False
        #: Names of the nodes that have changed since then, the latest last, and the number of changes.
        self._changes: deque[str] = deque(maxlen=MAX_CHANGES)
        self.version = 0

    @property
    def recalling(self) -> int:
        """The number of functions that have been asked back, and not been answered about: room is kept for them."""
        return sum(load.recalling for load in self.nodes.values())

    # --- Nodes --------------------------------------------------------------------------------------------------

    def take(self, event: NodeUp | NodeDown) -> bool:
        """Take an event of the links. True if runs have to hear of it, too."""
        if isinstance(event, NodeUp):
            return self.node_up(event)
        self.node_down(event.name)
        return True

    def node_up(self, event: NodeUp) -> bool:
        """Take a node's figures, once. True if runs have to hear of them: they are more than a change of load."""
        load = self.nodes.get(event.name)
        if load is not None and load.offer is event:
            return False
        self.is_freed = True
        self.warm.heard(event.name, (copies.key for copies in event.warm))
        if load is None:
            self.nodes[event.name] = NodeLoad(event, self)
            return True
        return load.update(event)

    def node_down(self, name: str) -> None:
        """Drop a node that is gone."""
        self.nodes.pop(name, None)
        self.warm.gone(name)
        self.is_freed = True

    def changed(self, name: str) -> None:
        """Note that a node's load has changed."""
        self.version += 1
        self._changes.append(name)

    def changed_since(self, version: int) -> list[str] | None:
        """The nodes that have changed since then; None if that is too long ago to tell."""
        count = self.version - version
        if count > len(self._changes):
            return None
        return [self._changes[-1 - back] for back in range(count)]

    def queued(self) -> Iterator[tuple[RequirementClass, int]]:
        """Count the functions of the session that wait in the queues of nodes, by class."""
        for load in self.nodes.values():
            if load.is_overloaded:
                yield from load.queued()

    # --- Runs ---------------------------------------------------------------------------------------------------

    def begin(self, run: RunId, *, is_asked_always: bool) -> None:
        """Add a run."""
        self._runs[run] = None
        if is_asked_always:
            self._asked_always[run] = None

    def forget(self, run: RunId) -> None:
        """Remove a run, and all that it has on nodes."""
        self.end(run)
        for load in self.nodes.values():
            state = load.states.get(run)
            if state is not None:
                state.clear()

    def end(self, run: RunId) -> None:
        """Note that a run sends nothing more. What it has on nodes counts until they have closed it."""
        if run not in self._runs:
            return
        del self._runs[run]
        self._asked_always.pop(run, None)
        self.wait(run, set())
        for load in self.nodes.values():
            load.drop_if_empty(run)

    def wait(self, run: RunId, demands: set[Demand]) -> None:
        """Note for what a run has found no room."""
        for demand, waiting in list(self._waiting.items()):
            if demand not in demands:
                waiting.pop(run, None)
                if not waiting:
                    del self._waiting[demand]
        for demand in demands:
            self._waiting.setdefault(demand, {})[run] = None

    def has_news_for_others(self) -> bool:
        """True if room may have become free for another run than the one that asks."""
        return self.is_freed and len(self._runs) > 1

    def runs_to_tell(self) -> Iterator[RunId]:
        """The runs that should place again, one after the other, as long as there is room. Each is told before the next is chosen."""
        self.is_freed = False
        yield from list(self._asked_always)
        for demand in list(self._waiting):
            if self._may_start(demand) and demand in self._waiting:
                yield from self._waiting_for(demand)
        for load in list(self.nodes.values()):
            for run, state in reversed(list(load.states.items())) if load.is_overloaded else ():
                if not self._has_room:
                    return
                if state.may_have_waiting():
                    yield run

    def _waiting_for(self, demand: Demand) -> Iterator[RunId]:
        refusals = 0
        for run in list(self._waiting[demand]):
            # Behind the others, the next time.
            del self._waiting[demand][run]
            self._waiting[demand][run] = None
            before = self.sent
            yield run
            refusals += self.sent == before
            if refusals == MAX_REFUSALS or not self._may_start(demand) or demand not in self._waiting:
                return

    def _may_start(self, demand: Demand) -> bool:
        """True if what a run waits for may have become free: stages need no idle worker."""
        (*_, is_stage), _ = demand
        return is_stage or self._has_room

    @property
    def _has_room(self) -> bool:
        """True if some node could start another function at once, beside those that have been asked back."""
        room = sum(load.idle_workers for load in self.nodes.values())
        return room > self.recalling


def _scattered(text: str) -> int:
    """Return a number that is the same for the same text, and looks random.

    Names that differ in one letter differ in the same bits of their checksums, whatever comes before: so these are mixed.
    Source: the last step of MurmurHash3 (Austin Appleby).
    """
    mixed = crc32(text.encode())
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return mixed ^ mixed >> 16


def _offers_the_same(one: NodeUp, other: NodeUp) -> bool:
    return (
        one.capabilities == other.capabilities
        and one.workers == other.workers
        and one.most_workers == other.most_workers
        and one.leaving == other.leaving
        and one.suspect == other.suspect
        and one.out_of_use == other.out_of_use
        and one.address == other.address
        and one.can_start == other.can_start
        and one.ends_at == other.ends_at
    )
