"""Runs that are given their functions while they go on, at random, and forget those that nobody needs."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace as changed
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.events import (
    CancelFunctions,
    EndGrowth,
    FetchResult,
    FunctionObserved,
    FunctionsEnded,
    FunctionsForgotten,
    LetGo,
    ResultFetched,
    RunEffect,
    RunEnded,
    SendToNode,
    WantResults,
)
from handoff_actors.core.run.facts.phases import DONE, FAILED, FREE
from handoff_actors.core.run.grow import Grow, RunMachineEvent
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.errors import (
    AllocationError,
    FunctionCancelled,
    FunctionFailed,
    HandoffError,
    ValueLost,
    WorkerDied,
)
from handoff_actors.graph import DAG, Function, Plan
from handoff_actors.graph.function import producer_ids
from handoff_actors.graph.growing_dag import outer_ids
from handoff_actors.ids import FunctionId, Index, RunId
from handoff_actors.wire.messages.runs import Assign, Failed
from tests.simulation.dags import Conduct, Work, encoded_constants, templates_of
from tests.simulation.oracle import Oracle
from tests.simulation.runs import COSTS_A_RETRY, SimulatedRun
from tests.simulation.symbols import MADE_FOR

if TYPE_CHECKING:
    from tests.simulation.apps import App
    from tests.simulation.cluster import Cluster

#: Functions that are added at once.
PARTS = (1, 1, 2, 5)
#: What an app does with a handle, beside letting it go.
CANCELLED = 0.03
WANTED = 0.3
#: All that was on its way when a run ended has come so soon, where nothing goes wrong.
ARRIVED_S = 0.5
#: The first value that an app has by itself, as in apps.
APP_VALUES = 1 << 40


class GrowingRun(SimulatedRun):
    """One open run. What it should come to is that of a run of all its functions as one graph."""

    def __init__(
        self, number: RunId, work: Work, options: RunOptions, app: "App", cluster: "Cluster", grows_s: float
    ) -> None:
        whole = work.dag
        options = replace(options, is_open=True, wanted=(), on_failure="continue")
        empty = changed(work, program=Program(Plan.empty("dag"), [], [], []))
        super().__init__(number, empty, options, app, cluster)
        self._whole = whole
        self._plan = Plan.compile(whole)
        self._conducts = {self._plan.ids[index]: conduct for index, conduct in work.conducts.items()}
        self._random = Random(f"growth of {number} in {len(whole)}")
        self._grows_s = grows_s
        #: By index and attempt: the function, and the number of this attempt at it.
        self._sent: dict[tuple[Index, int], tuple[FunctionId, int]] = {}
        self._cancelled: set[FunctionId] = set()
        self._let_go: set[FunctionId] = set()
        self._next_value = APP_VALUES
        #: Those that no function takes any more.
        self._forgotten_values: set[Index] = set()
        self._failed: set[FunctionId] = set()
        self._fetches: dict[Index, FetchResult] = {}
        self._oracle = Oracle(whole, ())

    def start(self, nodes: Sequence[NodeUp]) -> None:
        super().start(nodes)
        left = list(self._whole.functions.values())
        at_s = 0.0
        takers: dict[Hashable, float] = {}
        while left:
            part = _take_part(left, self._random)
            at_s += self._random.choice((0.0, 0.01, self._random.random() * self._grows_s / len(self._whole)))
            self._later(at_s, partial(self._grow, part))
            for function in part:
                takers[function.id] = at_s
                takers |= dict.fromkeys(producer_ids(function), at_s)
        for function_id, taken_s in takers.items():
            self._plan_handle(function_id, taken_s)
        self._later(at_s + 0.01, lambda: self.handle(EndGrowth()))

    def _plan_handle(self, function_id: FunctionId, taken_s: float) -> None:
        """Choose what the app does with a handle; what takes its result has been added by `taken_s`."""
        random = self._random
        until_s = taken_s + random.choice((0.0, 0.1, random.random() * self._grows_s))
        if random.random() < CANCELLED:
            self._later(until_s * random.random(), partial(self._cancel, function_id))
        if random.random() < WANTED:
            self._later(until_s * random.random(), lambda: self.handle(WantResults([function_id])))
        if random.random() < 0.9:
            self._later(until_s + 0.001, partial(self._let_go_of, function_id))

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        self._cluster.timeline.after(seconds, lambda: None if self.end else act())  # type: ignore[arg-type]  # what it returns is of no use

    def _grow(self, functions: Sequence[Function]) -> None:
        by_id = {function.id: function for function in functions}
        plan = Plan.of(by_id, "dag", outer_ids(by_id))
        encoded, large = encoded_constants(self._random, plan, self._next_value)
        self._next_value += len(large)
        self.work.constants.update(large)
        program = Program(plan, templates_of(plan), encoded, [])
        self.handle(Grow(program, range(len(plan.index_of)), [*large]))

    def _cancel(self, function_id: FunctionId) -> None:
        if function_id in self.machine.view.plan.index_of:
            self._cancelled.add(function_id)
            self._cluster.faults["a function was cancelled"] += 1
            self.handle(CancelFunctions([function_id]))

    def _let_go_of(self, function_id: FunctionId) -> None:
        self._let_go.add(function_id)
        self.handle(LetGo([function_id]))

    # --- What functions do --------------------------------------------------------------------------------------

    def conduct_of(self, index: Index, attempt: int) -> tuple[Conduct, int]:
        function_id, number = self._sent[index, attempt]
        return self._conducts.get(function_id, Conduct(0.01, False)), number

    def count_failure(self, failed: Failed) -> None:
        function_id, _ = self._sent[failed.index, failed.attempt]
        self._failures[function_id, failed.kind] += 1

    def carry_out(self, effect: RunEffect) -> None:  # noqa: C901 - one table
        match effect:
            case SendToNode(_, Assign() as message):
                state = self.machine.state
                for job in message.jobs:
                    for member in (job, *job.then):
                        earlier = state.earlier_attempts.get(member.index, 0)
                        function_id = self.machine.view.plan.ids[member.index]
                        self._sent[member.index, member.attempt] = function_id, member.attempt - earlier
            case FunctionObserved(("failed" | "skipped"), index):
                self._note_failed(index)
            case FunctionsEnded(indices):
                for index in indices:
                    self._look_at_value(index, self.machine.state.inline.get(index))
            case FunctionsForgotten(indices, app_values):
                self._forgotten_values.update(app_values)
                self._cluster.faults["forgotten"] += len(indices)
                self._done.difference_update(indices)
                for index in indices:
                    self._in_app.pop(index, None)
                    self.taken_over.pop(index, None)
                    self._fetches.pop(index, None)
            case FetchResult(index):
                self._fetches[index] = effect
            case _:
                pass
        super().carry_out(effect)

    def _note_failed(self, index: Index) -> None:
        if self.machine.state.phase[index] == FAILED:
            self._failed.add(self.machine.view.plan.ids[index])
            self._oracle = Oracle(self._whole, self._failed)

    def handle(self, event: RunMachineEvent) -> None:
        super().handle(event)
        if isinstance(event, ResultFetched):
            self._look_at_value(event.index, self._in_app.get(event.index))

    def _fetch_result(self, effect: FetchResult) -> None:
        # The fetch of a value that is forgotten is given up.
        if self._fetches.get(effect.index) is effect:
            super()._fetch_result(effect)

    def _check_that_they_may_run(self, message: Assign) -> None:
        pass

    def _is_native(self, index: Index) -> bool:
        return False

    # --- What must hold -----------------------------------------------------------------------------------------

    def check(self) -> None:
        super().check()
        plan, state = self.machine.view.plan, self.machine.state
        known = plan.index_of.keys() & self._whole.functions.keys()
        is_going_on = self.machine._completion.outcome is None
        if is_going_on and state.remaining == 0 and self._let_go.issuperset(known):
            left = {index for index, phase in enumerate(state.phase) if phase != FREE}
            # What has happened to these has yet to be told.
            assert left <= set(self.machine._growth._postponed), f"{left} are not forgotten"

    def _look_at_the_end(self, end: RunEnded) -> None:
        super()._look_at_the_end(end)
        if not self._cluster.has_faults:
            self._cluster.timeline.after(ARRIVED_S, self._look_at_nodes)

    def _look_at_nodes(self) -> None:
        """Nothing that is forgotten is left on any node, nor is what has not counted."""
        state = self.machine.state
        for node in self._cluster.nodes.values():
            for index, version in node.versions_of(self.number):
                if index >= APP_VALUES:
                    assert index not in self._forgotten_values, f"{node.name} still has constant {index}"
                    continue
                assert state.phase[index] != FREE, f"{node.name} still has {index}, which is forgotten"
                assert version == state.attempt[index], f"{node.name} has {version} of {index}"

    def _look_at_value(self, index: Index, value: bytes | None) -> None:
        state = self.machine.state
        if value is None or state.phase[index] != DONE:
            return
        function_id = self.machine.view.plan.ids[index]
        expected = self._oracle.values.get(function_id)
        made = value.partition(MADE_FOR)[0]
        assert expected is None or made in expected, f"{function_id} came to {value!r}, not {expected!r}"

    def _compare_values(self, *, are_here: bool = True) -> None:
        plan, state = self.machine.view.plan, self.machine.state
        for index in plan.index_of.values():
            self._look_at_value(index, state.inline.get(index))
        self._cluster.faults["grew"] += 1

    def _look_at_failures(self) -> None:
        for failure in self.machine.state.failures.values():
            assert self._explains(failure.error), f"a function failed for no reason: {failure.error!r}"

    def _explains(self, error: HandoffError) -> bool:
        match error:
            case FunctionCancelled(function_id=function_id):
                return not self._cancelled.isdisjoint(_with_parents(function_id))
            case ValueLost():
                return self._cluster.has_faults
            case FunctionFailed(function_id=function_id) if function_id not in self._plan.index_of:
                return any(self._failures[function_id, kind] for kind in COSTS_A_RETRY)
            case FunctionFailed(function_id=function_id) if not isinstance(error, WorkerDied):
                # Once it has returned a graph, the retries are those of the function whose result stands for its own.
                plan = self.machine.view.plan
                most = plan.max_retries.get(plan.index_of[function_id], self.options.max_retries)
                return sum(self._failures[function_id, kind] for kind in COSTS_A_RETRY) > most
            case AllocationError(function_id=function_id) if function_id not in self._plan.index_of:
                return self._cluster.has_faults
            case AllocationError(need=need):
                node = self._whole.functions[error.function_id].node
                pin = node if isinstance(node, str) else None
                return self._cluster.has_faults or not self._cluster.could_hold(need, pin, is_native=False)
            case _:
                # As of a run of the whole graph: its indices are others.
                own, self.work.program = self.work.program, Program(self._plan, [], [], [])
                try:
                    return super()._explains(error)
                finally:
                    self.work.program = own


def _with_parents(function_id: FunctionId) -> Iterator[FunctionId]:
    """The function, the one that has added it, and so on: see `child_id`."""
    yield function_id
    while isinstance(function_id, tuple):
        function_id = function_id[0]
        yield function_id


def _take_part(left: list[Function], random: Random) -> list[Function]:
    count = min(len(left), random.choice(PARTS))
    part, left[:] = left[:count], left[count:]
    return part


def plain(dag: DAG) -> DAG:
    """The same graph without what has to be added in one go: functions are regular, and are collocated with none."""
    made = DAG(dag.id)
    for function in dag.functions.values():
        node = function.node if isinstance(function.node, str) else None
        made.add_function(changed(function, type="regular", node=node))
    return made
