"""Runs to which functions are added while they go on."""

from collections.abc import Iterable, Sequence

import pytest
from msgspec.structs import replace

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import (
    CancelFunctions,
    EndGrowth,
    FetchResult,
    FunctionsEnded,
    FunctionsForgotten,
    LetGo,
    RecordResults,
    RelayBegun,
    ResultFetched,
    ResultFetchFailed,
    RunEffect,
    RunEnded,
    SendToNode,
    WantResults,
)
from handoff_actors.core.run.facts.phases import DONE, FREE, READY, SENT
from handoff_actors.core.run.grow import Grow
from handoff_actors.core.run.growing import retention
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.errors import (
    FunctionCancelled,
    HandoffError,
    SerializationError,
    ValueLost,
)
from handoff_actors.graph import DAG, Argument, Function, Plan
from handoff_actors.graph.argument import Constant
from handoff_actors.ids import FunctionId, Index
from handoff_actors.wire.messages.jobs import (
    OwnModules,
    Ref,
    Template,
    TemplateEnvironment,
    Ticket,
    ValueKey,
)
from handoff_actors.wire.messages.runs import CancelJobs, Copy, Drop
from tests.core.builders import (
    RUN,
    assigned,
    code,
    completed,
    done,
    ends,
    failed,
    hook,
    job_in,
    node_up,
    options,
    recalled,
)

#: The index of a value that the app has.
APP_VALUE = 1 << 40


def open_run(*names: str, **changes: object) -> RunMachine:
    program = Program(Plan.empty("run"), [], [], [])
    run = RunMachine(
        RUN, program, options(is_open=True, **{"on_failure": "continue", "max_retries": 0} | changes)
    )
    run.start(0.0, [node_up(name, workers=4, capabilities={"cpu": 4.0}) for name in names or ("a",)])
    return run


def part_of(*functions: Function, outer: Iterable[FunctionId] = (), digest: bytes = b"") -> Program:
    dag = DAG("part").add_functions(functions)
    plan = Plan.of(dag.functions, "part", outer)
    templates = [
        Template(
            number,
            digest,
            True,
            b"code",
            spec.is_async,
            spec.as_list,
            spec.cost,
            spec.timeout,
            run_if=spec.run_if,
            conditions=spec.conditions,
        )
        for number, spec in enumerate(plan.templates)
    ]
    values = [repr(value).encode() for value in plan.values]
    return Program(plan, templates, [repr(each).encode() for each in plan.constants], [*values])


def grow(
    run: RunMachine,
    *functions: Function,
    outer: Iterable[FunctionId] = (),
    held: Sequence[int] | None = None,
    now: float = 1.0,
    **changes: object,
) -> list[RunEffect]:
    part = part_of(*functions, outer=outer)
    kept = range(len(functions)) if held is None else held
    effects = run.handle(Grow(part, kept, **changes), now)  # type: ignore[arg-type]
    run.check()
    return effects


def call(function_id: FunctionId, *args: FunctionId, **options: object) -> Function:
    return Function(function_id, args, code, **options)  # type: ignore[arg-type]


def then(run: RunMachine, event: object, now: float = 2.0) -> list[RunEffect]:
    effects = run.handle(event, now)  # type: ignore[arg-type]
    run.check()
    return effects


def drops(effects: Iterable[RunEffect]) -> dict[str, list[ValueKey]]:
    return {
        effect.name: effect.message.values
        for effect in effects
        if isinstance(effect, SendToNode) and isinstance(effect.message, Drop)
    }


def forgotten(effects: Iterable[RunEffect]) -> list[Index]:
    return [index for effect in effects if isinstance(effect, FunctionsForgotten) for index in effect.indices]


def ended(effects: Iterable[RunEffect]) -> list[Index]:
    return [index for effect in effects if isinstance(effect, FunctionsEnded) for index in effect.indices]


def test_a_run_that_is_open_waits_for_functions_and_ends_once_nothing_more_comes() -> None:
    run = open_run()

    assert assigned(grow(run, call("x"))) == [("a", [0])]
    effects = then(run, completed("a", done(0)))
    assert ended(effects) == [0]
    assert ends(effects) == []
    assert ends(then(run, EndGrowth())) == [RunEnded(None)]


