"""Everything there is in a simulated world: time, nodes, apps, and what passes between them."""

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from handoff_actors.core.machine import Machine
from handoff_actors.core.node.events import Advertise
from handoff_actors.core.resources import holds
from handoff_actors.core.run.events import TellOfRoom
from handoff_actors.ids import Index, PeerId, Resources, RunId
from handoff_actors.wire.messages.members import Advert
from tests.simulation.dags import Conduct
from tests.simulation.network import Clock, Timeline
from tests.simulation.nodes import SimulatedNode
from tests.simulation.symbols import StoredBytes

if TYPE_CHECKING:
    from handoff_actors.core.node.lifetime import Lifetime
    from tests.simulation.apps import App
    from tests.simulation.runs import SimulatedRun

ADVERT_DELAY_S = 0.03
LOST_ADVERTS = 0.05
#: The share of events after which the machine is asked what it would do without another one, and for how long it may be.
PROBED = 0.01
LONG_S = 100.0
#: A machine that wants to be woken so often at one time does nothing when it is.
MOST_WAKES = 20


class Actor(Protocol):
    """An owner of a machine: an app or a node."""

    @property
    def is_alive(self) -> bool: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def lag_s(self) -> float:
        """The delay with which its timers ring."""
        ...

    def check(self) -> None: ...


#: That of the apps, and of most nodes.
PYTHON = "3.11"


