import os
from pathlib import Path
from typing import Any

import pytest

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph import DAG, Function, Plan
from handoff_actors.graph.environment import Environment, is_directory_name, is_env_vars, os_bytes


def test_nothing_asked_for_is_no_environment() -> None:
    assert Environment.of(None, None) is None
    assert Environment.of({}, None) is None
    assert Environment.of(None, Path("x")) == Environment((), "x")
    assert Environment.of({"B": "2", "A": "1"}, None) == Environment((("A", "1"), ("B", "2")))


def test_function_decides_what_it_and_its_run_both_say() -> None:
    run = Environment((("A", "run"), ("B", "run")), "of run")

    assert Environment((("B", "own"),)).within(run) == Environment((("A", "run"), ("B", "own")), "of run")
    assert Environment((), "own").within(run) == Environment((("A", "run"), ("B", "run")), "own")
    assert run.within(None) is run


def test_functions_with_the_same_environment_share_a_template() -> None:
    variables = {"A": "1"}
    functions = [
        Function("a", [], len, env_vars=variables),
        Function("b", [], len, env_vars={"A": "1"}),
        Function("c", [], len, env_vars={"A": "2"}),
        Function("d", [], len, working_dir="x"),
        Function("e", [], len, working_dir=Path("x")),
        Function("f", [], len),
    ]
    variables["A"] = "changed"

    plan = Plan.compile(DAG().add_functions(functions))

    assert plan.template_of == [0, 0, 1, 2, 2, 3]
    assert [spec.environment for spec in plan.templates] == [
        Environment((("A", "1"),)),
        Environment((("A", "2"),)),
        Environment((), "x"),
        None,
    ]


@pytest.mark.parametrize(
    "value",
    [
        {"A": 1},
        {1: "a"},
        {"": "a"},
        {"A=B": "c"},
        {"A": "b\0c"},
        {"A": "\ud800"},
        {"A": "x" * 3_000_000},
        "A=1",
        [("A", "1")],
    ],
)
def test_what_can_be_no_variables_is_refused(value: Any) -> None:
    assert not is_env_vars(value)
    with pytest.raises(InvalidFunctionError, match="env_vars must be None or a mapping of names to strings"):
        DAG().add_function(Function("a", [], len, env_vars=value))


def test_variables_may_be_empty() -> None:
    assert is_env_vars({})
    assert is_env_vars({"A": ""})


@pytest.mark.parametrize("value", ["", b"x", 3])
def test_what_can_be_no_directory_is_refused(value: Any) -> None:
    assert not is_directory_name(value)
    with pytest.raises(InvalidFunctionError, match="working_dir must be None or the path of a directory"):
        DAG().add_function(Function("a", [], len, working_dir=value))


def test_variables_that_are_not_utf8_are_those_of_the_operating_system() -> None:
    name, value = os.fsdecode(b"N\xff"), os.fsdecode(b"v\xfe")

    assert is_env_vars({name: value})
    assert (os_bytes(name), os_bytes(value)) == (b"N\xff", b"v\xfe")


@pytest.mark.parametrize("directory", [".", "~/x", Path("/tmp/größe"), os.fsdecode(b"/d\xff")])
def test_directory_name(directory: str | Path) -> None:
    assert is_directory_name(directory)


@pytest.mark.parametrize("directory", ["", "a\0b", "a\ud800", "x" * 10_000_000, Path("x" * 5000), 1, None])
def test_no_directory_name(directory: object) -> None:
    assert not is_directory_name(directory)
