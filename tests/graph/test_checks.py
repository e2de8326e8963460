import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from handoff_actors.errors import DuplicateFunctionError, InvalidFunctionError
from handoff_actors.graph import DAG, Argument, Function, collocated
from handoff_actors.graph.checks import is_async_generator_code, is_coroutine_code, is_generator_code
from handoff_actors.graph.plan import check_for_run


def add(*values: Any) -> Any:
    return sum(values)


def generate() -> Iterator[int]:
    yield 1


async def generate_async() -> AsyncIterator[int]:
    yield 1


async def answer() -> int:
    return 1


class Counter:
    def count(self) -> int:
        return 1

    async def count_async(self) -> int:
        return 1

    def generate(self) -> Iterator[int]:
        yield 1

    @staticmethod
    async def static_async() -> int:
        return 1


class AsyncCallable:
    async def __call__(self) -> int:
        return 1


class GeneratorCallable:
    def __call__(self) -> Iterator[int]:
        yield 1


INVALID_OPTIONS: list[tuple[str, Any]] = [
    ("type", "Regular"),
    ("type", ["regular"]),
    ("argument_inclusion", "list"),
    ("cost", 3),
    ("cost", {"": 1}),
    ("cost", {1: 1}),
    ("cost", {"cpu": -1}),
    ("cost", {"cpu": True}),
    ("cost", {"cpu": "1"}),
    ("cost", {"cpu": float("nan")}),
    ("cost", {"cpu": float("inf")}),
    ("cost", {"cpu": 10**400}),
    ("cost", {"gpu": 1.5}),
    ("node", ""),
    ("node", 5),
    ("node", collocated([])),  # type: ignore[arg-type]  # that is the point
    ("max_retries", -1),
    ("max_retries", 1.0),
    ("max_retries", True),
    ("retry_backoff", 1.0),
    ("retry_backoff", (1.0, 2.0)),
    ("retry_backoff", (-1.0, 2.0, 3.0)),
    ("retry_backoff", (1.0, 0.5, 3.0)),
    ("retry_backoff", (1.0, 2.0, -3.0)),
    ("timeout", 0),
    ("timeout", "1"),
    ("priority", 1.5),
    ("priority", None),
    ("priority", 10**9),
    ("priority", -(10**30)),
    ("init", 3),
    ("finish", 3),
    ("close", 3),
    ("on_state_loss", "ignore"),
    ("parallelism", 0),
    ("parallelism", None),
    ("parallelism", (2, 1)),
    ("parallelism", (0, 1)),
    ("parallelism", (1, 2, 3)),
    ("parallelism", [1, 2]),
    ("key", "name"),
    ("key", answer),
    ("key", generate),
    ("batch_size", 0),
    ("batch_timeout", 0),
    ("kwargs", [1]),
    ("kwargs", {1: 1}),
]


@pytest.mark.parametrize(("name", "value"), INVALID_OPTIONS)
def test_invalid_option_is_refused_by_name(name: str, value: Any) -> None:
    function = Function("f", [], add, **{name: value})

    with pytest.raises(InvalidFunctionError, match=f"'f': {name}") as caught:
        DAG().add_function(function)

    assert caught.value.function_id == "f"


VALID_OPTIONS: list[tuple[str, Any]] = [
    ("cost", {}),
    ("cost", {"cpu": 0, "gpu": 0.5, "license": Fraction(1, 2)}),
    ("cost", {"gpu": 2.0, "memory": np.int64(5)}),
    ("node", "node-a"),
    ("node", collocated("other")),
    ("max_retries", 0),
    ("max_retries", np.int64(2)),
    ("retry_backoff", (0, 1, 0)),
    ("retry_backoff", [0.1, 2.0, 5.0]),
    ("timeout", 0.1),
    ("priority", -5),
    ("priority", np.int64(5)),
    ("argument_inclusion", "as_list"),
    ("init", dict),
    ("parallelism", 4),
    ("parallelism", (1, 4)),
    ("parallelism", (2, 2)),
    ("key", len),
    ("batch_size", 1),
    ("batch_timeout", 0.5),
    ("kwargs", {"start": 1}),
]


@pytest.mark.parametrize(("name", "value"), VALID_OPTIONS)
def test_valid_option_is_taken_as_it_is(name: str, value: Any) -> None:
    dag = DAG().add_function(Function("f", [], add, **{name: value}))

    assert getattr(dag.functions["f"], name) == value


@pytest.mark.parametrize(
    "code",
    [
        generate,
        generate_async,
        Counter().generate,
        GeneratorCallable(),
        functools.partial(functools.partial(generate)),
    ],
)
def test_generator_code_is_refused_by_runs_with_a_way_out(code: Callable[..., Any]) -> None:
    dag = DAG().add_function(Function("f", [], code))

    with pytest.raises(InvalidFunctionError, match="return a list"):
        check_for_run(dag.functions["f"])
    with pytest.raises(InvalidFunctionError, match="return a list"):
        DAG().add_function(Function("f", [], code, type="inline"))


