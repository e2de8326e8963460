"""Keywords of a call, and whether a function can be called with its arguments."""

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph import DAG, Function, Handle, Plan
from tests.graph.evaluation import values_of_plan


def load(path: str, timeout: float = 1.0, *, node: str = "here") -> Any:
    return path, timeout, node


def named(first: Any, /, second: Any, third: Any = 3, *, fourth: Any, fifth: Any = 5) -> Any:
    return first, second, third, fourth, fifth


def anything(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


class Method:
    def __init__(self, size: int = 0) -> None:
        self.size = size

    def __call__(self, value: Any) -> Any:
        return value

    def scale(self, value: Any, cost: int = 1) -> Any:
        return value, cost


class Made:
    def __new__(cls, *args: Any) -> Any:
        return args


@functools.wraps(named)
def supplying(*args: Any) -> Any:
    return named(1, 2, 3, fourth=args)


def outcome(build: Callable[[DAG], Handle[Any]]) -> Any:
    dag = DAG()
    handle = build(dag)
    dag.validate()
    return values_of_plan(Plan.compile(dag), {})[handle.id]


def test_keywords_that_are_no_options_go_to_the_function() -> None:
    assert outcome(lambda dag: dag.call(named, 1, second=2, fourth=4, cost={"cpu": 1}, timeout=9)) == (
        1,
        2,
        3,
        4,
        5,
    )
    assert outcome(lambda dag: dag.call(anything, b=1, a=2, kwargs={"c": 3})) == (
        (),
        {"c": 3, "b": 1, "a": 2},
    )


def test_results_are_passed_by_name() -> None:
    assert outcome(lambda dag: dag.call(anything, x=dag.call(load, "a"), y=[dag.call(load, path="b")])) == (
        (),
        {"x": ("a", 1.0, "here"), "y": [("b", 1.0, "here")]},
    )


@pytest.mark.parametrize("name", ["timeout", "node"])
def test_option_with_the_name_of_a_parameter_is_refused_with_a_way_out(name: str) -> None:
    dag = DAG()

    with pytest.raises(
        InvalidFunctionError,
        match=re.escape(
            f"'f': {name} is a parameter of the function and an option of the run, too: pass kwargs={{'{name}': ...}}"
        ),
    ):
        dag.call(load, "path", id="f", **{name: 5})  # type: ignore[call-overload]  # that is the point

    assert len(dag) == 0


def test_parameter_with_the_name_of_an_option_is_passed_in_kwargs_and_the_option_beside_it() -> None:
    dag = DAG()

    alone = dag.call(load, "path", kwargs={"timeout": 5})
    both = dag.call(load, "path", timeout=7, kwargs={"timeout": 5})
    by_position = dag.call(load, "path", 5, timeout=7)

    assert {values_of_plan(Plan.compile(dag), {})[handle.id] for handle in (alone, both, by_position)} == {
        ("path", 5, "here")
    }
    assert [dag.functions[handle.id].timeout for handle in (alone, both, by_position)] == [None, 7, 7]


@pytest.mark.parametrize("code", [Method().scale, functools.partial(Method().scale)])
def test_parameters_of_methods_and_partials_are_known(code: Callable[..., Any]) -> None:
    with pytest.raises(InvalidFunctionError, match="'scale': cost is a parameter"):
        DAG().call(code, 1, cost={"cpu": 1})


def test_options_of_code_whose_parameters_are_unknown_are_options() -> None:
    dag = DAG()

    handle = dag.call(print, "text", priority=5, end="")

    function = dag.functions[handle.id]
    assert (function.priority, function.kwargs) == (5, {"end": ""})


def test_keyword_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InvalidFunctionError, match="'named': third is given twice, by itself and in kwargs"):
        DAG().call(named, 1, third=3, kwargs={"third": 3})


