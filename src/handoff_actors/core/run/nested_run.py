"""Watch over a nested run, which a function of another run has begun and waits for, so that it never waits for ever.

Its ancestors lend their cpu and their slots, and keep what else they claim until it has ended. Functions that need just
that could never start; nor could any where no node can have another worker. Only the nodes know who holds what, so a nested
run that hears nothing for a while asks them in rounds:

    MOVING --quiet--> ASKING --no function runs--> WAITING --all nodes have answered--> deadlocked? ask again later
       ^                 |                            |
       +--- a function runs, or a node reports an attempt --+

While it is WAITING, the nodes of its ancestors tell others of it. `core.run.deadlock` judges the answers of one round. A
run that is deadlocked in each round for the allocation timeout ends with an AllocationError; ordinary functions that hold
what it needs never lead to one, however long they run. A run that a function has begun without naming a cluster gets a node
of its own (`StartNode`) where the nodes leave that it could use, as it would have had outside of any cluster.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.resources import holds
from handoff_actors.core.run.deadlock import NestedWait, NodeFacts, Room, deadlocked, holdings_on
from handoff_actors.core.run.events import SendToNode, StartNode
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.errors import AllocationError
from handoff_actors.escaping import escape_name
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index, RunId
from handoff_actors.text import encodable, exact, repr_of
from handoff_actors.wire.messages.directions import AboutRun
from handoff_actors.wire.messages.nested import (
    MAX_ANCESTORS,
    MAX_ID,
    MAX_INT,
    MAX_LABEL,
    MAX_WANTS,
    Holding,
    Identified,
    Identify,
    Probe,
    Probed,
    Want,
)
from handoff_actors.wire.messages.runs import Completed, Failed, Started

#: Pause before the first round; each next one is twice as long.
FIRST_PAUSE_S: Final = 0.2
#: The longest pause, and that as a share of the allocation timeout, where that is more.
LONG_PAUSE_S: Final = 1.0
PAUSE_SHARE: Final = 0.25
#: Functions that an error lists for each node.
MAX_LISTED: Final = 8
#: Rounds that have to agree: in an early one, a function that others wait for may just have been on its way.
LEAST_ROUNDS: Final = 2
#: The pause between two rounds where the allocation timeout is over.
MIN_PAUSE_S: Final = 0.02

_ADVICE: Final = (
    "Let the function return handoff.Subgraph(dag, result=handle) instead of waiting: it holds nothing meanwhile. Or run the "
    "inner graph in the app, or on a node of its own within the function (Session(local_node=...)); or offer more resources"
)


class NestedRun:
    """One nested run. `settle` is called after each event, as long as the run goes on."""

    #: The error that ends the run, since it would wait for ever.
    error: AllocationError | None = None

    def __init__(self, run: RunId, plan: Plan, scheduler: Scheduler, options: RunOptions) -> None:
        self._run = run
        self._plan = plan
        self._scheduler = scheduler
        self._nodes = None if options.nodes is None else sorted(options.nodes)
        self._allowed_s = options.allocation_timeout_s
        #: True until it has asked for a node of its own.
        self._may_start_node = options.may_start_node and self._nodes is None
        #: False for a run that an app has begun: such a run is not watched.
        self.is_on = options.parent is not None
        self._pause_s = FIRST_PAUSE_S
        self._longest_s = max(LONG_PAUSE_S, PAUSE_SHARE * self._allowed_s)
        #: All known ones, the parent first.
        self._ancestors = {} if options.parent is None else {options.parent: None}
        self._round = 0
        #: The time of the next round; None while one goes on.
        self.ask_at: float | None = None
        #: The round's nodes that have not answered, and the answers of the others.
        self._unanswered: set[str] = set()
        self._answers: dict[str, Probed] = {}
        #: All nodes that the session knows, the run's own or not: ancestors may be on any of them.
        self._members: dict[str, NodeUp] = {}
        #: Nodes that have been told that it waits.
        self._told: set[str] = set()
        #: The time of the latest sign that it does not wait for ever.
        self._hopeful_at = 0.0
        #: The runs that wait for one another, this one first, according to the latest whole round; else empty.
        self._stuck: dict[RunId, NestedWait] = {}
        #: The nodes as they have answered in that round.
        self._facts: dict[str, NodeFacts] = {}
        #: The functions that should wait elsewhere, according to that round, by the node on which they wait.
        self._misplaced: dict[str, list[Index]] = {}
        #: Number of rounds in a row that have found it deadlocked.
        self._agreeing = 0
        #: True between a report of an attempt and the next `settle`.
        self._has_moved = True

    # --- What happens -------------------------------------------------------------------------------------------

    def node_up(self, node: NodeUp) -> bool:
        """Take note of a node, or of its latest figures. True if the run may use it."""
        if not self.is_on:
            return True
        self._members[node.name] = node
        return self._nodes is None or node.name in self._nodes

    def node_gone(self, name: str) -> None:
        """Forget a node that is gone."""
        self._members.pop(name, None)
        self._told.discard(name)
        self._has_moved = True

    def received(self, name: str, message: AboutRun) -> None:
        """Take note of a message from a node."""
        match message:
            case Probed():
                self._answered(name, message)
            case Completed() | Failed() | Started():
                self._has_moved = True
            case _:
                # A function that comes back unstarted has not moved: it may be sent to and fro for ever.
                pass

    def take_misplaced(self) -> dict[str, list[Index]]:
        """Drain the functions that should be recalled, by the node on which they wait."""
        misplaced, self._misplaced = self._misplaced, {}
        return misplaced

    def left_alone(self) -> list[StartNode]:
        """Ask for a node of its own, since those leave that could run the functions; in vain the second time.

        The function that has begun the run may go on on such a node, which waits for it.
        """
        may_start, self._may_start_node = self._may_start_node, False
        return [StartNode()] if may_start else []

    def _answered(self, name: str, answer: Probed) -> None:
        if answer.round != self._round or name not in self._unanswered:
            return
        self._unanswered.discard(name)
        self._answers[name] = answer

    # --- After each event ---------------------------------------------------------------------------------------

    def answers(self, name: str, message: Probed | Identify) -> list[SendToNode]:
        """Answer a node that asks for the id of a function."""
        if isinstance(message, Probed) or not 0 <= message.index < len(self._plan.ids):
            return []
        return [SendToNode(name, identified(self._run, message.index, self._plan.ids[message.index]))]

    def settle(self, now: float, *, is_over: bool, is_busy: bool) -> list[SendToNode]:
        """Send what is due. `is_busy` if the run waits for something else than the start of functions."""
        if is_over:
            self.ask_at = None
            return self._withdraw()
        if self._has_moved:
            self._has_moved = False
            self._pause_s = FIRST_PAUSE_S
            return self._hope(now)
        if self.ask_at is None:
            return [] if self._unanswered else self._end_round(now)
        if now < self.ask_at:
            return []
        return self._hope(now) if is_busy else self._begin_round(now)

    def _end_of_patience(self) -> AllocationError:
        index, want = self._waiting()[0]
        held = {
            name: holdings
            for name in sorted(self._members)
            if (holdings := holdings_on(name, self._stuck.values()))
        }
        by_node = "; ".join(
            f"on node {escape_name(repr(name))} by {_listed(holdings)}" for name, holdings in held.items()
        )
        return AllocationError(
            self._plan.ids[index],
            want.cost,
            {name: facts.capabilities for name, facts in self._facts.items()},
            f"needs {want.cost or 'a worker'}, which functions hold that wait for runs of their own, this run among these: "
            f"{by_node}. Nothing has changed within allocation_timeout={exact(self._allowed_s)} s, and nothing would. {_ADVICE}",
            {name: [_label(holding) for holding in holdings] for name, holdings in held.items()},
        )

    def why_not(self, index: Index, name: str) -> str:
        """Say, for people, why a function that waits never starts on a node; "" if that is not known."""
        holdings = holdings_on(name, self._stuck.values())
        if not holdings or name not in self._facts:
            return ""
        scarce = Room(self._facts[name], holdings).scarce(self._want_of(index))
        if not scarce:
            return ""
        return f"lacks free {' and '.join(scarce)}, held until runs of their own have ended by {_listed(holdings)}"

    def _withdraw(self) -> list[SendToNode]:
        """Tell the nodes that the run does not wait any more."""
        told, self._told = self._told, set()
        if not told:
            return []
        self._round += 1
        return [SendToNode(name, Probe(self._run, self._round, [], [])) for name in sorted(told)]

    # --- Rounds -------------------------------------------------------------------------------------------------

    def _hope(self, now: float) -> list[SendToNode]:
        """Take it that the run goes on, and ask again after a pause."""
        self._hopeful_at = now
        self._stuck, self._agreeing = {}, 0
        self._rest(now)
        return self._withdraw()

    def _rest(self, now: float) -> None:
        self.ask_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._longest_s)

    def _begin_round(self, now: float) -> list[SendToNode]:
        """Ask whether functions run, where some have been sent; and all nodes, once it is known that none does."""
        sent = [name for name, node in self._scheduler.nodes.items() if node.sent]
        return self._ask(sent, []) if sent and not self._told else self._ask_all(now)

    def _ask_all(self, now: float) -> list[SendToNode]:
        wants = [want for _, want in self._waiting()]
        if not 0 < len(wants) <= MAX_WANTS:
            return self._hope(now)
        self._told = set(self._members)
        return self._ask(sorted(self._members), wants)

    def _ask(self, names: Sequence[str], wants: list[Want]) -> list[SendToNode]:
        self._round += 1
        self.ask_at = None
        self._unanswered, self._answers = set(names), {}
        probe = Probe(self._run, self._round, list(self._ancestors), wants)
        return [SendToNode(name, probe) for name in names]

    def _end_round(self, now: float) -> list[SendToNode]:
        if any(answer.is_active for answer in self._answers.values()):
            return self._hope(now)
        if not self._told or self._has_more_ancestors():
            return self._ask_all(now)
        self._facts = {
            name: _facts_of(answer, node)
            for name, answer in self._answers.items()
            for node in (self._members[name],)
        }
        self._stuck = self._judge()
        self._misplaced = {} if self._stuck else self._find_misplaced()
        self._rest(now)
        if not self._stuck:
            # It is not withdrawn: others may need to know what its ancestors hold while it waits.
            self._hopeful_at, self._agreeing = now, 0
            return []
        self._agreeing += 1
        patient_until = self._hopeful_at + self._allowed_s
        if self._agreeing >= LEAST_ROUNDS and now >= patient_until:
            self.error = self._end_of_patience()
            return self._withdraw()
        self.ask_at = max(now + MIN_PAUSE_S, min(now + self._pause_s, patient_until))
        return []

    def _find_misplaced(self) -> dict[str, list[Index]]:
        """The functions that wait on a node while another one has what they claim, by the node.

        Work stealing takes that to be taken by the functions that are queued there. Those may wait for what ancestors hold, of this
        run or of others, and so for ever if nothing else starts.
        """
        waiting = {
            name: [
                index for index in node.sent if index not in node.followers and self._fits_beside(index, name)
            ]
            for name, node in self._scheduler.nodes.items()
        }
        return {name: indices for name, indices in waiting.items() if indices}

    def _fits_beside(self, index: Index, name: str) -> bool:
        """True if a function that waits on a node would fit on another one now, as that has advertised last."""
        if self._scheduler.destinations.target_of(index) is not None:
            return False
        want = self._want_of(index)
        return any(
            holds(node.load.offer.spare, want.cost) and Room(facts, ()).could_start(other, want)
            for other, node in self._scheduler.nodes.items()
            if other != name and (facts := self._facts.get(other)) is not None
        )

    def _has_more_ancestors(self) -> bool:
        """Take the ancestors that the nodes have named. True if there are new ones, whose nodes have yet to be told."""
        known = len(self._ancestors)
        for answer in self._answers.values():
            for ancestor in answer.ancestors:
                if len(self._ancestors) < MAX_ANCESTORS:
                    self._ancestors.setdefault(ancestor)
        return len(self._ancestors) > known

    def _judge(self) -> dict[RunId, NestedWait]:
        """The runs that wait for one another for ever, if this one is among them and its own ancestors hold something."""
        if self._answers.keys() != self._members.keys():
            # A node has joined meanwhile.
            return {}
        # This run's own ancestors are to be named first.
        waiting: dict[RunId, NestedWait] = {self._run: NestedWait([])}
        for name, answer in self._answers.items():
            for run in answer.waiting:
                known = waiting.setdefault(run.run, NestedWait([]))
                known.wants = run.wants
                known.holdings[name] = run.holdings
        stuck = deadlocked(self._facts, waiting)
        return stuck if self._run in stuck and waiting[self._run].holdings else {}

    # --- Functions that wait ------------------------------------------------------------------------------------

    def _waiting(self) -> list[tuple[Index, Want]]:
        """One function of each kind that has not started, if none has."""
        kinds: dict[tuple[int, str | None], Index] = {}
        for index in self._not_started():
            kinds.setdefault(
                (self._scheduler.needs.of[index].number, self._scheduler.destinations.target_of(index)), index
            )
        return [(index, self._want_of(index)) for index in kinds.values()]

    def _not_started(self) -> Iterator[Index]:
        for node in self._scheduler.nodes.values():
            yield from (index for index in node.sent if index not in node.followers)
        yield from self._scheduler.first_ready()

    def _want_of(self, index: Index) -> Want:
        need, target = self._scheduler.needs.of[index], self._scheduler.destinations.target_of(index)
        nodes = self._nodes if target is None else [target]
        return Want(need.cost, need.is_async, nodes or [], need.python)


def identified(run: RunId, index: Index, function_id: FunctionId) -> Identified:
    """Tell the id of a function: as text for people, and as it is where a message can have it."""
    known: str | int | None = None
    if (type(function_id) is int and abs(function_id) < MAX_INT) or (
        type(function_id) is str and len(function_id) <= MAX_ID and encodable(function_id) == function_id
    ):
        known = function_id
    return Identified(run, index, repr_of(function_id, MAX_LABEL), known)


def _facts_of(answer: Probed, node: NodeUp) -> NodeFacts:
    """The facts of a node, or of one that it would start, where it is there for that."""
    if node.can_start and not answer.workers:
        return NodeFacts(node.can_start, 1, 1, node.python, node.leaving)
    return NodeFacts(answer.capabilities, answer.workers, answer.most_workers, node.python, node.leaving)


def _label(holding: Holding) -> str:
    return holding.label or f"number {holding.function.index} of run {holding.function.run:x}"


def _listed(holdings: Sequence[Holding]) -> str:
    """Name the functions of these holdings, and what they hold."""
    shown = [f"function {escape_name(_label(each))} ({_held(each)})" for each in holdings[:MAX_LISTED]]
    more = len(holdings) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _held(holding: Holding) -> str:
    parts = [f"{resource} {amount:g}" for resource, amount in holding.cost.items() if amount]
    return ", ".join([*map(escape_name, parts), *(["a worker"] if holding.has_worker else [])])
