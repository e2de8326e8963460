"""Tests of the results that a run takes over from an earlier one, and of how it goes on from there."""

from hashlib import blake2b

import pytest
from hypothesis import given, settings, strategies as st

from handoff_actors.core.run.events import (
    FetchResult,
    FunctionObserved,
    RecordResults,
    ResultFetched,
    RunEffect,
    RunEnded,
)
from handoff_actors.core.run.facts.resumption import Digests, Recorded, ReusedResult, fingerprints, reusable
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.graph import DAG, Argument, Constant, Function, Plan
from handoff_actors.graph.argument import ItemsOf
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Ref
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
    program_of,
    run_of,
)


def other_code(*args: object) -> None: ...


def plan_of(*functions: Function) -> Plan:
    return Plan.compile(DAG().add_functions(functions))


def combine(*parts: bytes) -> bytes:
    return blake2b(repr(parts).encode()).digest()


def prints_of(plan: Plan) -> dict[object, bytes]:
    digests = Digests(
        [repr(function_id).encode() for function_id in plan.ids],
        [template.code.__name__.encode() for template in plan.templates],
        [repr(constant).encode() for constant in plan.constants],
        [repr(value).encode() for value in plan.values],
    )
    return dict(zip(plan.ids, fingerprints(plan, digests, combine), strict=True))


def changed_by(before: list[Function], after: list[Function]) -> set[object]:
    earlier, later = prints_of(plan_of(*before)), prints_of(plan_of(*after))
    return {function_id for function_id in later if earlier.get(function_id) != later[function_id]}


def records(size: int, *, without_value: tuple[Index, ...] = ()) -> dict[Index, Recorded]:
    return {index: Recorded(b"same", "a", 10, index not in without_value) for index in range(size)}


def chain(*ids: str) -> list[Function]:
    return [
        Function(function_id, [ids[place - 1]] if place else [], code)
        for place, function_id in enumerate(ids)
    ]


def records_in(effects: list[RunEffect]) -> list[list[Index]]:
    return [list(effect.indices) for effect in effects if isinstance(effect, RecordResults)]


# --- Fingerprints -----------------------------------------------------------------------------------------------


def test_what_does_not_decide_a_value_changes_no_fingerprint() -> None:
    before = [*chain("first", "second"), Function("alone", [], code)]
    after = [
        Function("alone", [], code, priority=3, max_retries=1),
        Function("first", [], code, cost={"cpu": 2}, node="n1"),
        Function("second", ["first"], code, timeout=3),
    ]

    assert changed_by(before, after) == set()


@pytest.mark.parametrize(
    "changed",
    [
        Function("second", ["first"], other_code),
        Function("second", ["first"], code, extra_args=[1]),
        Function("second", ["first"], code, kwargs={"rate": 1}),
        Function("second", ["first"], code, argument_inclusion="as_list"),
        Function("second", ["first", "first"], code),
        Function("second", ["first", Constant(1)], code),
        Function("second", [], code),
        Function("second", [Argument("first", deserialize=hook)], code),
        Function("second", [Argument("first", serialize=hook)], code),
        Function("second", ["first"], code, env_vars={"A": "1"}),
        Function("second", ["first"], code, working_dir="x"),
    ],
    ids=[
        "code",
        "extra_args",
        "kwargs",
        "as_list",
        "args",
        "constant",
        "no args",
        "deserialize",
        "serialize",
        "variables",
        "directory",
    ],
)
def test_a_changed_function_changes_its_own_fingerprint_and_those_of_all_that_follow(
    changed: Function,
) -> None:
    first, second, third = chain("first", "second", "third")

    found = changed_by([first, second, third], [first, changed, third])

    assert found & {"first", "second", "third"} == {"second", "third"}


def test_functions_that_differ_in_nothing_but_their_ids_differ() -> None:
    prints = prints_of(plan_of(Function("left", [], code), Function("right", [], code)))

    assert prints["left"] != prints["right"]


def test_a_changed_inline_function_or_constant_of_one_changes_its_consumers() -> None:
    def with_inline(inline_code: object, *extra: object) -> list[Function]:
        inline = Function("inline", ["first"], inline_code, type="inline", extra_args=extra)  # type: ignore[arg-type]
        return [Function("first", [], code), inline, Function("second", ["inline"], code)]

    assert changed_by(with_inline(code), with_inline(other_code)) == {"second"}
    assert changed_by(with_inline(code, 1), with_inline(code, 2)) == {"second"}


