"""Conditions of functions, and functions that run although others have failed, in graphs and plans."""

import pytest

import handoff_actors as handoff
from handoff_actors.errors import CycleError, InvalidFunctionError, MissingFunctionError
from handoff_actors.graph import DAG, Argument, Constant, Function, Plan
from handoff_actors.graph.run_if import conditions_among, run_if_of, tolerates
from handoff_actors.skip import ENCODED_SKIP, FALSE_VALUES, SKIP
from handoff_actors.wire.payload import decode, encode


def code(*args: object) -> None: ...


def hook(value: object, source: str, target: str) -> None: ...


def compiled(*functions: Function) -> Plan:
    return Plan.compile(DAG("dag").add_functions(functions))


def test_encoded_values_that_the_core_knows_are_those_of_the_encoder() -> None:
    falses = [False, None, 0, [], (), {}, SKIP]

    assert {encode(value).to_bytes() for value in falses} == FALSE_VALUES
    assert decode(ENCODED_SKIP) is SKIP


def test_conditions_are_the_last_args_of_a_plan() -> None:
    plan = compiled(
        Function("a", [], code),
        Function("b", [], code),
        Function("i", ["b"], code, type="inline"),
        Function("x", ["a"], code, when=["b", "i", "a"]),
    )

    index = plan.index("x")
    assert plan.templates[plan.template_of[index]].conditions == 3
    assert plan.args[index][:2] == (0, 1)
    assert len(conditions_among(plan, index)) == 3
    assert plan.producers[index] == (0, 1)
    assert conditions_among(plan, 0) == ()


def test_functions_of_the_same_code_share_a_template_only_with_as_many_conditions_and_the_same_run_if() -> (
    None
):
    plan = compiled(
        Function("a", [], code),
        Function("b", ["a"], code, when="a"),
        Function("c", ["a"], code, when=["b"]),
        Function("d", ["a"], code, run_if="always"),
        Function("e", ["a"], code, run_if="failure"),
        Function("f", ["a"], code, when=["a", "b"]),
    )

    assert plan.template_of == [0, 1, 1, 2, 3, 4]


def test_function_with_run_if_can_do_without_any_input_that_is_no_condition() -> None:
    plan = compiled(
        Function("a", [], code),
        Function("b", [], code),
        Function("x", [Argument("a", serialize=hook), "b"], code, when="b", run_if="always"),
        Function("y", ["a"], code),
    )
    hook_index = plan.hooks[0].index

    assert run_if_of(plan, hook_index) == "always"
    assert tolerates(plan, 2, hook_index)
    assert not tolerates(plan, 2, 1)
    assert not tolerates(plan, hook_index, 0)
    assert not tolerates(plan, hook_index, 1)
    assert not tolerates(plan, 3, 0)


def test_handles_may_be_conditions_alone_in_a_list_or_in_a_tuple() -> None:
    dag = handoff.new()
    one, two = dag.call(code, id="one"), dag.call(code, id="two")

    dag.call(code, id="x", when=one)
    dag.call(code, id="y", when=[one, "two"])
    dag.call(code, id="z", when=(one, two))

    assert [dag.functions[name].when for name in "xyz"] == ["one", ["one", "two"], ["one", "two"]]


def test_list_of_conditions_may_be_filled_anew() -> None:
    conditions: list[object] = ["a"]
    function = Function("x", [], code, when=conditions)

    conditions.append("b")

    assert function.when == ["a"]


def test_condition_of_another_dag_is_refused() -> None:
    other = handoff.new().call(code)

    with pytest.raises(InvalidFunctionError, match="another DAG"):
        handoff.new().call(code, when=other)


@pytest.mark.parametrize("when", [[], [[]], True, False, {}, Argument("a"), Constant(1), ["a", False]])
def test_what_is_no_function_is_no_condition(when: object) -> None:
    with pytest.raises(InvalidFunctionError, match="when must be None, the handle or id of a function"):
        DAG().add_function(Function("x", [], code, when=when))


def test_run_if_is_one_of_three() -> None:
    with pytest.raises(InvalidFunctionError, match="run_if must be 'success', 'always' or 'failure'"):
        DAG().add_function(Function("x", [], code, run_if="done"))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"run_if": "always"}, {"when": "a"}])
@pytest.mark.parametrize("kind", ["inline", "input"])
def test_only_regular_functions_run_on_conditions(kind: str, options: dict[str, str]) -> None:
    function_code = code if kind == "inline" else None

    with pytest.raises(InvalidFunctionError, match=f"so it has no {next(iter(options))} of its own"):
        DAG().add_function(Function("x", [], function_code, type=kind, **options))  # type: ignore[arg-type]


def test_function_for_failures_takes_from_one_that_could_fail() -> None:
    with pytest.raises(InvalidFunctionError, match="takes no result of a function that could fail"):
        compiled(Function("a", [], code), Function("x", [Constant(1)], code, run_if="failure", when="a"))


def test_conditions_are_checked_as_arguments_are() -> None:
    with pytest.raises(MissingFunctionError, match="'nowhere'"):
        compiled(Function("x", [], code, when="nowhere"))
    with pytest.raises(CycleError):
        compiled(Function("x", ["y"], code), Function("y", [], code, when="x"))


def test_functions_may_be_added_before_their_conditions() -> None:
    plan = compiled(Function("x", [], code, when="a"), Function("a", [], code))

    assert plan.producers == [(1,), ()]


def test_picture_shows_conditions_as_arrows() -> None:
    dag = DAG().add_functions([Function("a", [], code), Function("x", [], code, when="a")])

    assert "a --> x;" in dag.to_mermaid()


def test_task_has_its_run_if_wherever_it_is_called() -> None:
    @handoff.task(run_if="always")
    def clean(*_: object) -> None: ...

    dag = handoff.new()
    dag.call(clean, dag.call(code), id="clean")

    assert dag.functions["clean"].run_if == "always"
