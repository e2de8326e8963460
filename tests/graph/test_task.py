"""Functions with options of their own."""

import asyncio
import functools
import inspect
import json
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph import DAG, Function, task


@task(cost={"cpu": 2}, timeout=60)
def double(value: int, factor: int = 2) -> int:
    """Double it."""
    return value * factor


@task(priority=3)
async def answer() -> int:
    return 42


@task
def bare(value: int) -> int:
    return value


class Service:
    @task(priority=4)
    def scale(self, value: int) -> int:
        return value

    @staticmethod
    @task(priority=5)
    def below(value: int) -> int:
        return value

    @task(priority=6)
    @staticmethod
    def above(value: int) -> int:
        return value

    @task(priority=7)
    @classmethod
    def made(cls, value: int) -> int:
        return value


def plain(value: int) -> int:
    return value


def added(code: Callable[..., Any], **options: Any) -> Function:
    dag = DAG()
    return dag.functions[dag.call(code, 1, **options).id]


def test_options_hold_for_each_call_and_those_of_a_call_come_first() -> None:
    assert (added(double).cost, added(double).timeout) == ({"cpu": 2}, 60)
    overridden = added(double, timeout=5, max_retries=1, factor=3)
    assert (overridden.cost, overridden.timeout, overridden.max_retries) == ({"cpu": 2}, 5, 1)
    assert overridden.kwargs == {"factor": 3}
    assert (added(bare).cost, added(bare).timeout) == (None, None)


def test_function_stays_what_it_is() -> None:
    assert double(3) == 6
    assert (double.__name__, double.__doc__) == ("double", "Double it.")
    assert list(inspect.signature(double).parameters) == ["value", "factor"]
    assert pickle.loads(pickle.dumps(double)) is double
    assert inspect.iscoroutinefunction(answer)
    assert asyncio.run(answer()) == 42
    assert added(double).code is double


def test_methods_of_each_kind_have_their_options() -> None:
    service = Service()

    codes: list[Callable[..., Any]] = [service.scale, Service.below, Service.above, Service.made]
    assert [code(5) for code in codes] == [5] * 4
    assert [added(code).priority for code in codes] == [4, 5, 6, 7]


def test_function_by_value_takes_its_options_along() -> None:
    def local(value: int) -> int:
        return value

    restored = cloudpickle.loads(cloudpickle.dumps(task(priority=8)(local)))

    assert added(restored).priority == 8


@pytest.mark.parametrize("give", [lambda fn: task(fn, priority=9), task(priority=9)])
@pytest.mark.parametrize("fn", [plain, json.dumps, abs, functools.partial(plain), Service().scale])
def test_function_of_others_is_left_alone(give: Callable[[Any], Any], fn: Callable[..., Any]) -> None:
    before = added(fn).priority

    with_options = give(fn)

    assert with_options(1) == fn(1)
    assert added(with_options).priority == 9
    assert added(fn).priority == before


def test_options_add_up() -> None:
    both = task(double, timeout=5)

    assert (added(both).cost, added(both).timeout) == ({"cpu": 2}, 5)
    assert both.__wrapped__ is double  # type: ignore[attr-defined]
    assert both.__name__ == "double"
    assert task(double) is double


def test_what_can_have_no_options_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="a task has no option 'retries'; did you mean max_retries"):
        task(retries=3)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(TypeError, match="task takes a function, not 5"):
        task(5)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(InvalidFunctionError, match="'plain': cost must be"):
        task(plain, cost={"cpu": -1})


class Answering:
    """An object that answers to every attribute."""

    def __getattr__(self, name: str) -> Any:
        return name

    def __call__(self, value: int) -> int:
        return value


def test_object_that_answers_to_every_attribute_has_no_options() -> None:
    assert added(Answering()).priority == 0