def test_a_function_takes_results_of_functions_that_are_done_and_of_such_that_are_not() -> None:
    run = open_run()
    grow(run, call("x"), call("y"))
    then(run, completed("a", done(0, value=b"of x")))

    effects = grow(run, call("z", "x", "y"), outer=["x", "y"])
    assert assigned(effects) == []
    effects = then(run, completed("a", done(1, value=b"of y")))

    assert job_in(effects[-1]).args == [b"of x", b"of y"]


def test_what_nobody_holds_and_nothing_takes_is_forgotten_and_its_index_is_used_again() -> None:
    run = open_run()
    grow(run, call("x"))
    then(run, completed("a", done(0)))

    assert forgotten(then(run, LetGo(["x"]))) == [0]
    assert run.state.phase[0] == FREE
    (effect,) = grow(run, call("y"))

    assert (job_in(effect).index, job_in(effect).attempt) == (0, 2)
    assert (run.view.tries(0), run.view.tries_by(0, 2)) == (1, 1)
    assert job_in(effect).earlier == 1
    # What is said of the function before is stale.
    then(run, completed("a", done(0, attempt=1)))
    assert run.state.remaining == 1
    then(run, completed("a", done(0, attempt=2)))
    assert run.state.phase[0] == DONE


def test_what_is_let_go_of_with_the_next_call_is_forgotten_unless_that_takes_it() -> None:
    run = open_run()
    grow(run, call("x"), call("y"))
    then(run, completed("a", done(0), done(1)))

    effects = grow(run, call("z", "x"), outer=["x"], let_go=["x", "y"])

    assert forgotten(effects) == [1]
    assert job_in(next(each for each in effects if isinstance(each, SendToNode))).index == 2


def test_a_function_that_is_let_go_before_it_ends_is_forgotten_when_it_does() -> None:
    run = open_run()
    grow(run, call("x"))

    assert forgotten(then(run, LetGo(["x", "unknown"]))) == []
    effects = then(run, completed("a", done(0)))

    assert (ended(effects), forgotten(effects)) == ([], [0])


def test_a_stored_value_is_dropped_wherever_it_may_be() -> None:
    run = open_run("a", "b")
    grow(run, call("x", node="a"))
    then(run, completed("a", done(0, value=10**6)))
    grow(run, call("y", "x", node="b"), outer=["x"], held=[])

    effects = then(run, completed("b", done(1)))
    assert drops(effects) == {}
    effects = then(run, LetGo(["x"]))

    assert drops(effects) == {"a": [ValueKey(0, 1)], "b": [ValueKey(0, 1)]}
    assert forgotten(effects) == [0]


def test_a_value_that_is_reported_twice_stays() -> None:
    run = open_run()
    grow(run, call("x"))
    then(run, completed("a", done(0, value=10**6)))

    assert drops(then(run, completed("a", done(0, value=10**6)))) == {}


def test_references_name_the_attempt_that_has_made_the_value() -> None:
    run = open_run()
    grow(run, call("x"))
    then(run, completed("a", done(0, value=10**6)))

    (effect,) = grow(run, call("y", "x"), outer=["x"])

    assert job_in(effect).args == [Ref(0, 10**6, ["address of a"], 1)]


def test_a_function_stays_as_long_as_a_stored_value_may_have_to_be_made_again_from_it() -> None:
    run = open_run()
    grow(run, call("x"))
    then(run, completed("a", done(0, value=10**6)))
    grow(run, call("y", "x"), outer=["x"])
    then(run, LetGo(["x"]))

    effects = then(run, completed("a", done(1, value=10**6)))
    # Its value is of no use, until that of y is lost.
    assert drops(effects) == {"a": [ValueKey(0, 1)]}
    assert FunctionsForgotten([], [], [0]) in effects
    assert forgotten(effects) == []
    assert sorted(forgotten(then(run, LetGo(["y"])))) == [0, 1]


def test_a_value_that_is_lost_is_made_again_from_what_had_been_dropped() -> None:
    run = open_run("a", "b")
    grow(run, call("x", node="a"))
    then(run, completed("a", done(0, value=10**6)))
    grow(run, call("y", "x", node="b"), outer=["x"])
    then(run, LetGo(["x"]))
    then(run, completed("b", done(1, value=10**6)))

    then(run, NodeDown("b", "gone"))
    run.handle(node_up("b", workers=4), 2.0)
    effects = grow(run, call("z", "y"), outer=["y"])
    assert assigned(effects) == [("a", [0])]
    effects = then(run, completed("a", done(0, attempt=2, value=10**6)))
    assert assigned(effects) == [("b", [1])]
    effects = then(run, completed("b", done(1, attempt=2, value=b"small")))

    # What came inline can't be lost.
    assert forgotten(effects) == [0]
    assert len(assigned(effects)) == 1


