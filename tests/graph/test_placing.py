"""Results within lists, dicts and other containers."""

import copy
import pickle
import re
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import pytest

from handoff_actors.errors import InvalidFunctionError, MissingFunctionError
from handoff_actors.graph import DAG, Argument, Constant, Function, Handle, Plan
from handoff_actors.graph.containers import replaced
from tests.graph.evaluation import values_of_plan


def same(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def number() -> int:
    return 1


class Point(NamedTuple):
    x: Any
    y: Any = 0


@dataclass
class Settings:
    rate: Any
    made_of: InitVar[int] = 0
    rest: list[Any] = field(default_factory=list)
    later: Any = field(init=False, repr=False)


@dataclass(frozen=True, slots=True)
class Frozen:
    rate: Any
    other: Any = None


class Opaque:
    """A class whose objects are not looked into."""

    def __init__(self, held: object) -> None:
        self.held = held


def outcome(build: Callable[[DAG, Handle[Any]], Handle[Any]]) -> Any:
    """Return what a function gives, which takes the result 1 of another one."""
    dag = DAG()
    taker = build(dag, dag.call(number, id="one"))
    plan = Plan.compile(dag)
    return values_of_plan(plan, dict.fromkeys(plan.ids, "node"))[taker.id]


@pytest.mark.parametrize(
    "build",
    [
        lambda one: [one],
        lambda one: (one, 2),
        lambda one: {"key": one, 3: [one, {"deeper": (one,)}]},
        lambda one: slice(one, None, 2),
        lambda one: Point(one, 5),
        lambda one: Frozen(one, [one]),
        lambda one: Settings(one, rest=[one, [2]]),
        lambda one: OrderedDict(b=one, a=[one]),
        lambda one: deque([one, 2], 3),
        lambda one: defaultdict(list, key=[one]),
    ],
)
def test_result_takes_the_place_of_its_handle_within_a_container(build: Callable[[Any], Any]) -> None:
    [positional], keywords = outcome(lambda dag, one: dag.call(same, build(one), kwargs={"also": build(one)}))

    assert repr(positional) == repr(keywords["also"]) == repr(build(1))
    assert type(positional) is type(build(1))


def test_all_places_of_arguments_may_hold_results() -> None:
    assert outcome(
        lambda dag, one: dag.call(
            same, "one", one, 2, [one], extra_args=[one, [3]], kwargs={"key": one, "plain": 4}
        )
    ) == (("one", 1, 2, [1], 1, [3]), {"key": 1, "plain": 4})
    assert outcome(
        lambda dag, one: dag.call(same, one, [one], argument_inclusion="as_list", extra_args=[[one]])
    ) == (([1, [1]], [1]), {})


def test_functions_take_containers_among_ids_and_constants() -> None:
    def build(dag: DAG, one: Handle[Any]) -> Handle[Any]:
        function = Function("f", [("one", [one]), "one", Constant([one]), Constant(2)], same)
        dag.add_function(function)
        return Handle("f", dag)

    assert outcome(build) == ((("one", [1]), 1, [1], 2), {})


def test_inline_function_and_its_arguments_may_hold_results() -> None:
    def build(dag: DAG, one: Handle[Any]) -> Handle[Any]:
        inline = dag.call(same, [one], kwargs={"key": [one]}, type="inline")
        return dag.call(same, {"inline": [inline, inline]})

    value = (([1],), {"key": [1]})
    assert outcome(build) == (({"inline": [value, value]},), {})


def test_hooks_work_within_containers() -> None:
    def pack(value: int, source: str, target: str) -> tuple[int, str, str]:
        return value, source, target

    def build(dag: DAG, one: Handle[Any]) -> Handle[Any]:
        return dag.call(same, [Argument(one, serialize=pack), Argument("one", deserialize=pack)])

    assert outcome(build) == (([(1, "node", "node")] * 2,), {})


def test_result_is_one_object_however_often_it_is_passed() -> None:
    def build(dag: DAG, made: Handle[Any]) -> Handle[Any]:
        shared = [made]
        return dag.call(lambda *args: args, [shared, shared], shared, made)

    (first, second), third, _ = outcome(build)

    assert first is second is third


def test_container_is_taken_as_it_is_at_the_time_of_the_call() -> None:
    def build(dag: DAG, one: Handle[Any]) -> Handle[Any]:
        batch: list[Any] = [one, {"key": one}]
        taker = dag.call(same, batch)
        batch[1].clear()
        batch.clear()
        return taker

    assert outcome(build) == (([1, {"key": 1}],), {})


def test_container_without_results_is_passed_itself() -> None:
    within_itself: list[Any] = [1, "text"]
    within_itself.append(within_itself)

    def build(dag: DAG, one: Handle[Any]) -> Handle[Any]:
        dag.call(same, within_itself, extra_args=[within_itself], kwargs={"key": {}}, id="plain")
        assert dag.functions["plain"].args[0].value is within_itself  # type: ignore[attr-defined]
        return dag.call(lambda args: args, [one, within_itself])

    one, inner = outcome(build)
    assert (one, inner[:2]) == (1, [1, "text"])
    assert inner[2] is inner


def test_function_goes_from_one_dag_to_another_with_its_placeholders() -> None:
    def build(dag: DAG, one: Handle[Any]) -> Handle[Any]:
        other = DAG()
        other.call(same, [other.call(number, id="one")], id="f", kwargs={"key": 2})
        function = other.functions["f"]
        dag.add_function(
            Function(
                "f", function.args, same, argument_inclusion=function.argument_inclusion, extra_args=[[one]]
            )
        )
        return Handle("f", dag)

    assert outcome(build) == (([1], [1]), {"key": 2})


def test_large_container_is_searched_where_it_has_a_handle_early() -> None:
    members = [1] * 30_000

    def build(dag: DAG, one: Handle[Any]) -> Handle[Any]:
        return dag.call(lambda *args: args, [one, *members, [one]])

    [found] = outcome(build)

    assert found == [1, *members, [1]]


@pytest.mark.parametrize(
    "make", [lambda late: [*range(20_000), late], lambda late: [[n] for n in range(20_000)] + [late]]
)
def test_handle_that_is_overlooked_in_a_large_list_says_so_when_it_is_pickled(
    make: Callable[[object], Any],
) -> None:
    dag = DAG()
    late = dag.call(number)

    dag.call(same, make(late), id="f")

    value = dag.functions["f"].args[0].value  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"was not found here: .* one among the first 10,000 members"):
        pickle.dumps(value)


