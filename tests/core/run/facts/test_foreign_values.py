"""Values of other runs that functions of a run take."""

from collections.abc import Sequence

from msgspec import Struct

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.endings.retries import MAX_LOSSES, UNREACHABLE_PAUSES_S
from handoff_actors.core.run.events import LetGo
from handoff_actors.core.run.facts.foreign_values import ForeignValue
from handoff_actors.core.run.grow import Grow
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.errors import NodeLost, ValueLost
from handoff_actors.graph import Constant, Function, Plan
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import Ref, ValueOf
from tests.core.builders import (
    RUN,
    assigned,
    code,
    completed,
    done,
    error_of,
    failed,
    job_in,
    node_up,
    options,
    program_of,
)

EARLIER = RunId(3)
FOREIGN = Index(1000)
NBYTES = 500_000_000


class Source(Struct):
    """A value of another run that some nodes have."""

    names: list[str]

    def holders(self) -> Sequence[str]:
        return self.names

    def ref(self) -> Ref:
        return Ref(4, NBYTES, [f"address of {name}" if name else "" for name in self.names], 2)


def run_with(
    source: Source, *functions: Function, users: Sequence[int] = (0,), **changes: object
) -> RunMachine:
    """A run with a value of another run among its constants."""
    program = program_of(*functions)
    value = ForeignValue(
        FOREIGN, EARLIER, source, [Index(user) for user in users], "made", "the value of 'made'"
    )
    program.foreign.add(value)
    program.values[0] = value.ref()
    return RunMachine(RUN, program, options(**changes))


def taker(name: str = "f", **options: object) -> Function:
    return Function(name, [Constant("foreign")], code, **options)  # type: ignore[arg-type]


def test_a_function_is_sent_where_the_value_is_with_its_name_in_its_own_run() -> None:
    run = run_with(Source(["b"]), taker())

    [sent] = run.start(0.0, [node_up("a"), node_up("b")])

    assert assigned([sent]) == [("b", [0])]
    assert job_in(sent).args == [Ref(1000, NBYTES, ["address of b"], 0, ValueOf(EARLIER, Index(4), 2))]
    assert run.state.moved == {}


def test_a_function_is_told_of_the_holders_that_there_are_when_it_is_sent() -> None:
    source = Source(["gone"])
    run = run_with(source, taker())
    source.names = ["a", ""]

    [sent] = run.start(0.0, [node_up("a")])

    [ref] = job_in(sent).args
    assert isinstance(ref, Ref)
    assert ref.holders == ["address of a", ""]


def test_a_node_that_has_fetched_the_value_counts_as_a_holder() -> None:
    run = run_with(Source(["b"]), taker(node="a"), taker("g"), users=(0, 1))
    run.start(0.0, [node_up("a"), node_up("b")])
    assert run.state.moved == {0: NBYTES}

    run.handle(completed("a", done(0)), 0.1)

    assert run.scheduler.locality.held(Index(1)) == {"a": NBYTES, "b": NBYTES}
    assert run.scheduler.locality.held(Index(0)) == {"a": NBYTES, "b": NBYTES}


def test_other_constants_are_as_they_were() -> None:
    run = run_with(Source(["b"]), taker(), Function("g", [Constant("plain")], code))

    effects = run.start(0.0, [node_up("a")])

    [sent] = effects
    jobs = {job.index: job.args for job in sent.message.jobs}  # type: ignore[union-attr]
    assert jobs[1] == [b"'plain'"]
    run.check()


def test_a_value_that_no_node_has_any_more_ends_the_run_with_its_name() -> None:
    run = run_with(Source([]), taker())
    run.start(0.0, [node_up("a")])

    run.handle(failed("a", 0, "input", lost=FOREIGN), 0.1)

    error = error_of(run)
    assert isinstance(error, ValueLost)
    assert error.function_id == "made"
    assert "function 'f' needs it" in str(error)


def test_a_value_that_a_node_may_still_have_is_asked_for_again_within_bounds() -> None:
    run = run_with(Source(["a"]), taker(), on_failure="continue")
    run.start(0.0, [node_up("a")])

    for attempt in range(1, MAX_LOSSES + 1):
        run.handle(failed("a", 0, "input", attempt=attempt, lost=FOREIGN), attempt / 10)

    assert run.state.attempt[0] == MAX_LOSSES
    assert isinstance(run.view.failures[Index(0)].error, ValueLost)


