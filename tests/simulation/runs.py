"""One run in an app: the real machine, and what is expected of it."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, assert_never

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.endings.retries import MAX_NODE_CRASHES
from handoff_actors.core.run.events import (
    Cancel,
    FetchResult,
    FindResults,
    FunctionObserved,
    FunctionsEnded,
    FunctionsForgotten,
    NodeJoinObserved,
    NodeLeaveObserved,
    RecordResults,
    RelayObserved,
    Release,
    ResultFetched,
    ResultFetchFailed,
    ResultsFound,
    ResultsTakenOver,
    RunEffect,
    RunEnded,
    RunForgotten,
    SendToNode,
    StartNode,
    TellOfRoom,
    TransferObserved,
)
from handoff_actors.core.run.facts.phases import DONE, FAILED
from handoff_actors.core.run.grow import Grow, RunMachineEvent
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.options import RunOptions
from handoff_actors.errors import (
    AllocationError,
    FunctionFailed,
    HandoffError,
    NodeLost,
    RunTimeout,
    SerializationError,
    WorkerDied,
)
from handoff_actors.graph import HookId
from handoff_actors.graph.run_if import run_if_of, tolerates
from handoff_actors.ids import FunctionId, Index, RunId
from handoff_actors.skip import ENCODED_SKIP
from handoff_actors.wire.messages.runs import Assign, Failed
from tests.simulation.dags import Conduct, Work
from tests.simulation.graphs import found_in
from tests.simulation.network import Clock
from tests.simulation.nodes import WAIT_S
from tests.simulation.oracle import Oracle
from tests.simulation.symbols import FAILED_INPUT, MADE_FOR, StoredBytes

if TYPE_CHECKING:
    from tests.simulation.apps import App
    from tests.simulation.cluster import Cluster

#: Explaining everything takes as long as deciding it, so it is done after every so many events.
EXPLAINED_EVERY = 4
#: A cancelled run is over within this time, whatever its functions do.
CANCELLING_S = 1.0
#: Seconds after paths were shut or nodes slow until leases have ended and all have met again.
RECOVERING_S = 15.0
#: Some callers let go of a run so late that nodes must have left before.
KEPT_S = 40.0
COSTS_A_RETRY = ("exception", "timeout", "store", "cancelled")


class SimulatedRun:
    """One run, from its start until nothing of it is left."""

    def __init__(
        self, number: RunId, work: Work, options: RunOptions, app: "App", cluster: "Cluster"
    ) -> None:
        self.number = number
        self.work = work
        self.options = options
        self.machine = RunMachine(number, work.program, options)
        self.cancelled_at: float | None = None
        self.end: RunEnded | None = None
        self.is_forgotten = False
        self.app = app
        self._cluster = cluster
        self._in_app: dict[Index, bytes] = {}
        #: Large results of an earlier run.
        self.taken_over: dict[Index, StoredBytes] = {}
        self._done: set[Index] = set()
        #: Functions that have ended, even if their value has been lost since.
        self._ended: set[Index] = set()
        self._events = 0
        self._failures: Counter[tuple[FunctionId, str]] = Counter()

    @property
    def is_alive(self) -> bool:
        return self.app.is_alive

    @property
    def clock(self) -> Clock:
        return self.app.clock

    @property
    def lag_s(self) -> float:
        return 0.0

    def describe(self) -> str:
        machine = self.machine
        reasons = machine.view.explain()
        return f"run {self.number}, end {self.end}, {reasons}"

    def start(self, nodes: Sequence[NodeUp]) -> None:
        start = partial(self.machine.start, nodes=nodes, error_of=lambda _: FAILED_INPUT)
        self._cluster.drive(self, self.machine, start, self.carry_out)

    def handle(self, event: RunMachineEvent) -> None:
        if self.app.is_alive:
            # The code of a plan is shown with its place in memory.
            noted = f"Grow({event.program.plan.ids})" if isinstance(event, Grow) else event
            self._cluster.note(f"run {self.number}", noted)
            self._cluster.drive(self, self.machine, partial(self.machine.handle, event), self.carry_out)

    def cancel(self) -> None:
        self.cancelled_at = self._cluster.timeline.now
        self.handle(Cancel())

    def count_failure(self, failed: Failed) -> None:
        is_about_an_input = failed.kind in {"input", "unreachable"}
        assert self._cluster.has_faults or not is_about_an_input, (
            f"an input is missing for no reason: {failed}"
        )
        self._failures[self.work.program.plan.ids[failed.index], failed.kind] += 1

    def conduct_of(self, index: Index, attempt: int) -> tuple[Conduct, int]:
        """How an attempt at a function goes, and the number of the attempt."""
        return self.work.conducts.get(index) or Conduct(0.01, is_large=index % 3 == 0), attempt

    def held_value(self, index: Index) -> StoredBytes | None:
        """The value that the app has, for a node that asks for it."""
        constant = self.work.constants.get(index)
        return self.taken_over.get(index) if constant is None else StoredBytes(constant, 0)

    # --- What the machine decides -------------------------------------------------------------------------------

    def carry_out(self, effect: RunEffect) -> None:  # noqa: C901, PLR0912 - one table
        match effect:
            case SendToNode(name, message):
                if isinstance(message, Assign) and name in self._cluster.pythons:
                    self._cluster.faults["of another Python"] += 1
                    sent = [member.index for job in message.jobs for member in (job, *job.then)]
                    assert not any(map(self._is_native, sent)), f"{name} gets code that it can't run: {sent}"
                if isinstance(message, Assign):
                    self._check_that_they_may_run(message)
                self.app.send(name, message)
            case FetchResult():
                delay_s = self._cluster.random.choice((0.001, 0.1))
                self._cluster.timeline.after(delay_s, lambda: self._fetch_result(effect))
            case FunctionObserved("completed", index):
                assert index not in self._done, f"{index} of run {self.number} has been taken twice"
                self._done.add(index)
                self._ended.add(index)
            case FunctionObserved("skipped" | "failed" | "reused", index):
                self._ended.add(index)
            case (
                FunctionObserved()
                | TransferObserved()
                | RelayObserved()
                | NodeJoinObserved()
                | NodeLeaveObserved()
                | RecordResults()
                | FunctionsEnded()
                | FunctionsForgotten()
            ):
                pass
            case FindResults(name, entry):
                random = Random(f"found for {self.number}, {entry.index}, {entry.attempt}")
                found = found_in(effect.graph, random)
                answer = ResultsFound(name, entry, effect.graph, found)
                self._cluster.faults["found results"] += len(found.reused)
                self._cluster.timeline.after(random.choice((0.0, 0.001, 0.5)), lambda: self.handle(answer))
            case ResultsTakenOver(values):
                for index, value in values.items():
                    self._in_app[index] = bytes(value)
                    self.taken_over[index] = StoredBytes(bytes(value), self.machine.state.version_of(index))
            case RunEnded():
                assert self.end is None, f"run {self.number} has ended twice"
                self.end = effect
                self._look_at_the_end(effect)
            case StartNode():
                raise AssertionError("no run here is nested")
            case TellOfRoom():
                self.app.tell_of_room()
            case RunForgotten():
                self.is_forgotten = True
                self.app.load.forget(self.number)
            case _:
                assert_never(effect)

    def _fetch_result(self, effect: FetchResult) -> None:
        for holder in effect.holders:
            link = self.app.links.get(holder)
            if link is not None and not link.path.is_clear:
                self._cluster.timeline.after(WAIT_S, lambda: self._fetch_result(effect))
                return
            value = link.node.value(self.number, effect.index) if link is not None and link.is_up else None
            if value is not None:
                self._in_app[effect.index] = value
                self.handle(ResultFetched(effect.index))
                return
        self.handle(ResultFetchFailed(effect.index, f"{effect.holders} do not have it"))

    # --- What must hold -----------------------------------------------------------------------------------------

    def check(self) -> None:
        machine = self.machine
        machine.check()
        phase = machine.state.phase
        self._done = {index for index in self._done if phase[index] == DONE}
        self._events += 1
        if self._events % EXPLAINED_EVERY:
            return
        for explanation in machine.view.explain():
            has_reason = {
                "waiting": explanation.waits_for,
                "ready": explanation.nodes or not machine.scheduler.nodes,
                "sent": explanation.node,
                "resting": explanation.attempts,
            }
            assert has_reason[explanation.state], f"nothing explains {explanation}"

    def _look_at_the_end(self, end: RunEnded) -> None:
        if end.error is not None:
            assert self._explains(end.error), f"run {self.number} ended for no reason: {end.error!r}"
            self._look_at_what_runs_anyway(end.error)
            kept_s = Random(f"error of {self.number}").choice((0.0, 1.0, KEPT_S))
            self._cluster.timeline.after(kept_s, lambda: self.handle(Release()))
        elif end.cancelled:
            assert self.cancelled_at is not None
            latest = max(self.cancelled_at + CANCELLING_S, self._recovered_at)
            assert self._cluster.timeline.now < latest, "cancelling took too long"
        else:
            self._compare_values()
            self._look_at_failures()
            random = self._cluster.random
            keeps_s = KEPT_S if self._cluster.has_faults and random.random() < 0.2 else random.random()
            self._cluster.timeline.after(keeps_s, lambda: self.handle(Release()))

    def _look_at_failures(self) -> None:
        """Each failure has a reason, and what depends on it failed behind it, unless it was done already."""
        plan, state = self.work.program.plan, self.machine.state
        assert self.options.on_failure == "continue" or not state.failures
        for failure in state.failures.values():
            assert self._explains(failure.error), f"a function failed for no reason: {failure.error!r}"
            self._cluster.faults["a function failed alone"] += 1
        for index, failed in state.failed_behind.items():
            assert failed in state.failures
            hook = plan.hook_of.get(index)
            needed = plan.producers[index] if hook is None else (*plan.producers[index], hook.consumer)
            behind = [
                other
                for other in needed
                if state.phase[other] == FAILED and not (hook is None and tolerates(plan, index, other))
            ]
            assert behind, f"{index} is said to depend on {failed}"
            self._cluster.faults["a function failed behind another"] += 1

    def _check_that_they_may_run(self, message: Assign) -> None:
        plan, state = self.work.program.plan, self.machine.state
        for job in message.jobs:
            run_if = run_if_of(plan, job.index)
            has_stopped = self.options.on_failure == "stop" and bool(state.failures)
            is_for_all_cases = run_if != "success" or job.index in state.added_anyway
            may_run = not has_stopped or is_for_all_cases or job.index in self._ended
            assert may_run, f"{job} is sent after the failure"
            self._cluster.faults["ran in any case"] += run_if != "success"
            self._cluster.faults["ran after the failure of its run"] += has_stopped

    def _look_at_what_runs_anyway(self, error: HandoffError) -> None:
        """A failure of a function ends the run once those have ended that run in any case, with the right values."""
        plan, state = self.work.program.plan, self.machine.state
        if all(failure.error is not error for failure in state.failures.values()):
            return
        for index in state.unfinished():
            is_over = index in self._ended or run_if_of(plan, index) == "success"
            assert is_over or _has_made_parts(plan.ids[index]), f"{plan.ids[index]} has not ended"
        if not state.remaining:
            self._compare_values(are_here=False)

    @property
    def _recovered_at(self) -> float:
        return self._cluster.calm_at + RECOVERING_S if self._cluster.calm_at else 0.0

    def _is_native(self, index: Index) -> bool:
        program = self.work.program
        if index not in self.work.conducts or index in self.machine.state.earlier_attempts:
            # It is of a graph that a function has returned.
            return False
        return program.affinity.binds(program.plan, index)

    def _explains(self, error: HandoffError) -> bool:
        plan = self.work.program.plan
        match error:
            case WorkerDied(function_id=function_id):
                return self._failures[function_id, "worker"] >= 3
            case FunctionFailed(function_id=function_id):
                failures = sum(self._failures[function_id, kind] for kind in COSTS_A_RETRY)
                index = plan.ids.index(function_id)
                return failures > plan.max_retries.get(index, self.options.max_retries)
            case SerializationError(function_id=function_id):
                return self._failures[function_id, "serialization"] > 0
            case NodeLost() if "because of a bug" in str(error):
                return self._cluster.faults["a bug"] >= MAX_NODE_CRASHES
            case NodeLost():
                return self._cluster.has_faults
            case AllocationError(need=need):
                index = plan.ids.index(error.function_id)
                group = plan.group_of[index]
                together = (index,) if group < 0 else plan.groups[group]
                is_native = any(self.machine.scheduler.needs.of[member].python for member in together)
                could = self._cluster.could_hold(need, plan.node_of[index], is_native=is_native)
                return self._cluster.has_faults or not could
            case RunTimeout():
                return self.options.timeout_s is not None
            case _:
                return False

    def _compare_values(self, *, are_here: bool = True) -> None:
        plan, state = self.work.program.plan, self.machine.state
        oracle = Oracle(self.work.dag, {plan.ids[index] for index in (*state.failures, *state.failed_behind)})
        for index, function_id in enumerate(plan.ids):
            if isinstance(function_id, HookId) or state.phase[index] == FAILED:
                continue
            value = state.inline.get(index) or self._in_app.get(index)
            if value is None:
                assert not are_here or index not in self.options.wanted, (
                    f"{function_id} was wanted and is not here"
                )
                values = [
                    link.node.value(self.number, index)
                    for holder in state.stored[index].holders
                    if (link := self.app.links.get(holder)) is not None
                ]
                present = [value for value in values if value is not None]
                if not present:
                    continue
                value = present[0]
            expected = oracle.values.get(function_id)
            assert expected is None or value.partition(MADE_FOR)[0] in expected, (
                f"{function_id} came to {value!r}, not {expected!r}"
            )
            self._cluster.faults["skipped"] += value == ENCODED_SKIP


def _has_made_parts(function_id: FunctionId) -> bool:
    """True for what stands for a function that has returned a graph: what it has made may be lost once that has run."""
    return isinstance(function_id, tuple) and function_id[-1] == "parts"