def test_lineage_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_LINEAGE", 3)
    run = open_run("a", "b")
    grow(run, call(0))
    for step in range(1, 10):
        index = run.state.phase.index(2) if 2 in run.state.phase else 0
        attempt = run.state.attempt[index]
        then(run, completed(run.state.node[index] or "", done(index, attempt=attempt, value=10**6)))
        grow(run, call(step, step - 1), outer=[step - 1])
        then(run, LetGo([step - 1]))

    assert len(run.state.phase) - run.state.phase.count(FREE) <= 6
    index = run.state.phase.index(2)
    name = run.state.node[index] or ""
    then(run, completed(name, done(index, attempt=run.state.attempt[index], value=10**6)))
    # One after the other is lost, up to the cut.
    then(run, WantResults([9]))
    then(run, NodeDown(name, "gone"))
    for _ in range(10):
        sent = [index for index, phase in enumerate(run.state.phase) if phase == 2]
        for index in sent:
            node = run.state.node[index] or ""
            then(run, completed(node, done(index, attempt=run.state.attempt[index], value=10**6)))
    (failure,) = run.state.failures.values()
    assert isinstance(failure.error, ValueLost)


def test_inline_values_that_are_kept_for_lineage_have_a_bound_in_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "MOST_LINEAGE_NBYTES", 10)
    run = open_run()
    grow(run, call("x"), call("y", "x"))
    then(run, completed("a", done(0, value=b"eleven bytes")))
    then(run, LetGo(["x"]))

    assert forgotten(then(run, completed("a", done(1, value=10**6)))) == [0]


def test_functions_that_depend_on_one_that_has_failed_fail_when_they_are_added() -> None:
    run = open_run()
    grow(run, call("x"))
    then(run, failed("a", 0))

    effects = grow(run, call("y", "x"), outer=["x"])

    assert ended(effects) == [1]
    assert run.state.failed_behind == {1: 0}
    # The reason stays as long as anybody may ask for it.
    assert forgotten(then(run, LetGo(["x"]))) == []
    assert sorted(forgotten(then(run, LetGo(["y"])))) == [0, 1]


def test_a_value_is_fetched_when_it_is_wanted_and_again_when_it_is_lost() -> None:
    run = open_run("a", "b")
    grow(run, call("x"), call("y"))
    then(run, WantResults(["x", "unknown"]))
    effects = then(run, completed("a", done(0, value=10**6)))
    assert FetchResult(0, 10**6, ("a",)) in effects
    effects = then(run, ResultFetchFailed(0, "not there"))
    (sent,) = assigned(effects)
    effects = then(run, completed(sent[0], done(0, attempt=2, value=10**6)))
    assert FetchResult(0, 10**6, (sent[0],)) in effects
    then(run, ResultFetched(0))
    assert then(run, WantResults(["x"])) == []


def test_a_value_that_is_wanted_after_it_was_lost_is_made_again() -> None:
    run = open_run("a", "b")
    grow(run, call("x", node="a"))
    then(run, completed("a", done(0, value=10**6)))
    then(run, NodeDown("a", "gone"))
    run.handle(node_up("a"), 2.0)

    assert assigned(then(run, WantResults(["x"]))) == [("a", [0])]


def test_a_value_that_is_there_is_fetched_at_once() -> None:
    run = open_run()
    grow(run, call("x"))
    then(run, completed("a", done(0, value=10**6)))

    assert FetchResult(0, 10**6, ("a",)) in then(run, WantResults(["x"]))


def test_functions_are_cancelled_wherever_they_are() -> None:
    run = open_run(max_retries=1, backoff=(10.0, 1.0, 10.0))
    grow(run, call("sent"), call("behind", "sent"), call("resting"), call("waiting", "behind"))
    then(run, failed("a", 2))
    effects = then(run, CancelFunctions(["sent", "resting", "waiting", "unknown"]))

    assert sorted(ended(effects)) == [2, 3]
    (message,) = [effect.message for effect in effects if isinstance(effect, SendToNode)]
    assert message == CancelJobs(RUN, [Ticket(0, 1)])
    assert then(run, CancelFunctions(["sent", "resting"])) == []
    effects = then(run, failed("a", 0, "cancelled"))

    assert sorted(ended(effects)) == [0, 1]
    assert {type(each.error) for each in run.state.failures.values()} == {FunctionCancelled}
    assert run.wake_at is None


