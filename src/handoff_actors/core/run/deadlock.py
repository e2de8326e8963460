"""Nested runs that wait for one another: which of them could never go on.

A function that waits for a nested run keeps what it has claimed, but for its cpu, and its worker process until that run has
ended. Everything else on a node comes free sooner or later. So a nested run can go on if one of the functions that it waits for could start
somewhere if only those claims were left. Then its ancestors can end, too, and what they hold comes free for others.
Repeating that until nothing changes leaves the runs that wait for ever: each of them needs what ancestors of these runs hold.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from handoff_actors.core.resources import Claim, ResourceLedger
from handoff_actors.ids import Resources, RunId
from handoff_actors.wire.messages.nested import Ancestor, Holding, Want


class NodeFacts(Struct, frozen=True):
    """The resources of a node, as it has reported them to a nested run."""

    capabilities: Resources
    workers: int
    most_workers: int
    python: str = ""
    #: True if it starts no further functions.
    is_leaving: bool = False


class NestedWait(Struct):
    """A nested run of which no function is running, and the resources that its ancestors hold, by node name."""

    wants: Sequence[Want]
    holdings: dict[str, list[Holding]] = field(default_factory=dict)


def deadlocked(
    nodes: Mapping[str, NodeFacts], waiting: Mapping[RunId, NestedWait]
) -> dict[RunId, NestedWait]:
    """The runs that could not go on even if everything came free that no ancestor of theirs holds."""
    stuck = dict(waiting)
    while True:
        rooms = {name: Room(facts, holdings_on(name, stuck.values())) for name, facts in nodes.items()}
        going_on = [
            run
            for run, state in stuck.items()
            if any(room.could_start(name, want) for want in state.wants for name, room in rooms.items())
        ]
        if not going_on:
            return stuck
        for run in going_on:
            del stuck[run]


def holdings_on(name: str, waiting: Iterable[NestedWait]) -> list[Holding]:
    """The resources that ancestors of these runs hold on a node, each once."""
    found: dict[Ancestor, Holding] = {}
    for state in waiting:
        for holding in state.holdings.get(name, ()):
            found[holding.function] = holding
    return list(found.values())


class Room:
    """The room on a node beside some holdings."""

    def __init__(self, facts: NodeFacts, holdings: Iterable[Holding]) -> None:
        self._facts = facts
        self._ledger = ResourceLedger(facts.capabilities)
        self._busy_workers = 0
        for holding in holdings:
            self._ledger.hold(Claim(holding.cost, tuple(holding.devices)))
            self._busy_workers += holding.has_worker

    def could_start(self, name: str, want: Want) -> bool:
        """True if such a function could start on this node, whose name is given."""
        facts = self._facts
        if facts.is_leaving or not facts.workers or (want.nodes and name not in want.nodes):
            return False
        if want.python not in {"", facts.python}:
            return False
        return self._ledger.fits(want.cost) and self._has_worker(want)

    def scarce(self, want: Want) -> list[str]:
        """The resources of which there is too little, workers among them."""
        resources = [
            resource for resource, amount in want.cost.items() if not self._ledger.fits({resource: amount})
        ]
        return resources if self._has_worker(want) else [*resources, "workers"]

    def _has_worker(self, want: Want) -> bool:
        if want.is_async:
            return True
        # Nodes start more than the usual number of workers only where claims leave room.
        workers = self._facts.most_workers if want.cost else self._facts.workers
        return self._busy_workers < workers
