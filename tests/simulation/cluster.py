"""Everything there is in a simulated world: time, nodes, apps, and what passes between them."""

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from handoff_actors.core.ledger import holds
from handoff_actors.core.machine import Machine
from handoff_actors.core.node_events import Advertise
from handoff_actors.core.run_events import NodeUp
from handoff_actors.ids import Index, PeerId, Resources, RunId
from simulation.dags import Conduct
from simulation.network import Timeline
from simulation.nodes import SimulatedNode
from simulation.runs import SimulatedRun

if TYPE_CHECKING:
    from simulation.apps import App

ADVERT_DELAY_S = 0.03
LOST_ADVERTS = 0.05
#: A machine that wants to be woken so often at one time does nothing when it is.
MOST_WAKES = 20


class Actor(Protocol):
    """Whoever owns a machine."""

    def check(self) -> None: ...


class Cluster:
    """All members, all apps, and the only clock."""

    def __init__(self, random: Random, *, has_faults: bool, trace: list[str] | None) -> None:
        self.random = random
        self.timeline = Timeline()
        self.has_faults = has_faults
        self.nodes: dict[str, SimulatedNode] = {}
        self.apps: list[App] = []
        self.runs: dict[RunId, SimulatedRun] = {}
        self.goes_on = True
        self._trace = trace
        self._addresses: dict[str, SimulatedNode] = {}
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
        for effect in action(self.timeline.now):
            self.note("  ->", effect)
            carry_out(effect)
        actor.check()
        self._set_alarm(actor, machine, carry_out)

    def note(self, who: str, what: object) -> None:
        if self._trace is not None:
            self._trace.append(f"{self.timeline.now:.6f} {who} {what}")

    def _set_alarm(self, actor: Actor, machine: Machine[Any, Any], carry_out: Callable[[Any], None]) -> None:
        wake_at = machine.wake_at
        if wake_at is None:
            return
        time = max(self.timeline.now, wake_at)
        if self._alarms.get(actor, float("inf")) <= time:
            return
        self._alarms[actor] = time

        def ring() -> None:
            if self._alarms.get(actor) != time:
                return
            del self._alarms[actor]
            due = machine.wake_at
            if not self._is_alive(actor):
                return
            if due is not None and due <= time:
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

    def _is_alive(self, actor: Actor) -> bool:
        return not isinstance(actor, SimulatedNode | SimulatedRun) or actor.is_alive

    # --- Members ------------------------------------------------------------------------------------------------

    def start_node(self, name: str, capabilities: Resources) -> None:
        """Start a node, or the next life of one."""
        address = f"{name}:{len(self._addresses)}"
        node = SimulatedNode(name, address, capabilities, self)
        self.nodes[name] = self._addresses[address] = node
        node.start()

    def publish(self, node: SimulatedNode, advert: Advertise) -> None:
        """Let every app hear from a node, most of the time."""
        node_up = NodeUp(
            node.name,
            node.address,
            advert.capabilities,
            advert.spare,
            advert.workers,
            advert.leaving,
        )
        seq = node.seq
        for app in self.apps:
            if not (self.has_faults and self.random.random() < LOST_ADVERTS):
                delay_s = self.random.random() * ADVERT_DELAY_S
                self.timeline.after(delay_s, lambda app=app: app.saw(node, seq, node_up))  # type: ignore[misc]

    def new_peer(self) -> PeerId:
        self._peers += 1
        return PeerId(b"peer %d" % self._peers)

    def could_hold(self, need: Resources, pin: str | None) -> bool:
        return any(
            holds(node.machine.capabilities, need) for node in self.nodes.values() if pin in {None, node.name}
        )

    # --- Values and functions -----------------------------------------------------------------------------------

    def value_at(
        self, holder: str, peer: PeerId, run: RunId, index: Index, asker: SimulatedNode
    ) -> bytes | None:
        """What `holder` gives to a node that asks for a value; the app that sent the function is ""."""
        if holder:
            return self._addresses[holder].value(run, index)
        link = asker.links.get(peer)
        if link is None or not (link.is_up and link.app.is_alive):
            return None
        return link.app.runs[run].work.constants.get(index)

    def conduct_of(self, key: tuple[RunId, Index]) -> Conduct:
        run, index = key
        return self.runs[run].work.conducts[index]

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
            node.is_empty for node in self.nodes.values() if node.is_alive
        )

    def _what_is_left(self) -> str:
        runs = [run.describe() for run in self.runs.values() if run.is_alive and not run.is_forgotten]
        nodes = [name for name, node in self.nodes.items() if node.is_alive and not node.is_empty]
        return f"runs that do not end: {runs}; nodes that are not empty: {nodes}"