@pytest.mark.parametrize("answer", [completed("a", done(0)), recalled("a", 0), NodeDown("a", "gone")])
def test_a_function_that_is_cancelled_ends_so_whatever_its_node_says(answer: object) -> None:
    run = open_run()
    grow(run, call("x"))
    then(run, CancelFunctions(["x"]))

    effects = then(run, answer)

    assert ended(effects) == [0]
    assert isinstance(run.state.failures[0].error, FunctionCancelled)


def test_a_function_that_waits_for_room_leaves_the_queue_when_it_is_cancelled() -> None:
    run = open_run()
    grow(run, *(call(number, cost={"cpu": 4}) for number in range(5)))
    assert [run.state.phase[index] for index in range(5)] == [SENT, SENT, READY, READY, READY]
    then(run, CancelFunctions([2, 3]))
    then(run, LetGo([2, 3]))
    grow(run, call("x", cost={"gpu": 1}), call("y", cost={"cpu": 4}))
    effects = then(run, completed("a", done(0), done(1)))

    assert [run.view.plan.ids[index] for _, indices in assigned(effects) for index in indices] == [4, "y"]


def test_functions_that_can_not_be_sent_end_with_their_error() -> None:
    run = open_run()
    error = SerializationError("why", "x")

    effects = grow(run, call("x"), call("y"), refused={0: error})

    assert ended(effects) == [0]
    assert run.state.failures[0].error is error
    assert assigned(effects) == [("a", [1])]


def test_a_run_that_stops_at_a_failure_takes_nothing_more() -> None:
    run = open_run(on_failure="stop")
    grow(run, call("x"))
    then(run, failed("a", 0))

    assert grow(run, call("y")) == []


def test_templates_are_sent_once_and_constants_go_with_their_functions() -> None:
    run = open_run()
    for number in range(5):
        (effect,) = grow(run, Function(number, [Constant(number)], code, extra_args=(number,)))
        assert isinstance(effect, SendToNode)
        assert len(effect.message.templates) == (number == 0)  # type: ignore[union-attr]
        job = job_in(effect)
        assert (job.args, job.constants) == ([b"%d" % number], b"((%d,), {})" % number)
        then(run, completed("a", done(job.index, attempt=job.attempt)))
        then(run, LetGo([number]))

    assert len(run.view.plan.ids) == 1


def test_templates_that_no_function_has_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_actors.core.run.growing.growing_program.MOST_IDLE_TEMPLATES", 1)
    run = open_run()
    told: list[Drop] = []
    for number in range(4):
        part = part_of(call(number), digest=b"%d" % number)
        (effect,) = then(run, Grow(part, [0]))
        job = job_in(effect)
        then(run, completed("a", done(job.index, attempt=job.attempt)))
        effects = then(run, LetGo([number]))
        told += [
            effect.message
            for effect in effects
            if isinstance(effect, SendToNode) and isinstance(effect.message, Drop)
        ]

    assert told == [Drop(RUN, [], [number]) for number in (0, 1, 2)]


def test_values_of_the_app_are_dropped_with_the_functions_that_took_them() -> None:
    run = open_run()
    grow(run, call("x"), app_values=[10**9])
    then(run, completed("a", done(0)))

    effects = then(run, LetGo(["x"]))

    assert drops(effects) == {"a": [ValueKey(10**9, 0)]}
    assert FunctionsForgotten([0], [10**9], []) in effects


def run_and_forget(run: RunMachine, part: Program, app_values: Sequence[Index] = ()) -> Drop | None:
    """Add a function, have it run, and let go of it. Returns what its node is told then."""
    (effect,) = [each for each in then(run, Grow(part, [0], app_values)) if assigned([each])]
    job = job_in(effect)
    then(run, completed("a", done(job.index, attempt=job.attempt)))
    told = [each.message for each in then(run, LetGo([part.plan.ids[0]])) if isinstance(each, SendToNode)]
    assert len(told) <= 1
    return told[0] if told else None  # type: ignore[return-value]