def test_kwargs_that_are_no_mapping_are_refused_beside_keywords_too() -> None:
    with pytest.raises(InvalidFunctionError, match="kwargs must map names to values, not 3"):
        DAG().call(named, 1, third=3, kwargs=3)  # type: ignore[call-overload]  # that is the point


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda dag: dag.call(named), "it is given no 'first' and no 'second' and no 'fourth'"),
        (lambda dag: dag.call(named, 1, 2), "it is given no 'fourth'"),
        (lambda dag: dag.call(named, 1, 2, 3, 4), "it takes 3 argument(s) by position, and is given 4"),
        (lambda dag: dag.call(named, 1, 2, second=2, fourth=4), "it is given 'second' twice, by position and by name"),
        (lambda dag: dag.call(named, 1, 2, fourht=4), "it has no parameter 'fourht'; did you mean fourth?"),
        (lambda dag: dag.call(named, second=2, fourth=4, first=1), "it is given 'first' by name, and takes it by position alone"),
        (lambda dag: dag.call(load, "path", retries=2), "it has no parameter 'retries'; did you mean the option max_retries?"),
        (lambda dag: dag.call(load, "path", xyz=2), "it has no parameter 'xyz'"),
        (lambda dag: dag.call(load, dag.call(load, "a"), "b", "c"), "it takes 2 argument(s) by position, and is given 3"),
        (lambda dag: dag.call(load, [dag.call(load, "a")], "b", "c"), "it takes 2 argument(s) by position, and is given 3"),
        (lambda dag: dag.call(load, xyz=dag.call(load, "a")), "it has no parameter 'xyz'"),
        (lambda dag: dag.call(load, 1, 2, 3, argument_inclusion="as_list", extra_args=[1, 2]), "by position, and is given 3"),
        (lambda dag: dag.call(functools.partial(named, 1, third=3), 2, 3, fourth=4), "it takes 1 argument(s) by position, and is given 2"),
        (lambda dag: dag.call(functools.partial(named, 1, third=3), fourth=4), "it is given no 'second'"),
        (lambda dag: dag.call(Method().scale), "it is given no 'value'"),
        (lambda dag: dag.call(Method(), 1, 2), "it takes 1 argument(s) by position, and is given 2"),
        (lambda dag: dag.call(Method, 1, 2), "it takes 1 argument(s) by position, and is given 2"),
        (lambda dag: dag.call(load, type="inline"), "it is given no 'path'"),
    ],
)  # fmt: skip
def test_arguments_that_the_function_cannot_take_are_refused_before_the_run(
    build: Callable[[DAG], object], reason: str
) -> None:
    dag = DAG()
    build(dag)

    with pytest.raises(InvalidFunctionError, match=re.escape(reason)):
        dag.validate()
    with pytest.raises(InvalidFunctionError, match=re.escape(reason)):
        Plan.compile(dag)


@pytest.mark.parametrize(
    "build",
    [
        lambda dag: dag.call(named, 1, 2, fourth=4),
        lambda dag: dag.call(named, *range(3), kwargs={"fourth": 4, "fifth": 5}),
        lambda dag: dag.call(functools.partial(named, 1, fourth=3), 2, fourth=4),
        lambda dag: dag.call(functools.partial(anything, 1, a=2), 2, 3, a=4, b=5),
        lambda dag: dag.call(anything, *range(9), cost={}, a=1),
        lambda dag: dag.call(supplying, "all others are supplied"),
        lambda dag: dag.call(Method().scale, 1),
        lambda dag: dag.call(Method(), 1),
        lambda dag: dag.call(Method, size=1),
        lambda dag: dag.call(Made, 1, 2, 3),
        lambda dag: dag.call(object),
        lambda dag: dag.call(load, 1, 2, argument_inclusion="as_list"),
        lambda dag: dag.call(load, [dag.call(load, "a")], 2),
    ],
)
def test_arguments_that_the_function_can_take_are_taken(build: Callable[[DAG], Handle[Any]]) -> None:
    assert outcome(build) is not None


def test_stages_of_streams_are_not_judged_by_their_arguments() -> None:
    DAG().add_functions(
        [Function("f", [], load, init=dict), Function("g", [], load, batch_size=3)]
    ).validate()


def test_functions_of_the_same_code_may_have_other_defaults() -> None:
    def made(*defaults: Any) -> Callable[..., Any]:
        def code(first: Any, second: Any) -> Any:
            return first, second

        code.__defaults__ = defaults
        return code

    DAG().add_function(Function("both", [], made(1, 2))).validate()
    DAG().add_function(Function("one", [], made(2), extra_args=[1])).validate()
    with pytest.raises(InvalidFunctionError, match="it is given no 'first' and no 'second'"):
        DAG().add_function(Function("none", [], made())).validate()


def test_parameters_of_any_number_of_functions_are_told_apart() -> None:
    namespace: dict[str, Any] = {}
    for number in range(600):
        parameters = ", ".join(f"a{place}" for place in range(number % 3))
        exec(f"def f{number}({parameters}): pass", namespace)
    codes = [namespace[f"f{number}"] for number in range(600)]

    for _ in range(2):
        dag = DAG()
        for number, code in enumerate(codes):
            dag.add_function(Function(number, [], code, extra_args=[0] * (number % 3)))
        dag.validate()