@pytest.mark.parametrize(
    "code", [add, len, Counter, Counter().count, AsyncCallable(), functools.partial(add, 1)]
)
def test_any_other_callable_is_code(code: Callable[..., Any]) -> None:
    dag = DAG().add_function(Function("f", [], code))

    assert dag.functions["f"].code is code


def test_function_that_is_called_where_it_should_be_passed_is_pointed_out() -> None:
    with pytest.raises(
        InvalidFunctionError, match=re.escape("pass the function itself, dag.call(f, 3), not what it returns")
    ):
        DAG().call(add(3))


@pytest.mark.parametrize("kind", ["regular", "inline"])
def test_code_that_cannot_be_called_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidFunctionError, match="code must be a callable, not None"):
        DAG().add_function(Function("f", [], None, type=kind))


@pytest.mark.parametrize(
    "code",
    [
        answer,
        functools.partial(answer),
        Counter().count_async,
        Counter.static_async,
        AsyncCallable(),
        functools.partial(AsyncCallable()),
    ],
)
def test_coroutine_code_is_seen_through_its_wrapping(code: Callable[..., Any]) -> None:
    assert is_coroutine_code(code)


@pytest.mark.parametrize(
    "code", [add, len, AsyncCallable, Counter().count, functools.partial(add), GeneratorCallable()]
)
def test_other_code_is_no_coroutine_code(code: Callable[..., Any]) -> None:
    assert not is_coroutine_code(code)


@pytest.mark.parametrize(
    ("code", "is_generator", "is_async"),
    [
        (generate, True, False),
        (functools.partial(Counter().generate), True, False),
        (GeneratorCallable(), True, False),
        (generate_async, True, True),
        (functools.partial(generate_async), True, True),
        (answer, False, False),
        (len, False, False),
    ],
)
def test_generators_are_seen_through_their_wrapping(
    code: Callable[..., Any], is_generator: bool, is_async: bool
) -> None:
    assert (is_generator_code(code), is_async_generator_code(code)) == (is_generator, is_async)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("node", "node-a"),
        ("cost", {"cpu": 1}),
        ("init", dict),
        ("parallelism", 2),
        ("key", len),
        ("batch_size", 1),
        ("batch_timeout", 1.0),
        ("timeout", 1.0),
        ("max_retries", 0),
        ("retry_backoff", (0.0, 1.0, 0.0)),
        ("env_vars", {"A": "1"}),
        ("working_dir", "x"),
    ],
)
def test_inline_function_has_nothing_that_belongs_to_its_consumer(name: str, value: Any) -> None:
    function = Function("f", [], add, type="inline", **{name: value})

    with pytest.raises(InvalidFunctionError, match=f"no {name} of its own"):
        DAG().add_function(function)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("args", ["g"]),
        ("extra_args", (1,)),
        ("kwargs", {"a": 1}),
        ("cost", {"cpu": 1}),
        ("code", add),
        ("init", dict),
        ("parallelism", 2),
        ("key", len),
        ("batch_size", 1),
    ],
)
def test_input_has_nothing_to_run(name: str, value: Any) -> None:
    function = Function(**{"id": "f", "args": [], "code": None, "type": "input", name: value})

    with pytest.raises(InvalidFunctionError, match=f"no {name} of its own"):
        DAG().add_function(function)


@pytest.mark.parametrize("option", [{"finish": list}, {"close": list}, {"on_state_loss": "fail"}])
@pytest.mark.parametrize("kind", ["regular", "inline"])
def test_what_becomes_of_a_state_is_asked_only_where_there_is_one(option: dict[str, Any], kind: Any) -> None:
    [name] = option

    with pytest.raises(
        InvalidFunctionError, match=re.escape(f"it has no init (kwargs={{'{name}': ...}} passes one to the")
    ):
        DAG().add_function(Function("f", [], add, type=kind, **option))

    DAG().add_function(Function("f", [], add, init=dict, **option))


def test_input_may_be_pinned() -> None:
    dag = DAG().add_function(Function("f", [], None, type="input", node="node-a"))

    assert dag.functions["f"].node == "node-a"


@pytest.mark.parametrize("args", ["abc", b"abc", 5])
@pytest.mark.parametrize("name", ["args", "extra_args"])
def test_arguments_that_are_no_list_are_refused(name: str, args: Any) -> None:
    with pytest.raises(InvalidFunctionError, match=f"{name} must be a list"):
        Function(**{"id": "f", "args": [], "code": add, name: args})


def test_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        Function("f", [], add, colour="red")  # type: ignore[call-arg]  # that is the point


@pytest.mark.parametrize("function_id", [[], ("a", [])])
def test_id_that_is_not_hashable_is_refused(function_id: Any) -> None:
    with pytest.raises(InvalidFunctionError, match="an id must be hashable"):
        DAG().add_function(Function(function_id, [], add))
    with pytest.raises(InvalidFunctionError, match="an id must be hashable"):
        DAG(function_id)
    with pytest.raises(InvalidFunctionError, match="an id must be hashable"):
        DAG().add_function(Function("f", [Argument(function_id)], add))