def within(part: Program, **changes: object) -> Program:
    return replace(part, templates=[replace(template, **changes) for template in part.templates])


def modules(index: Index, key: bytes = b"key") -> OwnModules:
    return OwnModules(key, {}, Ref(index, 0, [""]))


def test_definitions_of_modules_stay_in_the_app_as_long_as_a_template_refers_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("handoff_actors.core.run.growing.growing_program.MOST_IDLE_TEMPLATES", 1)
    run = open_run()
    first, again, other = APP_VALUE, APP_VALUE + 1, APP_VALUE + 2

    told = run_and_forget(run, within(part_of(call("x")), modules=modules(first)), [first])
    assert told is None
    # The run has the template already, with the definitions that came first.
    told = run_and_forget(run, within(part_of(call("y")), modules=modules(again)), [again])
    assert told == Drop(RUN, [ValueKey(again, 0)], [])
    # The template goes, and another one of the same modules stays.
    told = run_and_forget(run, within(part_of(call("z", timeout=1.0)), modules=modules(first)))
    assert told == Drop(RUN, [], [0])
    told = run_and_forget(run, within(part_of(call("x")), modules=modules(other, b"2")), [other])
    assert told == Drop(RUN, [ValueKey(first, 0)], [1])


def test_directory_stays_in_the_app_as_long_as_functions_work_there() -> None:
    run = open_run()
    environment = TemplateEnvironment({}, b"/there", Ref(APP_VALUE, 0, [""]))

    told = run_and_forget(run, within(part_of(call("x")), environment=environment), [APP_VALUE])

    # Later functions get it anew, as it may have changed.
    assert told == Drop(RUN, [ValueKey(APP_VALUE, 0)], [0])


def test_what_is_to_be_recorded_is_forgotten_after_that() -> None:
    run = open_run(is_journaled=True)
    grow(run, call("x"), held=[])

    effects = then(run, completed("a", done(0)))
    assert RecordResults([0]) in effects
    assert forgotten(effects) == []
    assert run.wake_at == 2.0
    assert forgotten(run.wake(2.0)) == [0]


def test_serialize_hooks_and_inline_functions_and_groups_come_and_go() -> None:
    run = open_run("a", "b")
    grow(run, call("x"))
    then(run, completed("a", done(0, value=10**6)))
    effects = grow(
        run,
        Function("in", [], code, type="inline"),
        Function("y", [Argument("x", hook, hook), "in"], code, max_retries=2, retry_backoff=(1.0, 1.0, 1.0)),
        outer=["x"],
        held=[0],
    )
    assert run.view.plan.hooks
    for _ in range(3):
        for name, indices in assigned(effects):
            for index in indices:
                effects = then(run, completed(name, done(index, attempt=run.state.attempt[index])))
    assert run.state.remaining == 0
    then(run, LetGo(["x", "y"]))
    plan = run.view.plan
    assert (plan.hooks, plan.hook_of, plan.index_of, plan.max_retries) == ([], {}, {}, {})


def test_a_function_that_lost_an_input_while_it_was_ready_is_not_sent_for_another() -> None:
    run = open_run("a", "b")
    grow(run, call("x", node="b"))
    then(run, completed("b", done(0, value=10**6)))
    grow(run, *(call(number, cost={"cpu": 4}, node="a") for number in range(3)))
    grow(run, call("y", "x", cost={"cpu": 4}, node="a"), outer=["x"])
    then(run, NodeDown("b", "gone"))
    effects = run.handle(node_up("b"), 2.0)
    while run.state.remaining:
        (name, indices), *_ = assigned(effects) or [
            (run.state.node[index] or "", [index])
            for index, phase in enumerate(run.state.phase)
            if phase == 2
        ]
        index = indices[0]
        effects = then(run, completed(name, done(index, attempt=run.state.attempt[index])))
    then(run, LetGo(["x", "y", 0, 1, 2]))

    assert run.state.requeued == set()


def test_a_story_is_of_one_function_even_if_another_had_its_index() -> None:
    run = open_run(max_retries=1)
    grow(run, call("x"))
    then(run, failed("a", 0))
    then(run, completed("a", done(0, attempt=2)))
    then(run, LetGo(["x"]))
    grow(run, call("y"))

    story = run.view.story(0)
    assert {entry.function_id for entry in story} == {"y"}
    assert {entry.attempt for entry in story} == {1}
    assert {entry.function_id for entry in run.view.node_story("a")} >= {"x", "y"}


