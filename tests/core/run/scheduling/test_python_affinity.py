"""Functions whose code is pickled by value, in clusters with more than one version of Python."""

import pytest
from msgspec.structs import replace

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.facts.resumption import ReusedResult
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.python_affinity import PythonAffinity
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.errors import AllocationError
from handoff_actors.graph import Argument, Constant, Function, collocated
from tests.core.builders import (
    RUN,
    assigned,
    async_code,
    code,
    completed,
    done,
    ends,
    hook,
    job_in,
    node_state,
    node_up,
    options,
    program_of,
    started,
)


def by_value(*args: object) -> None: ...


OURS, THEIRS = "3.11", "3.13"


def node(name: str, python: str = OURS, **more: object) -> NodeUp:
    return replace(node_up(name, **more), python=python)  # type: ignore[arg-type]


def native_program(*functions: Function, constants: bool = False, values: bool = False) -> Program:
    """A program in which the code of `by_value` is pickled by value, and, if asked for, every constant or value contains code."""
    program = program_of(*functions)
    plan = program.plan
    templates = frozenset(
        number for number, spec in enumerate(plan.templates) if spec.code in (by_value, by_value_hook)
    )
    return replace(
        program,
        affinity=PythonAffinity(
            OURS,
            templates,
            frozenset(range(len(plan.constants)) if constants else ()),
            frozenset(range(len(plan.values)) if values else ()),
        ),
    )


def by_value_hook(value: object, source: str, target: str) -> None: ...


def native_run(program: Program, **changes: object) -> RunMachine:
    return RunMachine(RUN, program, options(**changes))


def test_code_by_value_goes_to_nodes_of_the_apps_own_python_only() -> None:
    functions = [Function(number, [], by_value, cost={"cpu": 1}) for number in range(2)]
    run = native_run(native_program(*functions))

    effects = run.start(0.0, [node("a", THEIRS, capabilities={"cpu": 9.0}), node("b")])

    assert assigned(effects) == [("b", [0, 1])]


def test_code_by_reference_goes_anywhere() -> None:
    run = native_run(native_program(Function("x", [], code), Function("y", [], by_value)))

    effects = run.start(0.0, [node("a", THEIRS)])

    assert assigned(effects) == [("a", [0])]


@pytest.mark.parametrize("claims", [None, {"cpu": 1}], ids=["no claim", "a claim"])
def test_code_by_value_is_not_even_queued_where_it_could_not_run(claims: dict[str, float]) -> None:
    run = native_run(native_program(*(Function(number, [], by_value, cost=claims) for number in range(50))))

    effects = run.start(0.0, [node(name, THEIRS) for name in "abcdefghij"])

    assert assigned(effects) == []
    (end,) = ends(run.wake(10.0))
    assert isinstance(end.error, AllocationError)
    assert "Python 3.11, since its code, or a value that it takes, was pickled by value" in str(end.error)
    assert "a runs Python 3.13, b runs Python 3.13" in str(end.error)


def test_function_pinned_to_another_python_is_refused_with_the_reason() -> None:
    run = native_run(native_program(Function("x", [], by_value, node="a")))
    run.start(0.0, [node("a", THEIRS), node("b")])

    (end,) = ends(run.wake(10.0))

    assert isinstance(end.error, AllocationError)
    assert (
        "function 'x' is pinned to node 'a', which runs Python 3.13, and this function's code, or a value that it takes, "
        "was pickled by value with 3.11"
    ) in str(end.error)


def test_explanation_says_which_python_a_node_has() -> None:
    program = native_program(Function("x", [], by_value, cost={"cpu": 2}), Function("y", [], by_value))
    run = native_run(program)
    run.start(0.0, [node("a", THEIRS)])

    found = {entry.function_id: entry for entry in run.view.explain()}

    assert found["x"].nodes["a"] == (
        "runs Python 3.13, and this function's code, or a value that it takes, was pickled by value with 3.11"
    )


def test_names_that_nodes_give_themselves_are_shown_as_letters() -> None:
    program = native_program(Function("x", [], by_value))
    run = native_run(program)
    run.start(0.0, [node("a\n\x1b[2J", "3\n\x1b[2J")])

    [entry] = run.view.explain()
    (end,) = ends(run.wake(10.0))

    assert entry.nodes["a\n\x1b[2J"].startswith(r"runs Python 3\n\x1b[2J, and")
    assert r"(a\n\x1b[2J runs Python 3\n\x1b[2J)" in str(end.error)


def test_node_of_the_right_python_that_joins_gets_what_has_waited() -> None:
    run = native_run(native_program(Function("x", [], by_value)))
    run.start(0.0, [node("a", THEIRS)])

    effects = run.handle(node("b"), 1.0)

    assert assigned(effects) == [("b", [0])]


def test_group_with_code_by_value_goes_where_all_of_it_can_run() -> None:
    run = native_run(
        native_program(Function("x", [], code), Function("y", [], by_value, node=collocated("x")))
    )

    effects = run.start(0.0, [node("a", THEIRS, capabilities={"cpu": 9.0}), node("b")])

    assert {name for name, _ in assigned(effects)} == {"b"}


