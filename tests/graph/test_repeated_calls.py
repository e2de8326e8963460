"""Calls that are like earlier ones: the same plan as by the long way, in less time."""

import gc
import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest

from handoff_actors.graph.argument import Constant, collocated
from handoff_actors.graph.growing_dag import GrowingDAG
from handoff_actors.graph.plan import Plan
from handoff_actors.graph.repeated_calls import MOST_PATTERNS, RepeatedCalls, function_of, plan_of


def double(value: Any, by: Any = 2) -> Any:
    return value * by


def negate(value: Any) -> Any:
    return -value


class Slotted:
    __slots__ = ()

    def __call__(self, value: Any) -> Any:
        return value


def noted(fn: Any, *args: Any, **options: Any) -> RepeatedCalls:
    dag, calls = GrowingDAG(), RepeatedCalls()
    handle = dag.call(fn, *args, **options)
    calls.note(fn, options, dag.functions[handle.id])
    return calls


def is_like(calls: RepeatedCalls, fn: Any, args: tuple[object, ...], options: dict[str, Any]) -> bool:
    return bool(calls.add(fn, [args], options, lambda name: name))


def test_plan_is_the_one_of_the_functions() -> None:
    calls, shared = RepeatedCalls(), [1, 2]
    dag = GrowingDAG()
    options: dict[str, Any] = {
        "max_retries": 2,
        "retry_backoff": (1, 2, 3),
        "cost": {"cpu": 2},
        "priority": 3,
    }
    for fn, given in ((double, options), (negate, {"node": "b"})):
        calls.note(fn, given, dag.functions[dag.call(fn, 1, **given).id])
    wanted: list[tuple[Any, dict[str, Any], tuple[object, ...]]] = [
        (double, options, (5,)),
        (negate, {"node": "b"}, (shared,)),
        (double, options, (shared, True)),
        (double, options | {"extra_args": [shared]}, (1,)),
    ]
    for fn, given, args in wanted:
        assert calls.add(fn, [args], given, partial(dag.fresh_id, is_taken={"negate-2"}.__contains__))

    taken = calls.take(10)

    functions = {call[0]: function_of(call) for call in taken}
    assert list(functions) == ["double-2", "negate-3", "double-3", "double-4"]
    assert plan_of(taken, "dag") == Plan.of(functions, "dag")


@pytest.mark.parametrize(
    ("fn", "args", "options"),
    [
        (negate, (1,), {}),
        (double, (), {}),
        (double, (1,), {"cost": {"cpu": 1}}),
        (double, (Constant(1),), {}),
    ],
)
def test_other_calls_are_unlike_it(fn: Any, args: Any, options: Any) -> None:
    assert not is_like(noted(double, 1), fn, args, options)


def test_calls_are_added_up_to_one_that_is_unlike_them() -> None:
    calls = noted(double, 1)
    fresh = partial(GrowingDAG().fresh_id, is_taken=set[object]().__contains__)

    ids = calls.add(double, [(1,), (2,), (), (3,)], {}, fresh)

    assert ids == ["double-1", "double-2"]
    assert [args for _, _, _, args, _ in calls.take(10)] == [(1,), (2,)]


def test_call_with_a_result_is_unlike_it() -> None:
    dag = GrowingDAG()
    handle = dag.call(double, 1)
    calls = RepeatedCalls()
    calls.note(double, {}, dag.functions[handle.id])

    assert not is_like(calls, double, ([handle],), {})
    assert not is_like(calls, double, (), {"extra_args": (handle,)})
    assert is_like(calls, double, (np.zeros(1),), {})


@pytest.mark.parametrize(
    "options", [{"by": 3}, {"id": "own"}, {"run_if": "always"}, {"type": "inline"}, {"cache": "1d"}]
)
def test_no_other_call_is_like_one_with_an_option_of_its_own(options: dict[str, Any]) -> None:
    assert not is_like(noted(double, 1, **options), double, (1,), options)


def test_no_other_call_is_like_a_collocated_one() -> None:
    dag, calls = GrowingDAG(), RepeatedCalls()
    options: dict[str, Any] = {"node": collocated(dag.call(double, 1))}
    calls.note(double, options, dag.functions[dag.call(double, 1, **options).id])

    assert not is_like(calls, double, (1,), options)


def test_changed_options_are_other_options() -> None:
    cost = {"cpu": 1.0}
    calls = noted(double, 1, cost=cost)

    cost["cpu"] = 2.0

    assert not is_like(calls, double, (1,), {"cost": cost})


def test_functions_are_not_kept() -> None:
    fn = partial(double, by=3)
    calls, gone = noted(fn, 1), weakref.ref(fn)
    assert is_like(calls, fn, (2,), {})
    plan_of(calls.take(1), "dag")

    del fn
    gc.collect()

    assert gone() is None


def test_patterns_are_bounded() -> None:
    calls, dag = RepeatedCalls(), GrowingDAG()
    fns = [partial(double, by=number) for number in range(MOST_PATTERNS + 1)]
    for fn in fns:
        calls.note(fn, {}, dag.functions[dag.call(fn, 1).id])

    assert not is_like(calls, fns[0], (1,), {})
    assert is_like(calls, fns[-1], (1,), {})


def test_function_without_weak_references_has_no_pattern() -> None:
    fn = Slotted()

    assert not is_like(noted(fn, 1), fn, (1,), {})


def test_calls_are_taken_in_order() -> None:
    calls = noted(double, 1)
    for number in range(3):
        calls.add(double, [(number,)], {}, lambda _, number=number: number)  # type: ignore[misc]

    assert [[call[0] for call in calls.take(2)] for _ in range(2)] == [[0, 1], [2]]
    assert len(calls) == 0


def test_a_call_is_found_by_its_id_until_it_is_taken() -> None:
    calls = noted(double, 1, cost={"cpu": 2})
    calls.add(double, [(7,)], {"cost": {"cpu": 2}}, lambda name: f"{name}-1")

    found = calls.find("double-1")
    calls.take(1)

    assert found is not None
    assert (found.id, found.code, found.cost) == ("double-1", double, {"cpu": 2})
    assert [arg.value for arg in found.args if isinstance(arg, Constant)] == [7]
    assert calls.find("double-1") is None


def test_shared_values_and_templates_are_there_once() -> None:
    calls, shared = noted(double, 1), [1]
    for _ in range(2):
        assert is_like(calls, double, (shared, shared), {})
        assert is_like(calls, double, (shared,), {})
        plan = plan_of(calls.take(2), "dag")

    assert plan.values == [shared]
    assert plan.args == [(-1, -1), (-1,)]
    assert [template.code for template in plan.templates] == [double]