def test_functions_added_from_within_others_go_first() -> None:
    run = open_run()
    grow(run, *(call(number, cost={"cpu": 4}) for number in range(3)), call("last", 2))
    grow(run, call("deep", cost={"cpu": 4}), depth=1)

    effects = then(run, completed("a", done(0), done(1)))

    assert assigned(effects)[0][1][0] == 4


def test_an_outer_function_must_be_there() -> None:
    run = open_run()
    with pytest.raises(KeyError):
        run.handle(Grow(part_of(call("y", "x"), outer=["x"]), []), 1.0)


def test_a_run_that_began_with_a_graph_grows_too() -> None:
    plan = part_of(call("x"), call("y", "x"))
    run = RunMachine(RUN, plan, options())
    run.start(0.0, [node_up()])
    then(run, completed("a", done(0)))
    effects = then(run, Grow(part_of(call("z", "x"), outer=["x"]), []))
    assert len(assigned(effects)) == 1


def test_errors_of_dependents_name_what_was_cancelled() -> None:
    assert issubclass(FunctionCancelled, HandoffError)
    assert issubclass(ValueLost, HandoffError)
    assert FunctionCancelled("x").function_id == "x"
    assert "run.keep" in str(ValueLost("x"))


def test_values_of_a_run_that_grows_are_copied_off_a_node_that_leaves() -> None:
    run = open_run("a", "b")
    grow(run, call("x", node="a"))
    then(run, completed("a", done(0, value=10**6)))

    effects = then(run, node_up("a", workers=4, leaving=True))

    assert SendToNode("b", Copy(RUN, [Ref(0, 10**6, ["address of a"], 1)])) in effects


def test_value_that_comes_too_late_to_count_is_dropped() -> None:
    run = open_run()
    grow(run, call("x"))
    then(run, CancelFunctions(["x"]))

    effects = then(run, completed("a", done(0, value=10**6)))
    again = then(run, completed("a", done(0, value=10**6), done(5, value=b"small")))

    assert drops(effects) == drops(again) == {"a": [ValueKey(0, 1)]}


# --- Functions that are skipped, or run in any case -------------------------------------------------------------------


def test_function_is_skipped_by_what_was_there_before_and_is_forgotten_as_others_are() -> None:
    run = open_run()
    grow(run, call("no"))
    then(run, completed("a", done(0, value=b"\x80\x05\x89.")))

    effects = grow(run, call("x", when="no"), call("y", "x"), outer=["no"])
    gone = then(run, LetGo(["no", "x", "y"]))

    assert ended(effects) == [1, 2]
    assert assigned(effects) == []
    assert sorted(forgotten(gone)) == [0, 1, 2]
    assert run.state.skipped == set()
    assert run.view.counts().skipped == 2


def test_function_that_is_added_behind_a_failure_gets_its_error() -> None:
    run = open_run()
    grow(run, call("bad"))
    then(run, failed("a", 0))

    effects = grow(run, call("clean", "bad", run_if="always"), outer=["bad"])

    assert assigned(effects) == [("a", [1])]


def test_functions_that_are_added_to_a_run_that_cleans_up_are_cancelled() -> None:
    run = open_run(on_failure="stop")
    grow(run, call("bad"), call("clean", "bad", run_if="always"))
    then(run, failed("a", 0))

    effects = grow(run, call("late"))
    last = then(run, completed("a", done(1)))

    assert assigned(effects) == []
    assert [type(failure.error).__name__ for failure in run.view.failures.values()] == [
        "FunctionFailed",
        "FunctionCancelled",
    ]
    assert run._completion.outcome is not None
    assert last


def test_report_that_is_heard_twice_drops_no_value() -> None:
    run = open_run()
    grow(run, call("x"), call("y", "x"))
    then(run, completed("a", done(0, value=1_000_000)))

    effects = then(run, completed("a", done(0, value=1_000_000)))

    assert drops(effects) == {}


def test_relays_of_a_value_are_forgotten_with_it() -> None:
    run = open_run("a", "b")
    grow(run, call("x"))
    then(run, completed("a", done(0, value=100_000)))
    then(run, RelayBegun(0, "a", "b"))

    assert run.state._relays == {(0, "b")}
    assert forgotten(then(run, LetGo(["x"]))) == [0]
    assert run.state._relays == set()