def test_constants_and_values_with_code_bind_the_function_that_takes_them() -> None:
    constant = native_program(Function("x", [], code, extra_args=[1]), constants=True)
    value = native_program(Function("x", [Constant(1)], code), values=True)

    for program in (constant, value):
        run = native_run(program)
        assert assigned(run.start(0.0, [node("a", THEIRS)])) == []
        assert assigned(run.handle(node("b"), 0.0)) == [("b", [0])]


def test_inline_functions_and_hooks_bind_the_function_that_they_are_part_of() -> None:
    inline = native_program(
        Function("i", [], by_value, type="inline"),
        Function("j", ["i"], code, type="inline"),
        Function("x", ["j", "j"], code),
    )
    inline_constants = native_program(
        Function("i", [], code, type="inline", extra_args=[1]), Function("x", ["i"], code), constants=True
    )

    for program in (inline, inline_constants):
        run = native_run(program)
        assert assigned(run.start(0.0, [node("a", THEIRS)])) == []
        assert assigned(run.handle(node("b"), 0.0)) == [("b", [0])]


def test_serialize_hook_binds_the_function_on_whose_node_it_runs() -> None:
    program = native_program(
        Function("x", [], code), Function("y", [Argument("x", serialize=by_value_hook)], code, node="a")
    )
    run = native_run(program)

    assert assigned(run.start(0.0, [node("a", THEIRS)])) == []
    assert assigned(run.handle(node("b"), 0.0)) == [("b", [0])]
    hooked = run.handle(completed("b", done(0)), 0.1)
    assert assigned(hooked) == [("b", [2])]
    assert assigned(run.handle(completed("b", done(2)), 0.2)) == [("a", [1])]


def test_serialize_hook_of_a_value_that_an_earlier_run_has_made_elsewhere_runs_where_it_can() -> None:
    program = native_program(
        Function("x", [], code), Function("y", [Argument("x", serialize=by_value_hook)], code, node="a")
    )
    run = native_run(program)

    effects = run.start(0.0, [node("a", THEIRS), node("b")], {0: ReusedResult("a", b"value")})

    assert assigned(effects) == [("b", [2])]


def test_serialize_hook_by_reference_binds_no_function() -> None:
    program = native_program(
        Function("x", [], code),
        Function("y", [Argument("x", serialize=hook)], code, node="a"),
        Function("z", [], by_value, priority=-1),
    )
    run = native_run(program)

    assert assigned(run.start(0.0, [node("a", THEIRS)])) == [("a", [0])]


def test_inline_functions_by_reference_bind_no_function() -> None:
    program = native_program(
        Function("i", [Constant(1)], code, type="inline"),
        Function("x", [Argument("i", deserialize=hook)], code),
        Function("j", ["i", "i"], code, type="inline"),
        Function("k", ["j", "i"], code, node="a", priority=1),
        Function("y", [], by_value, type="inline"),
        Function("z", ["y"], code),
    )
    run = native_run(program)

    assert assigned(run.start(0.0, [node("a", THEIRS)])) == [("a", [1, 0])]


def test_work_stealing_moves_nothing_to_another_python() -> None:
    functions = [Function(number, [], by_value, cost={"cpu": 1}) for number in range(4)]
    run = native_run(native_program(*functions))
    run.start(0.0, [node("b")])

    effects = run.handle(node("a", THEIRS, capabilities={"cpu": 9.0}), 1.0)

    assert effects == []


def quick(program: Program) -> RunMachine:
    """A run whose functions are known to be quick."""
    durations = Durations()
    durations.record(b"", 0.000001)
    return native_run(program, policy=POLICIES["most_spare"], durations=durations)


def test_fused_group_may_mix_both_kinds_of_code_where_all_of_it_can_run() -> None:
    program = native_program(
        Function("x", [], code), Function("y", ["x"], by_value), Function("z", ["y"], code)
    )
    here, there = quick(program), quick(program)

    effects = here.start(0.0, [node("b")])

    assert [member.index for member in job_in(effects[0]).then] == [1, 2]
    assert assigned(here.handle(completed("b", *(done(index) for index in range(3))), 0.1)) == []
    here.check()
    assert job_in(there.start(0.0, [node("a", THEIRS)])[0]).then == ()


def test_fused_group_has_only_what_claims_the_same_and_runs_in_the_same_way() -> None:
    claiming = native_program(Function("x", [], code), Function("y", ["x"], by_value, cost={"cpu": 1}))
    waiting = native_program(Function("x", [], code), Function("y", ["x"], async_code))

    for program in (claiming, waiting):
        assert job_in(quick(program).start(0.0, [node("b")])[0]).then == ()


def test_node_says_which_requirement_it_does_not_meet() -> None:
    node = node_state(node_up("n2", {"cpu": 1.0}, python=THEIRS))

    assert node.shortfall(RequirementClass(0, {"cpu": 2.0}, is_async=False)) == (
        "offers {'cpu': 1.0}, which is less than {'cpu': 2.0}"
    )
    assert not node.could_ever_hold(RequirementClass(0, {}, is_async=False, python=OURS))
    assert node.could_ever_hold(RequirementClass(0, {}, is_async=False, python=THEIRS))


def test_run_without_code_by_value_uses_any_python() -> None:
    run = started(Function("x", [], code))

    assert assigned(run.handle(node("a", THEIRS), 0.0)) == [("a", [0])]