# --- What need not run ------------------------------------------------------------------------------------------


def test_what_is_recorded_with_its_fingerprint_need_not_run() -> None:
    plan = plan_of(*chain("first", "second", "third"))

    assert reusable(plan, [b"same"] * 3, records(3), {2}) == [0, 1, 2]
    assert reusable(plan, [b"same", b"same", b"new"], records(3), {2}) == [0, 1]
    assert reusable(plan, [b"same"] * 3, records(2), {2}) == [0, 1]


def test_a_value_that_is_nowhere_is_made_again_only_if_it_is_asked_for() -> None:
    plan = plan_of(*chain("first", "second", "third"))

    unasked = reusable(plan, [b"same"] * 3, records(3, without_value=(0, 1)), {2})
    wanted = reusable(plan, [b"same"] * 3, records(3, without_value=(0, 1)), {1, 2})
    needed = reusable(plan, [b"same", b"same", b"new"], records(3, without_value=(0, 1)), {2})
    needed_in_part = reusable(plan, [b"same", b"same", b"new"], records(3, without_value=(0,)), {2})

    assert unasked == [0, 1, 2]
    assert wanted == [2]
    assert needed == []
    assert needed_in_part == [0, 1]


def test_a_serialize_hook_runs_again_if_its_consumer_does() -> None:
    plan = plan_of(Function("first", [], code), Function("second", [Argument("first", serialize=hook)], code))

    assert reusable(plan, [b"same"] * 3, records(2), {1}) == [0, 1, 2]
    assert reusable(plan, [b"same", b"new", b"same"], records(2), {1}) == [0]
    assert reusable(plan, [b"same", b"new", b"same"], records(2, without_value=(0,)), {1}) == []


# --- A run that goes on -----------------------------------------------------------------------------------------


def test_a_run_whose_functions_are_all_reused_is_over_at_once() -> None:
    run = run_of(*chain("first", "second"), wanted={1}, observe=True)

    effects = run.start(0.0, [node_up()], {0: ReusedResult("b", 3), 1: ReusedResult("b", b"value")})

    assert [effect for effect in effects if isinstance(effect, FunctionObserved)] == [
        FunctionObserved("reused", 0, "b", 0),
        FunctionObserved("reused", 1, "b", 0),
    ]
    assert ends(effects) == [RunEnded(None)]
    assert assigned(effects) == []


def test_a_run_goes_on_from_what_is_reused() -> None:
    run = run_of(*chain("first", "second", "third"))

    effects = run.start(0.0, [node_up()], {0: ReusedResult("b", b"value")})
    run.check()

    assert assigned(effects) == [("a", [1])]
    assert job_in(effects[0]).args == [b"value"]
    assert run.state.is_reused(0)
    assert not run.state.is_reused(1)


def test_a_large_value_from_the_journal_is_the_apps_to_give() -> None:
    run = run_of(*chain("first", "second"), wanted={0})

    effects = run.start(0.0, [node_up()], {0: ReusedResult("b", 100, is_in_app=True)})

    assert job_in(effects[0]).args == [Ref(0, 100, [""])]
    assert not [effect for effect in effects if isinstance(effect, FetchResult)]
    assert ends(run.handle(completed("a", done(1)), 1.0)) == [RunEnded(None)]


def test_a_large_value_that_the_app_cannot_give_is_made_again() -> None:
    run = run_of(*chain("first", "second"))
    run.start(0.0, [node_up()], {0: ReusedResult("b", 100, is_in_app=True)})

    effects = run.handle(failed("a", 1, "input", lost=0), 1.0)
    run.check()

    assert assigned(effects) == [("a", [0])]


def test_what_was_reused_without_its_value_is_made_again_once_it_is_needed() -> None:
    run = run_of(*chain("first", "second", "third"))
    run.start(0.0, [node_up()], {0: ReusedResult("b", 100), 1: ReusedResult("b", 100, is_in_app=True)})

    effects = run.handle(failed("a", 2, "input", lost=1), 1.0)
    run.check()

    assert assigned(effects) == [("a", [0])]


# --- What is recorded -------------------------------------------------------------------------------------------