def test_handle_is_copied_as_itself_and_never_pickled() -> None:
    handle = DAG().call(number, id="one")

    assert copy.copy(handle) is handle is copy.deepcopy([handle])[0]
    with pytest.raises(TypeError, match=re.escape("Handle(id='one') stands for a result")):
        pickle.dumps(Opaque(handle))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda one: {one: 1}, "can't be a key"),
        (lambda one: [{(2, one): 1}], "can't be a key"),
        (lambda one: {one}, "can't be in a set"),
        (lambda one: [frozenset([Point(one)]), one], "can't be in a set"),
    ],
)
def test_handle_that_would_have_to_be_hashed_is_refused_with_a_way_out(
    make: Callable[[object], Any], message: str
) -> None:
    dag = DAG()

    with pytest.raises(InvalidFunctionError, match=f"'f': a handle {message}.* pass a list, and make the"):
        dag.call(same, make(dag.call(number)), id="f")


def test_container_that_contains_itself_and_a_handle_is_refused() -> None:
    dag = DAG()
    container: dict[str, Any] = {"one": dag.call(number)}
    container["self"] = [container]

    with pytest.raises(
        InvalidFunctionError, match="a dict among its arguments contains itself, and a handle"
    ):
        dag.call(same, container)


def test_depth_is_bounded_where_a_handle_is_deeper() -> None:
    def nested(value: object, depth: int) -> object:
        return value if depth == 0 else nested([value], depth - 1)

    dag = DAG()
    one = dag.call(number)

    dag.call(same, nested(one, 90))
    dag.call(same, [one, nested(1, 500)])
    with pytest.raises(InvalidFunctionError, match="nested deeper than 100 containers"):
        dag.call(same, nested(one, 500))


def test_shared_containers_are_copied_once_each() -> None:
    dag = DAG()
    doubled: list[Any] = [dag.call(number)]
    for _ in range(60):
        doubled = [doubled, doubled]

    dag.call(same, doubled)

    assert len(dag) == 2


def test_missing_function_within_a_container_is_named() -> None:
    dag = DAG()
    dag.call(same, [Argument("gone")], id="f")

    with pytest.raises(MissingFunctionError, match="'f' takes the result of 'gone'"):
        dag.validate()


def test_handle_of_another_dag_within_a_container_is_refused() -> None:
    stranger = DAG().call(number)

    with pytest.raises(InvalidFunctionError, match="belongs to another DAG"):
        DAG().call(same, {"key": [stranger]})


# --- Other members ----------------------------------------------------------------------------------------------


def test_objects_within_containers_are_replaced_in_copies() -> None:
    half, plain, shared = Fraction(1, 2), [1, [2.0]], [Fraction(3)]
    within_itself: list[Any] = [plain]
    within_itself.append(within_itself)

    assert replaced(half, Fraction, str) == "1/2"
    assert replaced("a", Fraction, str) == "a"
    assert replaced(plain, Fraction, str) is plain
    assert replaced(within_itself, Fraction, str) is within_itself
    assert replaced([plain, (half, {"a": [half]})], Fraction, str) == [plain, ("1/2", {"a": ["1/2"]})]
    copied: Any = replaced([shared, shared], Fraction, str)
    assert copied == [["3"], ["3"]]
    assert copied[0] is copied[1]


def test_other_objects_are_not_looked_into() -> None:
    opaque = Opaque(Fraction(1))

    assert replaced(opaque, Fraction, str) is opaque
