"""Any sequence of calls, cancellations and losses of nodes ends, in the right values, and leaves nothing behind."""

from collections.abc import Iterable

from hypothesis import example, given, settings, strategies as st

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import (
    CancelFunctions,
    EndGrowth,
    FetchResult,
    FunctionsEnded,
    FunctionsForgotten,
    LetGo,
    ResultFetched,
    ResultFetchFailed,
    RunEffect,
    RunEnded,
    SendToNode,
    WantResults,
)
from handoff_actors.core.run.facts.phases import DONE, FREE
from handoff_actors.core.run.grow import Grow
from handoff_actors.errors import FunctionCancelled, FunctionFailed, NodeLost
from handoff_actors.wire.messages.jobs import Job, Ref, ValueKey
from handoff_actors.wire.messages.runs import Assign, Drop, FailureKind
from tests.core.builders import completed, done, failed, node_up
from tests.core.run.growing.test_growth import call, open_run, part_of

NODES = ("a", "b")
STORED_NBYTES = 10**6


class GrowingWorld:
    """One open run with two nodes, and what functions should come to."""

    def __init__(self) -> None:
        self.run = open_run(*NODES)
        self.end: RunEnded | None = None
        #: By node that is up: the values in its store, and what it has been sent and has yet to answer.
        self.stores: dict[str, dict[ValueKey, bytes]] = {name: {} for name in NODES}
        self.sent: dict[str, list[Job]] = {name: [] for name in NODES}
        self.fetches: dict[int, FetchResult] = {}
        #: By id, which is its number: what the function should return, and whether that is stored where it is made.
        self.values: list[bytes] = []
        self.is_stored: list[bool] = []
        #: Functions with handles.
        self.held: list[int] = []
        self.cancelled: set[int] = set()
        self.failed: set[int] = set()

    def tell(self, event: object) -> None:
        effects = self.run.handle(event, 1.0)  # type: ignore[arg-type]
        self.run.check()
        self._carry_out(effects)
        while (wake_at := self.run.wake_at) is not None and wake_at <= 1.0:
            self._carry_out(self.run.wake(1.0))

    def _carry_out(self, effects: Iterable[RunEffect]) -> None:
        for effect in effects:
            match effect:
                case SendToNode(name, message) if name in self.sent:
                    self._receive(name, message)
                case FetchResult(index):
                    self.fetches[index] = effect
                case FunctionsForgotten(indices):
                    self.fetches = {
                        index: each for index, each in self.fetches.items() if index not in indices
                    }
                case FunctionsEnded(indices):
                    for index in indices:
                        self._look_at_end(index)
                case RunEnded():
                    self.end = effect
                case _:
                    pass

    def _receive(self, name: str, message: object) -> None:
        match message:
            case Assign(jobs=jobs):
                self.sent[name] += jobs
            case Drop(values=values):
                for key in values:
                    store = self.stores[name]
                    # Earlier values of the index go, too.
                    for each in [each for each in store if each.index == key.index]:
                        if each.version <= key.version:
                            del store[each]
            case _:
                # Whatever else it says, a node may answer as if it came too late.
                pass

    def _look_at_end(self, index: int) -> None:
        state, function_id = self.run.state, self.run.view.plan.ids[index]
        assert isinstance(function_id, int)
        if state.phase[index] == DONE:
            assert state.inline.get(index, self.values[function_id]) == self.values[function_id]
            return
        failure = state.failures.get(state.failed_behind.get(index, index))
        match failure and failure.error:
            case FunctionCancelled(function_id=cause):
                assert cause in self.cancelled
            case FunctionFailed(function_id=cause):
                assert cause in self.failed
            case error:
                assert isinstance(error, NodeLost), f"{function_id} failed for no reason: {error!r}"

    # --- What the app does --------------------------------------------------------------------------------------

    def call(self, first: int, second: int, *, is_stored: bool) -> None:
        number, taken = len(self.values), []
        if self.held and first:
            taken = list(dict.fromkeys(self.held[each % len(self.held)] for each in (first, second)))
        self.values.append(b"%d(%s)" % (number, b",".join(self.values[each] for each in taken)))
        self.is_stored.append(is_stored)
        self.held.append(number)
        self.tell(Grow(part_of(call(number, *taken), outer=taken), [0]))

    def cancel(self, number: int) -> None:
        if self.held:
            function_id = self.held[number % len(self.held)]
            self.cancelled.add(function_id)
            self.tell(CancelFunctions([function_id]))

    def let_go(self, number: int) -> None:
        if self.held:
            self.tell(LetGo([self.held.pop(number % len(self.held))]))

    def want(self, number: int) -> None:
        if self.held:
            self.tell(WantResults([self.held[number % len(self.held)]]))

    def fetch(self, number: int) -> None:
        if not self.fetches:
            return
        index = [*self.fetches][number % len(self.fetches)]
        effect = self.fetches.pop(index)
        version = self.run.state.version_of(index)
        found = [
            value
            for name in effect.holders
            if (value := self.stores.get(name, {}).get(ValueKey(index, version))) is not None
        ]
        function_id = self.run.view.plan.ids[index]
        assert isinstance(function_id, int)
        assert set(found) <= {self.values[function_id]}
        self.tell(ResultFetched(index) if found else ResultFetchFailed(index, "it was lost"))

    # --- What nodes do ------------------------------------------------------------------------------------------

    def _next_job(self, number: int) -> tuple[str, Job] | None:
        jobs = [(name, job) for name, sent in self.sent.items() for job in sent]
        if not jobs:
            return None
        name, job = jobs[number % len(jobs)]
        self.sent[name].remove(job)
        return name, job

    def complete(self, number: int) -> None:
        found = self._next_job(number)
        if found is None:
            return
        name, job = found
        args = [self._value_of(arg) if isinstance(arg, Ref) else arg for arg in job.args]
        lost = [arg.index for arg in job.args if isinstance(arg, Ref) and self._value_of(arg) is None]
        if lost:
            self.tell(failed(name, job.index, "input", attempt=job.attempt, lost=lost[0]))
            return
        state, function_id = self.run.state, self.run.view.plan.ids[job.index]
        if not state.is_sent(job.index, job.attempt, name):
            value, is_stored = b"of a stale attempt", True
        else:
            assert isinstance(function_id, int)
            value, is_stored = self.values[function_id], self.is_stored[function_id]
            assert value == b"%d(%s)" % (
                function_id,
                b",".join(arg for arg in args if isinstance(arg, bytes)),
            )
        if is_stored:
            self.stores[name][ValueKey(job.index, job.attempt)] = value
        entry = done(job.index, attempt=job.attempt, value=STORED_NBYTES if is_stored else value)
        self.tell(completed(name, entry))

    def _value_of(self, ref: Ref) -> bytes | None:
        key = ValueKey(ref.index, ref.version)
        names = [name for name in self.stores if f"address of {name}" in ref.holders]
        return next((self.stores[name][key] for name in names if key in self.stores[name]), None)

    def fail(self, number: int, kind: FailureKind = "exception") -> None:
        found = self._next_job(number)
        if found is not None:
            name, job = found
            function_id = self.run.view.plan.ids[job.index]
            assert isinstance(function_id, int)
            self.failed.add(function_id)
            self.tell(failed(name, job.index, kind, attempt=job.attempt))

    def lose(self, number: int) -> None:
        name = NODES[number % len(NODES)]
        if name in self.sent:
            del self.sent[name], self.stores[name]
            self.tell(NodeDown(name, "gone"))

    def come_back(self, number: int) -> None:
        name = NODES[number % len(NODES)]
        if name not in self.sent:
            self.sent[name], self.stores[name] = [], {}
            self.tell(node_up(name, workers=4, capabilities={"cpu": 4.0}))

    # --- The end ------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        for number in range(len(NODES)):
            self.come_back(number)
        while self.run.state.remaining or self.fetches:
            assert self.fetches or any(self.sent.values()), "nothing goes on"
            self.complete(0)
            self.fetch(0)
        while self.held:
            self.let_go(0)

    def check_that_nothing_is_left(self) -> None:
        run = self.run
        retention = run._growth._books.retention
        assert set(run.state.phase) <= {FREE}
        assert not run.view.plan.index_of
        for facts in (
            retention.held,
            retention._takers,
            retention._over,
            retention._keeps,
            retention._lineage,
        ):
            assert not facts
        state = run.state
        for known in (
            state.inline,
            state.stored,
            state.failures,
            state.failed_behind,
            state.skipped,
            state.cut,
        ):
            assert not known
        assert not state.cancelled
        assert not state.requeued
        assert not any(self.stores.values())
        assert len(run.feasibility._demands) <= 1
        assert all(part == b"" for part in run._program.constants)


numbers = st.integers(0, 5)
actions = st.one_of(
    st.tuples(st.just("call"), numbers, numbers, st.booleans()),
    st.tuples(st.sampled_from(["complete", "complete", "fetch", "let_go", "want"]), numbers),
    st.tuples(st.sampled_from(["cancel", "fail", "lose", "come_back"]), numbers),
)


@example(
    # A node says that it lacks a value which has been made again, and by that node, since it was asked for it.
    [
        ("call", 0, 0, True),
        ("call", 1, 0, False),
        ("call", 2, 0, False),
        ("complete", 0),
        ("lose", 0),
        ("complete", 1),
    ]
)
@settings(max_examples=150, deadline=None)
@given(st.lists(actions, max_size=40))
def test_any_life_of_an_open_run_ends_with_the_right_values_and_nothing_left(
    steps: list[tuple[str, int] | tuple[str, int, int, bool]],
) -> None:
    world = GrowingWorld()
    for name, number, *rest in steps:
        if name == "call":
            world.call(number, int(rest[0]), is_stored=bool(rest[1]))
        else:
            getattr(world, name)(number)

    world.finish()
    world.check_that_nothing_is_left()
    world.tell(EndGrowth())
    assert world.end == RunEnded(None)