def test_functions_that_end_together_are_recorded_together() -> None:
    run = run_of(Function("one", [], code), Function("two", [], code), is_journaled=True)
    run.start(0.0, [node_up()])

    effects = run.handle(completed("a", done(0), done(1)), 1.0)

    assert records_in(effects) == [[0, 1]]


def test_nothing_is_recorded_where_nobody_wants_it() -> None:
    run = run_of(Function("one", [], code), wanted={0})
    run.start(0.0, [node_up()])

    effects = run.handle(completed("a", done(0, value=100)), 1.0) + run.handle(ResultFetched(0), 2.0)

    assert records_in(effects) == []


def test_a_stored_value_that_is_wanted_is_recorded_when_it_is_home_and_others_at_once() -> None:
    run = run_of(*chain("first", "second"), wanted={1}, is_journaled=True)
    run.start(0.0, [node_up()])

    first = run.handle(completed("a", done(0, value=100)), 1.0)
    second = run.handle(completed("a", done(1, value=100)), 2.0)
    in_app = run.handle(ResultFetched(1), 3.0)

    assert records_in(first) == [[0]]
    assert records_in(second) == []
    assert records_in(in_app) == [[1]]


def test_serialize_hooks_are_not_recorded() -> None:
    functions = [Function("first", [], code), Function("second", [Argument("first", serialize=hook)], code)]
    run = run_of(*functions, is_journaled=True)
    run.start(0.0, [node_up()])
    run.handle(completed("a", done(0)), 1.0)

    effects = run.handle(completed("a", done(2)), 2.0)

    assert assigned(effects) == [("a", [1])]
    assert records_in(effects) == []


# --- Whatever the graph -----------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> list[Function]:
    size = draw(st.integers(1, 12))
    functions = []
    for index in range(size):
        before = st.lists(st.integers(0, index - 1), max_size=3) if index else st.just([])
        args = [
            Argument(arg, serialize=hook) if draw(st.integers(0, 4)) == 0 else arg for arg in draw(before)
        ]
        functions.append(Function(index, args, code))
    return functions


def run_to_the_end(run: RunMachine, effects: list[RunEffect]) -> set[Index]:
    """Do what a run asks for; the answer is the functions that it had run."""
    ran: set[Index] = set()
    now = 1.0
    while not ends(effects):
        now += 1.0
        jobs = [index for _, indices in assigned(effects) for index in indices]
        assert jobs
        assert ran.isdisjoint(jobs)
        ran.update(jobs)
        effects = run.handle(completed("a", *map(done, jobs)), now)
        run.check()
    return ran


@settings(max_examples=150, deadline=None)
@given(graphs(), st.data())
def test_whatever_is_recorded_the_run_ends_having_run_the_rest(
    functions: list[Function], data: st.DataObject
) -> None:
    program = program_of(*functions)
    plan = program.plan
    kinds = [data.draw(st.sampled_from(["value", "remote", "none"])) for _ in functions]
    recorded = {
        index: Recorded(b"same", "b", 9, kind == "value")
        for index, kind in enumerate(kinds)
        if kind != "none"
    }
    taken = reusable(plan, [b"same"] * plan.size, recorded, set(plan.sinks))
    reused = {
        index: ReusedResult("b", 9, is_in_app=kinds[index] == "value")
        if index < len(kinds)
        else ReusedResult("", 0)
        for index in taken
    }
    run = RunMachine(RUN, program, options(wanted=set(plan.sinks)))

    effects = run.start(0.0, [node_up(capabilities={})], reused)
    run.check()
    ran = run_to_the_end(run, effects)

    assert ran == set(range(plan.size)) - set(taken)
    assert set(range(len(kinds))) - recorded.keys() <= ran


def test_what_a_function_runs_on_is_part_of_its_fingerprint() -> None:
    before = [Function("a", [], code), Function("x", ["a"], code), Function("y", ["a"], code)]

    assert changed_by(
        before, [before[0], Function("x", ["a"], code, run_if="always"), Function("y", [], code, when="a")]
    ) == {"x", "y"}


def test_a_function_that_takes_the_list_of_a_result_differs_from_one_that_takes_the_result() -> None:
    x = Function("x", [], code)
    whole = [x, Function("y", ["x"], code)]
    listed = [x, Function("y", [ItemsOf("x")], code)]

    assert changed_by(whole, listed) == {"y"}
    assert changed_by(listed, [Function("x", [], other_code), listed[1]]) == {"x", "y"}
