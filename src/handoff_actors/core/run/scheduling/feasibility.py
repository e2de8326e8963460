"""Detection of functions that no node of the cluster could ever run.

A node that could be started on demand counts as one that is there: it may wait in a queue of its own for hours.
A node that leaves counts as none. But as long as it runs functions of the run, the run goes on, and the time in which
another node has to join for the other functions begins when these have ended.

A node that ends before a function could counts as none for that function. Functions of one demand may take differently long: as
long as one that is ready fits, the others wait.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Final

from msgspec import Struct, field

from handoff_actors.core.run.facts.origins import Origins
from handoff_actors.core.run.facts.phases import DONE, READY, SENT
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.node_state import NodeState
from handoff_actors.core.run.scheduling.requirements import RequirementClass, Requirements
from handoff_actors.core.run.scheduling.time_left import TimeLeft
from handoff_actors.errors import AllocationError, HandoffError, NodeLost
from handoff_actors.escaping import escape_name
from handoff_actors.graph.plan import Plan, results_within
from handoff_actors.graph.run_if import conditions_among, run_if_of, tolerates
from handoff_actors.ids import Index
from handoff_actors.text import exact, near, repr_of

#: Functions that run on a node which could not take them any more are looked at again after this time, at least.
LOOK_AGAIN_S: Final = 1.0
#: Functions of one demand, before those that are over are left out.
LEAST_COMPACTED: Final = 1024
_USUAL_RESOURCES: Final = frozenset({"cpu", "memory", "gpu"})


_DemandKey = tuple[RequirementClass, str | None]


class _Demand(Struct):
    """All functions with the same requirements and the same target node."""

    need: RequirementClass
    target: str | None
    #: In the order of their indices. Each function of a run is in one demand: an array takes 8 bytes for it, a list 36.
    functions: "array[int]" = field(default_factory=lambda: array("l"))
    unmet_since: float | None = None
    #: A node that could run them leaves, and still runs functions of the run: see above.
    is_held: bool = False
    #: The number of functions at which those that are over are left out; 0: it is new.
    compact_at: int = 0
    #: A node was known to do for it when it was last looked at.
    is_met: bool = False
    #: The kinds of its functions, once some node has an end.
    kinds: frozenset[int] = frozenset()

    def could_run_on(self, node: NodeState) -> bool:
        """True if the node could run such functions, were it to stay."""
        return self.target in {None, node.name} and node.could_ever_hold(self.need)

    def is_met_by(self, node: NodeState) -> bool:
        """True if the node could run such functions now or later, or have another one started that could."""
        if node.is_leaving:
            return False
        # Nobody knows the name of a node that is yet to be started.
        return self.could_run_on(node) or (self.target is None and node.could_start_for(self.need))


class Feasibility:
    """Checks that each function has a node that could run it, or gets one within the allocation timeout."""

    def __init__(
        self,
        plan: Plan,
        needs: Requirements,
        time_left: TimeLeft,
        state: RunState,
        origins: Origins,
        allocation_timeout_s: float,
        *,
        nodes_may_join: bool,
    ) -> None:
        self._plan = plan
        self._state = state
        self._origins = origins
        self._time_left = time_left
        #: The time at which a node may have too little time left for a demand that it meets now.
        self._look_at: float | None = None
        self._allocation_timeout_s = allocation_timeout_s
        self._nodes_may_join = nodes_may_join
        # Waiting for a node is in vain where none can join.
        self._allowed_s = allocation_timeout_s if nodes_may_join else 0.0
        self._needs = needs
        self._demand_of: dict[_DemandKey, _Demand] = {}
        self._demands: list[_Demand] = []
        self._seen_names: set[str] = set()
        self.add(range(plan.size))

    def add(self, indices: Iterable[Index]) -> bool:
        """Take functions that are in the plan by now. True if `update` is to be called, as no node is known to do for some."""
        are_met = True
        for key, functions in self._by_key(indices).items():
            demand = self._demand(key)
            demand.functions.extend(functions)
            demand.kinds = frozenset()
            if demand.compact_at <= len(demand.functions):
                self._compact(demand)
            are_met = are_met and demand.is_met
        return not are_met

    def _demand(self, key: _DemandKey) -> _Demand:
        demand = self._demand_of.get(key)
        if demand is None:
            demand = self._demand_of[key] = _Demand(*key)
            self._demands.append(demand)
        return demand

    def _by_key(self, indices: Iterable[Index]) -> dict[_DemandKey, list[Index]]:
        """Group functions by what they demand."""
        group_of, node_of, need_of = self._plan.group_of, self._plan.node_of, self._needs.of
        found: dict[_DemandKey, list[Index]] = {}
        for index in indices:
            group = group_of[index]
            # One node has to do for a whole group, though not for all of it at once.
            need = need_of[index] if group < 0 else self._needs.peak_of_group[group]
            key = need, node_of[index]
            functions = found.get(key)
            if functions is None:
                functions = found[key] = []
            functions.append(index)
        return found

    def _compact(self, demand: _Demand) -> None:
        if demand.compact_at:
            phase = self._state.phase
            unfinished = self._by_key(sorted({index for index in demand.functions if phase[index] < DONE}))
            demand.functions = array("l", unfinished.get((demand.need, demand.target), ()))
        demand.compact_at = max(LEAST_COMPACTED, 2 * len(demand.functions))

    def update(self, nodes: Mapping[str, NodeState], now: float) -> None:
        """Check every demand again after nodes have changed."""
        self._seen_names |= nodes.keys()
        self._look_at = None
        for demand in self._demands:
            demand.is_met = self._is_met(demand, nodes, now)
            if demand.is_met or not self._is_unfinished(demand):
                demand.unmet_since = None
            elif demand.unmet_since is None:
                demand.unmet_since = now

    def _is_met(self, demand: _Demand, nodes: Mapping[str, NodeState], now: float) -> bool:
        """True if some node can run such functions, and has the time for one of those that are ready."""
        if not self._time_left.is_on:
            return any(map(demand.is_met_by, nodes.values()))
        meeting = list(filter(demand.is_met_by, nodes.values()))
        left_s = self._time_left.most_left_s(meeting, now)
        if left_s == inf or not meeting:
            return bool(meeting)
        if not demand.kinds:
            demand.kinds = frozenset(map(self._plan.template_of.__getitem__, demand.functions))
        longest_s = self._time_left.longest_s(demand.kinds)
        if longest_s <= left_s:
            self._look_again(now + max(LOOK_AGAIN_S, left_s - longest_s))
            return True
        if not self._is_unfinished(demand):
            return True
        # Which are ready changes with each function that ends.
        self._look_again(now + LOOK_AGAIN_S)
        ready = [index for index in self._unfinished(demand) if self._state.phase[index] == READY]
        return not ready or min(map(self._time_left.takes_s, ready)) <= left_s

    def _look_again(self, at: float) -> None:
        self._look_at = at if self._look_at is None else min(self._look_at, at)

    @property
    def wake_at(self) -> float | None:
        """Earliest time at which an unmet demand times out, or one that is met may be so no more; None if that is not foreseeable."""
        times = [
            demand.unmet_since + self._allowed_s
            for demand in self._demands
            if demand.unmet_since is not None and not demand.is_held
        ]
        if self._look_at is not None:
            times.append(self._look_at)
        return min(times) if times else None

    def unmet(self) -> Iterable[_Demand]:
        """Demands that no present node could meet."""
        return (demand for demand in self._demands if demand.unmet_since is not None)

    def timed_out(self, nodes: Mapping[str, NodeState], now: float) -> Iterator[tuple[Index, HandoffError]]:
        """The functions whose demand has been unmet for longer than the allocation timeout, each with its error."""
        if self._look_at is not None and now >= self._look_at:
            self.update(nodes, now)
        for demand in self._demands:
            if demand.unmet_since is None:
                continue
            self._hold(demand, nodes, now)
            if demand.is_held or demand.unmet_since is None or now < demand.unmet_since + self._allowed_s:
                continue
            # Those that are out may end well, or come back.
            again_at = now + max(0.0, LOOK_AGAIN_S - self._allowed_s)
            demand.unmet_since = again_at if self._is_unfinished(demand) else None
            able = [node for node in nodes.values() if demand.is_met_by(node)]
            left_s = self._time_left.most_left_s(able, now)
            for index in self._at_home(demand):
                if self._time_left.takes_s(index) > left_s and not self._may_be_skipped(index):
                    yield index, self._error(index, demand, nodes, now)

    def _hold(self, demand: _Demand, nodes: Mapping[str, NodeState], now: float) -> None:
        """Let the time begin anew for as long as a node that leaves, and could have met the demand, runs functions."""
        was_held, demand.is_held = demand.is_held, any(node.sent for node in _leaving(demand, nodes))
        if was_held or demand.is_held:
            demand.unmet_since = now if self._is_unfinished(demand) else None

    def is_left_alone(self, nodes: Mapping[str, NodeState]) -> bool:
        """True if some functions could run on nodes that leave, on whichever of them, and on no other."""
        return any(
            demand.target is None and _leaving(demand, nodes) and any(True for _ in self._at_home(demand))
            for demand in self.unmet()
        )

    def _at_home(self, demand: _Demand) -> Iterator[Index]:
        """The functions that have not ended and are on no node."""
        return (index for index in self._unfinished(demand) if self._state.phase[index] != SENT)

    def _may_be_skipped(self, index: Index) -> bool:
        """True if it is not known yet whether the function will run: it has a condition to come, or one before it has."""
        plan, state = self._plan, self._state
        pending, seen = [index], {index}
        while pending:
            waiting = pending.pop()
            producers = plan.producers[waiting]
            decide = (
                producers
                if run_if_of(plan, waiting) == "failure"
                else results_within(conditions_among(plan, waiting))
            )
            # A serialize hook is made ready for the node that is looked for here.
            hooks = plan.hook_of
            if any(state.is_unfinished(hooks[each].producer if each in hooks else each) for each in decide):
                return True
            for producer in producers:
                if producer not in seen and not tolerates(plan, waiting, producer):
                    seen.add(producer)
                    pending.append(producer)
        return False

    def _is_unfinished(self, demand: _Demand) -> bool:
        return any(True for _ in self._unfinished(demand))

    def _unfinished(self, demand: _Demand) -> Iterator[Index]:
        """The functions of a demand that have yet to end. In a run that grows, others may have the indices of those that have."""
        unfinished = filter(self._state.is_unfinished, demand.functions)
        key = (demand.need, demand.target)
        return (
            (index for index in unfinished if key in self._by_key([index]))
            if self._state.earlier_attempts
            else unfinished
        )

    def _error(
        self, index: Index, demand: _Demand, nodes: Mapping[str, NodeState], now: float
    ) -> HandoffError:
        name, objects = self._origins.name(index), self._share_of_objects(index)
        waited = self._waited()
        if demand.target is not None and demand.target not in nodes and demand.target in self._seen_names:
            return NodeLost(
                demand.target,
                f"function {name} is pinned to it, and it has not come back{waited}",
            )
        if demand.target is not None and demand.target not in nodes:
            reason = (
                f"is pinned to node {repr_of(demand.target)}, and no member of that name has joined{waited}"
            )
        elif demand.target is not None and nodes[demand.target].is_leaving:
            return NodeLost(
                demand.target,
                f"function {name} is pinned to it; it leaves, and no other node of that name has joined{waited}",
            )
        elif late := {name: node for name, node in nodes.items() if demand.is_met_by(node)}:
            reason = (
                f"{self._time_left.why_none(late, index, now)}; none that has the time has joined{waited}"
            )
        elif demand.target is not None:
            reason = _pinned_shortfall(demand.need, nodes[demand.target], objects)
        elif leaving := _leaving(demand, nodes):
            reason = f"needs {_left_need(demand.need, leaving, objects)}, and no other that does has joined{waited}"
        else:
            reason = (
                f"needs {_unmet_need(demand.need, nodes, objects)}, and none that does has joined{waited}"
            )
        if demand.target is None:
            reason += _why_none_is_started(demand.need, nodes)
        offers = {name: node.capabilities for name, node in nodes.items() if node.workers}
        leaves = [name for name, node in nodes.items() if node.is_leaving]
        facts = self._origins.facts(index)
        return AllocationError(
            self._plan.ids[index], demand.need.least, offers, reason, leaving=leaves, facts=facts
        )

    def _share_of_objects(self, index: Index) -> str:
        """Say how much of a function's claim is that of objects of `per_worker`; "" if none has one."""
        templates = self._plan.templates
        shares = [
            f"{spec.cost} for {spec.warm.name}"
            for number in sorted(self._needs.warm.get(index, ()))
            if (spec := templates[number]).warm is not None and spec.cost
        ]
        return f" (of that {' and '.join(shares)}, which per_worker makes)" if shares else ""

    def _waited(self) -> str:
        given = f"allocation_timeout={exact(self._allocation_timeout_s)} s"
        if self._nodes_may_join:
            return f" within {given}"
        return f": none can, as this session has no cluster, so {given} was not waited for"