def test_a_value_out_of_reach_is_tried_again_and_then_named() -> None:
    run = run_with(Source(["b"]), taker(node="a"))
    run.start(0.0, [node_up("a"), node_up("b")])

    now = 0.0
    for attempt in range(1, len(UNREACHABLE_PAUSES_S) + 2):
        run.handle(failed("a", 0, "unreachable", attempt=attempt, lost=FOREIGN), now)
        now += max(UNREACHABLE_PAUSES_S)
        run.wake(now)

    run.handle(NodeDown("b", "gone"), now)
    error = error_of(run)
    assert isinstance(error, NodeLost)
    assert "its input 'made' is on node 'b'" in str(error)


def test_values_are_dropped_together() -> None:
    run = run_with(Source(["b"]), taker())

    run.state.foreign.clear()

    assert len(run.state.foreign) == 0
    assert repr(run.state.foreign) == "ForeignValues([])"
    assert run.state.foreign.get(FOREIGN) is None
    assert run.state.foreign.current(Ref(FOREIGN, 1, [])) == Ref(FOREIGN, 1, [])


def test_a_run_refers_to_its_own_stored_values_for_others() -> None:
    run = run_with(Source(["a"]), taker())
    run.start(0.0, [node_up("a")])
    assert run.view.ref(Index(0)) == Ref(0, 0, [])

    run.handle(completed("a", done(0, value=100)), 0.1)

    assert run.view.ref(Index(0)) == Ref(0, 100, ["address of a"])


def test_values_come_and_go_with_the_functions_that_were_added_with_them() -> None:
    run = RunMachine(
        RUN,
        Program(Plan.empty("run"), [], [], []),
        options(is_open=True, on_failure="continue", max_retries=0),
    )
    run.start(0.0, [node_up("a")])
    run.handle(Grow(program_of(Function("before", [], code)), [0]), 1.0)
    part = program_of(taker())
    part.foreign.add(ForeignValue(FOREIGN, EARLIER, Source(["a"]), [Index(0)], "made", "the value of 'made'"))
    part.values[0] = Ref(FOREIGN, NBYTES, [])

    [sent] = run.handle(Grow(part, [0]), 1.1)

    assert job_in(sent).args == [Ref(1000, NBYTES, ["address of a"], 0, ValueOf(EARLIER, Index(4), 2))]
    assert run.scheduler.locality.held(Index(1)) == {"a": NBYTES}
    run.handle(completed("a", done(1)), 1.2)
    run.handle(LetGo(["f"]), 1.3)
    run.wake(60.0)
    assert len(run.state.foreign) == 0
    assert run.scheduler.locality.held(Index(1)) == {}
    run.check()


def test_function_that_gets_the_index_of_another_takes_its_own_values_alone() -> None:
    run = RunMachine(
        RUN,
        Program(Plan.empty("run"), [], [], []),
        options(is_open=True, on_failure="continue", max_retries=0),
    )
    run.start(0.0, [node_up("a", workers=4)])
    run.handle(Grow(_part("first", "beside", value=FOREIGN), [0, 1]), 1.0)
    run.handle(completed("a", done(0)), 1.1)
    run.handle(LetGo(["first"]), 1.2)

    run.handle(Grow(_part("second", value=Index(FOREIGN + 1)), [0]), 1.3)

    assert run.view.plan.ids == ["second", "beside"]
    assert run.scheduler.locality.held(Index(0)) == {"a": NBYTES}
    run.handle(completed("a", done(1)), 1.4)
    run.handle(LetGo(["beside"]), 1.5)
    assert [value.index for value in run.state.foreign] == [FOREIGN + 1]
    assert run.scheduler.locality.held(Index(0)) == {"a": NBYTES}


def _part(*ids: str, value: Index) -> Program:
    """Functions of which the first one takes a value of another run."""
    part = program_of(
        Function(ids[0], [Constant(None)], code), *(Function(each, [], code) for each in ids[1:])
    )
    part.foreign.add(ForeignValue(value, EARLIER, Source(["a"]), [Index(0)], "made", "the value of 'made'"))
    part.values[0] = Ref(value, NBYTES, [])
    return part