class Cluster:
    """All members, all apps, and the time that all their clocks are wrong about."""

    def __init__(self, random: Random, *, has_faults: bool, trace: list[str] | None) -> None:
        self.random = random
        #: The limits on the lives of nodes, by name.
        self.lifetimes: dict[str, Lifetime] = {}
        self.timeline = Timeline()
        self.has_faults = has_faults
        self.nodes: dict[str, SimulatedNode] = {}
        self.apps: list[App] = []
        self.runs: dict[RunId, SimulatedRun] = {}
        self.goes_on = True
        #: For what must not change the world of a seed.
        self._aside = Random(1)
        #: For what apps relay, which must not change it either.
        self.relay_random = Random(2)
        #: Pairs of names of nodes that can't reach one another.
        self.apart: set[frozenset[str]] = set()
        #: Minor versions of Python, of nodes that have another one than the apps.
        self.pythons: dict[str, str] = {}
        #: Faults so far, by name.
        self.faults: Counter[str] = Counter()
        #: From then on no path is shut and no node is slow.
        self.calm_at = 0.0
        self._trace = trace
        #: The latest of each address.
        self._addresses: dict[str, SimulatedNode] = {}
        self._lives = 0
        #: The latest adverts, by incarnation.
        self._adverts: dict[str, Advert] = {}
        self._peers = 0
        self._alarms: dict[Actor, float] = {}
        self._wakes: dict[Actor, tuple[float, int]] = {}

    # --- Machines -----------------------------------------------------------------------------------------------

    def drive(
        self,
        actor: Actor,
        machine: Machine[Any, Any],
        action: Callable[[float], Iterable[Any]],
        carry_out: Callable[[Any], None],
    ) -> None:
        """Let a machine do something, do what it says, see that all is well, and set its alarm."""
        for effect in action(actor.clock.now):
            self.note("  ->", effect)
            carry_out(effect)
        actor.check()
        self._set_alarm(actor, machine, carry_out)
        if self._aside.random() < PROBED:
            self._check_that_nothing_happens_before_it_wakes(machine, actor.clock.now)

    def _check_that_nothing_happens_before_it_wakes(self, machine: Machine[Any, Any], now: float) -> None:
        """A machine that would do something by itself says when, in `wake_at`."""
        wake_at = machine.wake_at
        until = now + LONG_S if wake_at is None else wake_at
        early = now + self._aside.random() * (until - now)
        if now <= early < until:
            # What has changed for all runs of a session is passed on at any opportunity, and within this instant.
            probe = copy.deepcopy(machine)
            effects = [effect for effect in probe.wake(early) if not isinstance(effect, TellOfRoom)]
            assert effects == [], f"{machine}, which wakes at {wake_at}, would do this at {early}: {effects}"

    def note(self, who: str, what: object) -> None:
        if self._trace is not None:
            self._trace.append(f"{self.timeline.now:.6f} {who} {what}")

    def _set_alarm(self, actor: Actor, machine: Machine[Any, Any], carry_out: Callable[[Any], None]) -> None:
        wake_at = machine.wake_at
        if wake_at is None:
            return
        time = max(self.timeline.now, actor.clock.when(wake_at)) + actor.lag_s
        if self._alarms.get(actor, float("inf")) <= time:
            return
        self._alarms[actor] = time

        def ring() -> None:
            if self._alarms.get(actor) != time:
                return
            del self._alarms[actor]
            due = machine.wake_at
            if not actor.is_alive:
                return
            if due is not None and due <= actor.clock.now:
                self._count_wakes(actor)
                self.drive(actor, machine, machine.wake, carry_out)
            else:
                self._set_alarm(actor, machine, carry_out)

        self.timeline.at(time, ring)

    def _count_wakes(self, actor: Actor) -> None:
        time, count = self._wakes.get(actor, (0.0, 0))
        count = count + 1 if time == self.timeline.now else 1
        self._wakes[actor] = (self.timeline.now, count)
        assert count < MOST_WAKES, f"{actor} is woken over and over and does nothing"

    # --- Members ------------------------------------------------------------------------------------------------

    def start_node(self, name: str, capabilities: Resources) -> None:
        """Start a node, or the next life of one, which often has the address of the one before."""
        self._lives += 1
        before = self.nodes.get(name)
        if before is None or before.is_alive or self.random.random() < 0.5:
            address = f"{name}:{self._lives:06d}"
        else:
            address = before.address
        node = SimulatedNode(name, address, f"{self._lives:06d}", capabilities, self)
        self.nodes[name] = self._addresses[address] = node
        node.start()

    def start_again(self, name: str) -> None:
        """Start the next life of a node that has ended."""
        ended = self.nodes[name]
        if not ended.is_alive:
            self.start_node(name, ended.machine.capabilities)

    def are_apart(self, node: SimulatedNode, address: str) -> bool:
        return frozenset({node.name, self._addresses[address].name}) in self.apart

    def node_at(self, address: str) -> SimulatedNode:
        return self._addresses[address]

    def advert_of(self, node: SimulatedNode) -> Advert:
        """The advert that a node sends in answer to a Hello."""
        return self._adverts[node.incarnation]

    def answer_of(self, node: SimulatedNode) -> Advert:
        """The advert that a node sends in answer to an introduction, newer than all before."""
        node.seq += 1
        return replace(self._adverts[node.incarnation], seq=node.seq)

    def publish(self, node: SimulatedNode, state: Advertise) -> None:
        """Send a node's advert to every app; some adverts are lost."""
        advert = self._adverts[node.incarnation] = _advert(
            node, state, self.python_of(node.name), node.clock.now
        )
        for app in self.apps:
            if self.has_faults and (node.is_mute or self.random.random() < LOST_ADVERTS):
                continue
            delay_s = self.random.random() * ADVERT_DELAY_S
            self.timeline.after(delay_s, lambda app=app: app.saw(advert))  # type: ignore[misc]

    def has_another_than(self, leaving: SimulatedNode) -> bool:
        """True if a node stays, to take over the values of one that leaves."""
        return any(
            node is not leaving and node.is_alive and not node.is_leaving for node in self.nodes.values()
        )

    def disturb(self, fault: str, for_s: float) -> None:
        """Count a fault that slows everything down for a while."""
        self.faults[fault] += 1
        self.calm_at = max(self.calm_at, self.timeline.now + for_s)

    def note_given_up(self, objects: Collection[bytes]) -> None:
        """Count a worker that is ended with objects."""
        if objects:
            self.faults["objects given up"] += 1

    def new_peer(self) -> PeerId:
        self._peers += 1
        return PeerId(b"peer %d" % self._peers)

    def python_of(self, name: str) -> str:
        return self.pythons.get(name, PYTHON)

    def could_hold(self, need: Resources, pin: str | None, *, is_native: bool) -> bool:
        return any(
            holds(node.machine.capabilities, need)
            for node in self.nodes.values()
            if pin in {None, node.name} and not (is_native and node.name in self.pythons)
        )

    # --- Values and functions -----------------------------------------------------------------------------------

    def value_at(
        self, holder: str, peer: PeerId, run: RunId, index: Index, version: int, asker: SimulatedNode
    ) -> StoredBytes | None:
        """The answer of `holder` to a node that asks for a value; the app that sent the function is ""."""
        if holder:
            return self._addresses[holder].stored(run, index, version)
        link = asker.links.get(peer)
        if link is None or not (link.is_up and link.app.is_alive):
            return None
        return link.app.runs[run].held_value(index)

    def conduct_of(self, key: tuple[RunId, Index], attempt: int) -> tuple[Conduct, int]:
        """How an attempt at a function goes, and the number of the attempt."""
        run, index = key
        return self.runs[run].conduct_of(index, attempt)

    # --- The end ------------------------------------------------------------------------------------------------

    def run_until_all_is_over(self, limit_s: float) -> None:
        """Let time pass until no run and nothing of any is left. Fails where that takes too long."""
        while not self._is_over():
            assert self.timeline.now < limit_s, self._what_is_left()
            self.timeline.step()
        self.goes_on = False
        for node in self.nodes.values():
            if node.is_alive:
                node.check_that_it_is_empty()

    def _is_over(self) -> bool:
        # Forgotten first: that fails nearly always, and costs little.
        return all(run.is_forgotten or not run.is_alive for run in self.runs.values()) and all(
            node.is_empty and not node.is_leaving for node in self.nodes.values() if node.is_alive
        )

    def _what_is_left(self) -> str:
        runs = [run.describe() for run in self.runs.values() if run.is_alive and not run.is_forgotten]
        nodes = [name for name, node in self.nodes.items() if node.is_alive and not node.is_empty]
        return f"runs that do not end: {runs}; nodes that are not empty: {nodes}"


def _advert(node: SimulatedNode, state: Advertise, python: str, now: float) -> Advert:
    return Advert(
        name=node.name,
        incarnation=node.incarnation,
        seq=node.seq,
        address=node.address,
        bus=node.incarnation,
        capabilities=state.capabilities,
        spare=state.spare,
        workers=state.workers,
        running=state.running,
        queued=state.queued,
        stored=state.stored,
        leaving=state.leaving,
        view=0,
        version="1",
        python=python,
        busy=state.busy,
        waiting_claims=state.waiting_claims,
        most_workers=state.most_workers,
        out_of_use=state.out_of_use,
        ends_in_s=None if state.ends_at is None else max(0.0, state.ends_at - now),
        warm=list(state.warm),
    )