def test_value_in_the_place_of_an_id_is_refused_with_a_way_out() -> None:
    with pytest.raises(InvalidFunctionError, match=re.escape("extra_args or Constant(...)")):
        DAG().add_function(Function("f", [[1, 2]], add))  # type: ignore[list-item]  # that is the point


@pytest.mark.parametrize("name", ["serialize", "deserialize"])
def test_hook_that_cannot_be_called_is_refused(name: str) -> None:
    not_callable: dict[str, Any] = {name: "hook"}

    with pytest.raises(InvalidFunctionError, match=f"{name} must be a callable"):
        DAG().add_function(Function("f", [Argument("g", **not_callable)], add))


def test_duplicate_id_is_refused_and_the_first_stays() -> None:
    dag = DAG().add_function(Function("f", [], add))

    with pytest.raises(DuplicateFunctionError) as caught:
        dag.add_function(Function("f", [], len))

    assert caught.value.function_id == "f"
    assert dag.functions["f"].code is add


def test_function_keeps_what_it_was_given_when_the_callers_dicts_change() -> None:
    kwargs, cost, args = {"a": 1}, {"cpu": 1.0}, ["g"]

    function = Function("f", args, add, kwargs=kwargs, cost=cost, extra_args=[1])
    kwargs["a"], cost["cpu"] = 2, 2.0
    args.append("h")

    assert function == Function("f", ("g",), add, kwargs={"a": 1}, cost={"cpu": 1.0}, extra_args=(1,))


# --- Hostile values ---------------------------------------------------------------------------------------------


class Hostile:
    """An object that raises wherever it is asked, except for its hash."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("no comparison")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __call__(self) -> None:
        """Do nothing."""


class Unhashable:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error or RuntimeError("no hash")

    def __hash__(self) -> int:
        raise self.error

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def test_id_without_text_is_as_good_as_any() -> None:
    dag = DAG(Hostile()).add_function(Function(Hostile(), [], add))

    assert repr(dag) == "<DAG <Hostile whose repr raises RuntimeError>: 1 function(s)>"


def test_id_whose_hash_raises_is_refused() -> None:
    message = re.escape(
        "function <Unhashable whose repr raises RuntimeError>: an id must be hashable, and its __hash__ raises no hash"
    )

    with pytest.raises(InvalidFunctionError, match=message):
        DAG().add_function(Function(Unhashable(), [], add))
    with pytest.raises(InvalidFunctionError, match=message):
        DAG(Unhashable())
    with pytest.raises(InvalidFunctionError, match="cannot be one"):
        DAG().add_function(Function("a", [Unhashable()], add))


def test_exit_within_a_hash_is_an_error_of_the_id_and_ctrl_c_is_not() -> None:
    with pytest.raises(InvalidFunctionError, match="its __hash__ raises 3"):
        DAG().add_function(Function(Unhashable(SystemExit(3)), [], add))
    with pytest.raises(InvalidFunctionError, match="cannot be one"):
        DAG().add_function(Function("a", [Unhashable(SystemExit(3))], add))
    with pytest.raises(KeyboardInterrupt):
        DAG().add_function(Function(Unhashable(KeyboardInterrupt()), [], add))
    with pytest.raises(KeyboardInterrupt):
        DAG().add_function(Function("a", [Unhashable(KeyboardInterrupt())], add))


def test_ids_that_cannot_be_compared_are_refused_by_name() -> None:
    dag = DAG().add_function(Function(1, [], add))

    with pytest.raises(
        InvalidFunctionError, match=r"Hostile .* it can't be checked: RuntimeError: no comparison"
    ):
        dag.add_function(Function(Hostile(), [], add))


@pytest.mark.parametrize(
    "option",
    [
        "node",
        "cost",
        "type",
        "max_retries",
        "timeout",
        "priority",
        "argument_inclusion",
        "env_vars",
        "working_dir",
    ],
)
def test_hostile_option_is_refused_by_name(option: str) -> None:
    with pytest.raises(InvalidFunctionError, match="function 'named'"):
        DAG().add_function(Function("named", [], add, **{option: Hostile()}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["a\udcff", "a\0", "a\nb", "x" * 1_000_000], ids=["surrogate", "NUL", "lines", "long"]
)
def test_what_no_node_and_no_resource_can_be_called_is_refused(name: str) -> None:
    with pytest.raises(InvalidFunctionError, match="function 'named'") as caught:
        DAG().add_function(Function("named", [], add, node=name))
    assert len(str(caught.value)) < 2000

    with pytest.raises(InvalidFunctionError, match="function 'named'") as caught:
        DAG().add_function(Function("named", [], add, cost={name: 1}))
    assert len(str(caught.value)) < 2000


def test_more_resources_than_a_node_can_offer_are_refused() -> None:
    with pytest.raises(InvalidFunctionError, match="cost must be"):
        DAG().add_function(
            Function("named", [], add, cost={f"resource {number}": 1 for number in range(1000)})
        )


def test_huge_id_makes_no_huge_error() -> None:
    with pytest.raises(InvalidFunctionError) as caught:
        DAG().add_function(Function("x" * 10_000_000, [], "no code"))  # type: ignore[arg-type]

    assert len(str(caught.value)) < 2000
    assert "characters left out" in str(caught.value)