def _leaving(demand: _Demand, nodes: Mapping[str, NodeState]) -> list[NodeState]:
    """The nodes that could run these functions, were they to stay."""
    return [node for node in nodes.values() if node.is_leaving and demand.could_run_on(node)]


def _pinned_shortfall(need: RequirementClass, node: NodeState, objects: str) -> str:
    """Say why the node that a function is pinned to can't run it."""
    if node.has_python_for(need):
        return f"needs {need.least}{objects} of node {node.name!r}, which offers less"
    return f"is pinned to node {node.name!r}, which {node.shortfall(need)}"


def _left_need(need: RequirementClass, leaving: list[NodeState], objects: str) -> str:
    """Say what a function needs, and which nodes that offer it leave."""
    names = " and ".join(escape_name(repr(node.name)) for node in leaving)
    what, that = (f"{need.least}{objects}", "offers it") if need.least else ("a node", "could run it")
    if len(leaving) == 1:
        return f"{what}; node {names}, which {that}, leaves the cluster"
    return f"{what}; nodes {names}, which {that.replace('offers', 'offer')}, leave the cluster"


def _why_none_is_started(need: RequirementClass, nodes: Mapping[str, NodeState]) -> str:
    """Say why nodes that start others start none for a function."""
    starters = [node for node in nodes.values() if not node.workers and not node.is_leaving]
    return "".join(
        f"; node {escape_name(repr(node.name))} {escape_name(node.shortfall(need))}" for node in starters
    )


def _unmet_need(need: RequirementClass, nodes: Mapping[str, NodeState], objects: str) -> str:
    """Say which requirements of a function no node meets."""
    incompatible = [node for node in nodes.values() if not node.has_python_for(need)]
    if not incompatible:
        if not need.least:
            return "a node that runs functions"
        return f"{need.least}{objects}, which no node offers{_meant(need, nodes)}"
    versions = ", ".join(
        f"{escape_name(node.name)} runs Python {escape_name(node.python)}" for node in incompatible
    )
    return (
        f"{need.least or 'a node'}{objects} with Python {need.python}, since its code, or a value that it takes, was pickled"
        f" by value, which no node offers ({versions})"
    )


def _meant(need: RequirementClass, nodes: Mapping[str, NodeState]) -> str:
    """Ask whether a resource that no node has at all is another one's misspelled name."""
    offered = {name for node in nodes.values() for name in node.capabilities} | _USUAL_RESOURCES
    questions = [
        f"{escape_name(found[0])} for {escape_name(resource)}"
        for resource in sorted(need.least)
        if resource not in offered and (found := near(resource, sorted(offered)))
    ]
    return f" (did you mean {', '.join(questions)}?)" if questions else ""
