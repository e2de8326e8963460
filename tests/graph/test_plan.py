import functools
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from handoff_actors.errors import InvalidFunctionError, MissingFunctionError
from handoff_actors.graph import (
    DAG,
    Argument,
    CallSpec,
    Constant,
    Function,
    Hook,
    HookId,
    NodeOf,
    Plan,
    TemplateSpec,
    collocated,
)
from handoff_actors.graph.plan import check_for_run


def add(*values: Any) -> Any:
    return sum(values)


async def add_async(*values: Any) -> Any:
    return sum(values)


def pack(value: Any, source: str, target: str) -> Any:
    return (value, source, target)


def unpack(value: Any, source: str, target: str) -> Any:
    return (value, source, target)


class Adder:
    def add(self, *values: Any) -> Any:
        return sum(values)


def compile_functions(*functions: Function, local: bool = False) -> Plan:
    return Plan.compile(DAG("dag").add_functions(functions), local=local)


def regular(function_id: str, *args: Any, **options: Any) -> Function:
    return Function(function_id, args, add, **options)


def inline(function_id: str, *args: Any, **options: Any) -> Function:
    return Function(function_id, args, add, type="inline", **options)


def test_index_is_found_by_id_and_by_handle() -> None:
    dag = DAG("mine")
    handles = [dag.call(add) for _ in range(2)]

    plan = Plan.compile(dag)

    assert (
        [plan.index(handle) for handle in handles] == [plan.index(handle.id) for handle in handles] == [0, 1]
    )
    assert [plan.find(handle) for handle in (*handles, "add-2", "add-3")] == [0, 1, 1, None]
    assert plan.find(DAG("other").call(add)) is None
    assert plan.id_of(handles[1]) == plan.id_of("add-2") == "add-2"


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ("add", "has no function 'add' with a result of its own; near it: 'add-1', 'add-2'"),
        ("dd-2", "near it: 'add-2', 'add-1'"),
        ("nothing like it", "it has 'add-1', 'add-2', 7, 8, 9, ..."),
        (11, "it has 'add-1', 'add-2', 7, 8, 9, ..."),
        ("folded", "it has 'add-1', 'add-2', 7, 8, 9, ..."),
    ],
)
def test_unknown_id_is_an_error_with_ids_that_are_near(asked_for: Any, message: str) -> None:
    dag = DAG("mine")
    for function_id in ("add-1", "add-2", 7, 8, 9, 10):
        dag.add_function(Function(function_id, [], add))
    dag.add_function(Function("folded", [], add, type="inline"))

    with pytest.raises(KeyError, match=re.escape(f"DAG 'mine' has no function {asked_for!r}")) as caught:
        Plan.compile(dag).index(asked_for)

    assert message in str(caught.value)


def test_empty_plan_has_no_id_to_propose() -> None:
    with pytest.raises(KeyError, match=r"of its own\"$"):
        Plan.compile(DAG("mine")).index("f")


def test_handle_of_another_dag_is_no_key() -> None:
    plan = Plan.compile(DAG("mine").add_function(Function("add-1", [], add)))

    with pytest.raises(
        KeyError, match=r"Handle\(id='add-1'\) belongs to DAG 'other', and this is a run of DAG 'mine'"
    ):
        plan.index(DAG("other").call(add))


def test_empty_dag_has_an_empty_plan() -> None:
    plan = compile_functions()

    assert (plan.size, plan.ids, plan.args, plan.sinks, plan.templates) == (0, [], [], [], [])


def test_branching_dag_becomes_dense_integers_in_the_order_of_adding() -> None:
    plan = compile_functions(
        regular("d", "b", "c", "b"), regular("b", "a"), regular("c", "a"), regular("a"), regular("lone")
    )

    assert plan.dag_id == "dag"
    assert plan.ids == ["d", "b", "c", "a", "lone"]
    assert plan.index_of == {"d": 0, "b": 1, "c": 2, "a": 3, "lone": 4}
    assert plan.args == [(1, 2, 1), (3,), (3,), (), ()]
    assert plan.producers == [(1, 2), (3,), (3,), (), ()]
    assert plan.dependents == [(), (0,), (0,), (1, 2), ()]
    assert plan.bottom_level == [1, 2, 2, 3, 1]
    assert plan.sinks == [0, 4]
    assert (plan.hooks, plan.hook_of) == ([], {})


def test_invalid_dag_has_no_plan() -> None:
    with pytest.raises(MissingFunctionError):
        compile_functions(regular("a", "gone"))


@pytest.mark.parametrize(
    "option",
    [
        {"init": dict},
        {"init": dict, "finish": list},
        {"parallelism": 2},
        {"parallelism": (1, 2)},
        {"key": len},
        {"batch_size": 3},
        {"batch_timeout": 0.5},
    ],
)
def test_options_of_streams_have_no_plan(option: dict[str, Any]) -> None:
    name = next(iter(option))

    with pytest.raises(InvalidFunctionError, match=f"'a': {name} is an option of streams, and this is a run"):
        compile_functions(Function("a", [], add, **option))


def test_one_function_is_checked_for_runs_by_itself() -> None:
    check_for_run(Function("a", [], add))

    with pytest.raises(InvalidFunctionError, match="'a': key is an option of streams"):
        check_for_run(Function("a", [], add, key=len))


def numbers() -> Iterator[int]:
    yield 1


def test_generator_functions_have_no_plan() -> None:
    with pytest.raises(InvalidFunctionError, match=r"'b': code is a generator function, .*; return a list"):
        compile_functions(Function("a", [], add), Function("b", [], numbers))


@pytest.mark.parametrize("local", [True, False])
def test_input_has_no_plan(local: bool) -> None:
    with pytest.raises(
        InvalidFunctionError, match=r"an input, which only a stream gives a value, .* pass the value"
    ):
        compile_functions(Function("a", [], None, type="input"), local=local)


def test_options_reach_the_plan() -> None:
    plan = compile_functions(
        regular("a", priority=5, max_retries=0, retry_backoff=[1, 2, 3]),
        Function("b", [], dict, extra_args=[1], kwargs={"c": 2}, node="node-a"),
    )

    assert plan.priority == [5, 0]
    assert plan.max_retries == {0: 0}
    assert plan.retry_backoff == {0: (1.0, 2.0, 3.0)}
    assert plan.constants_of == [-1, 0]
    assert plan.constants == [((1,), {"c": 2})]
    assert plan.node_of == [None, "node-a"]


def test_functions_that_differ_in_nothing_share_a_template() -> None:
    adder = Adder()
    plan = compile_functions(
        regular("a"),
        regular("b", "a", extra_args=[1], priority=1),
        regular("c", cost={}),
        regular("d", cost={"cpu": 1, "memory": 5}),
        regular("e", cost={"memory": 5, "cpu": 1.0}),
        regular("f", argument_inclusion="as_list"),
        regular("g", timeout=Fraction(2)),
        Function("h", [], add_async),
        Function("i", [], adder.add),
        Function("j", [], adder.add),
        Function("k", [], Adder().add),
    )

    assert type(plan.templates[3].timeout) is float
    assert plan.template_of == [0, 0, 0, 1, 1, 2, 3, 4, 5, 5, 6]
    assert plan.templates[:5] == [
        TemplateSpec(add, is_async=False, as_list=False, cost={}, timeout=None),
        TemplateSpec(add, is_async=False, as_list=False, cost={"cpu": 1.0, "memory": 5.0}, timeout=None),
        TemplateSpec(add, is_async=False, as_list=True, cost={}, timeout=None),
        TemplateSpec(add, is_async=False, as_list=False, cost={}, timeout=2.0),
        TemplateSpec(add_async, is_async=True, as_list=False, cost={}, timeout=None),
    ]


def test_constants_become_numbered_values_shared_by_identity() -> None:
    shared = [1, 2]
    plan = compile_functions(
        regular("a", Constant(shared), Constant(1)), regular("b", Constant(True), "a", Constant(shared))
    )

    assert plan.values == [[1, 2], 1, True]
    assert plan.values[0] is shared
    assert plan.args == [(~0, ~1), (~2, 0, ~0)]
    assert plan.producers == [(), (0,)]


def test_inline_functions_are_folded_into_each_consumer() -> None:
    plan = compile_functions(
        regular("c", "i", "a"),
        inline("i", "h", "a", Constant(7), extra_args=[5]),
        regular("d", "i", "i"),
        inline("h", "b", argument_inclusion="as_list"),
        regular("a"),
        regular("b"),
        inline("unused", "c"),
    )

    assert plan.ids == ["c", "d", "a", "b"]
    call = CallSpec(1, (CallSpec(0, (3,), -1), 2, ~0), 0)
    assert [spec.as_list for spec in plan.templates] == [True, False]
    assert plan.args == [(call, 2), (call, call), (), ()]
    assert plan.producers == [(3, 2), (3, 2), (), ()]
    assert plan.sinks == [0, 1]
    assert plan.constants == [((5,), {})]


def test_diamonds_of_inline_functions_are_shared_within_a_consumer() -> None:
    diamonds = [inline(f"i{number}", f"i{number - 1}", f"i{number - 1}") for number in range(1, 10)]
    plan = compile_functions(regular("a"), inline("i0", "a"), *diamonds, regular("b", "i9"))

    spec = plan.args[1][0]

    for _ in range(9):
        assert isinstance(spec, CallSpec)
        assert spec.args[0] is spec.args[1]
        spec = spec.args[0]
    assert plan.producers[1] == (0,)


def test_inline_diamonds_that_stand_for_too_many_calls_are_refused() -> None:
    diamonds = [inline(f"i{number}", f"i{number - 1}", f"i{number - 1}") for number in range(1, 60)]

    with pytest.raises(InvalidFunctionError, match="'i16': it stands for 131071 inline calls"):
        compile_functions(inline("i0"), *diamonds, regular("b", "i59"))


def inline_chain(length: int) -> list[Function]:
    return [inline("i0"), *(inline(f"i{number}", f"i{number - 1}") for number in range(1, length))]


def test_inline_functions_nest_up_to_the_limit() -> None:
    plan = compile_functions(*inline_chain(200), regular("a", "i199"))

    depth, spec = 0, plan.args[0]
    while spec:
        assert isinstance(spec[0], CallSpec)
        depth, spec = depth + 1, spec[0].args
    assert depth == 200


@pytest.mark.parametrize("length", [201, 10_000])
def test_inline_functions_that_nest_deeper_are_refused(length: int) -> None:
    with pytest.raises(
        InvalidFunctionError, match="'i200': its inline functions nest 201 deep, 200 is the most"
    ):
        compile_functions(*inline_chain(length), regular("a", f"i{length - 1}"))


def test_hooks_count_as_nesting() -> None:
    hooked = inline("hooked", Argument("i198", serialize=pack, deserialize=unpack))

    with pytest.raises(InvalidFunctionError, match="'hooked': its inline functions nest 202 deep"):
        compile_functions(*inline_chain(199), hooked)


def test_serialize_hook_is_a_function_between_producer_and_consumer() -> None:
    plan = compile_functions(
        regular("p", node="node-a"),
        regular("q"),
        regular(
            "c", "q", Argument("p", serialize=pack), cost={"cpu": 1}, priority=3, max_retries=1, timeout=9
        ),
    )

    assert plan.size == 4
    assert plan.ids[3] == HookId("serialize", "p", "c", 1)
    assert plan.index_of == {"p": 0, "q": 1, "c": 2}
    assert plan.hooks == [Hook(3, producer=0, consumer=2)]
    assert plan.hook_of == {3: plan.hooks[0]}
    assert plan.args == [(), (), (1, 3), (0, NodeOf(0), NodeOf(2))]
    assert plan.producers == [(), (), (1, 3), (1, 0)]
    assert plan.dependents == [(3,), (2, 3), (), (2,)]
    assert plan.bottom_level == [3, 3, 1, 2]
    assert plan.priority == [0, 0, 3, 3]
    assert plan.max_retries == {2: 1, 3: 1}
    assert plan.sinks == [2]
    template = plan.templates[plan.template_of[3]]
    assert template == TemplateSpec(pack, is_async=False, as_list=False, cost={}, timeout=None)
    assert (plan.constants_of[3], plan.node_of[3], plan.group_of[3]) == (-1, None, -1)


def test_producer_that_is_also_taken_directly_stays_a_producer() -> None:
    plan = compile_functions(regular("p"), regular("c", Argument("p", serialize=pack), "p", Argument("p")))

    assert plan.args[1] == (2, 0, 0)
    assert plan.producers == [(), (2, 0), (0,)]


def test_each_serialize_argument_is_a_hook_of_its_own() -> None:
    argument = Argument("p", serialize=pack)
    plan = compile_functions(regular("p"), regular("c", argument, argument))

    assert plan.ids[2:] == [HookId("serialize", "p", "c", 0), HookId("serialize", "p", "c", 1)]
    assert plan.producers == [(), (2, 3), (0,), (0,)]


def test_deserialize_hook_is_a_call_in_the_consumer() -> None:
    static = functools.partial(unpack)
    plan = compile_functions(
        regular("p"),
        regular("c", Argument("p", deserialize=static)),
        regular("d", Argument("p", serialize=pack, deserialize=static)),
    )

    codes = [template.code for template in plan.templates]
    number = codes.index(static)
    assert plan.args == [
        (),
        (CallSpec(number, (0, NodeOf(0), NodeOf(1)), -1),),
        (CallSpec(number, (3, NodeOf(0), NodeOf(2)), -1),),
        (0, NodeOf(0), NodeOf(2)),
    ]
    assert plan.producers == [(), (0,), (3,), (0,)]


def test_hooks_on_an_inline_producer_run_in_the_consumers_worker() -> None:
    plan = compile_functions(
        inline("i"),
        regular("c", Argument("i", serialize=pack, deserialize=unpack)),
        regular("d", Argument("i", deserialize=unpack)),
    )

    by_code = {template.code: number for number, template in enumerate(plan.templates)}
    call = CallSpec(by_code[add], (), -1)
    packed = CallSpec(by_code[pack], (call, NodeOf(0), NodeOf(0)), -1)
    assert plan.hooks == []
    assert plan.args == [
        (CallSpec(by_code[unpack], (packed, NodeOf(0), NodeOf(0)), -1),),
        (CallSpec(by_code[unpack], (call, NodeOf(1), NodeOf(1)), -1),),
    ]


def test_hooks_of_an_inline_consumer_belong_to_each_real_consumer() -> None:
    plan = compile_functions(
        regular("p"),
        inline("i", Argument("p", serialize=pack)),
        regular("c", "i", "i"),
        regular("d", Argument("p", serialize=pack), "i"),
    )

    assert plan.ids[3:] == [
        HookId("serialize", "p", "c", 2),
        HookId("serialize", "p", "d", 2),
        HookId("serialize", "p", "d", 0),
    ]
    assert plan.hooks == [Hook(3, 0, 1), Hook(4, 0, 2), Hook(5, 0, 2)]
    assert plan.producers == [(), (3,), (5, 4), (0,), (0,), (0,)]
    assert plan.bottom_level == [3, 1, 1, 2, 2, 2]


def test_collocated_functions_form_groups_that_share_the_pin_of_their_root() -> None:
    plan = compile_functions(
        regular("far", node=collocated("near")),
        regular("lone", node="node-b"),
        regular("near", node=collocated("root")),
        regular("root", node="node-a"),
        regular("x"),
        regular("y", node=collocated("x")),
        Function("i", [], add, type="inline"),
    )

    assert plan.groups == [(0, 2, 3), (4, 5)]
    assert plan.group_of == [0, -1, 0, 0, 1, 1]
    assert plan.node_of == ["node-a", "node-b", "node-a", "node-a", None, None]


def test_local_plan_ignores_costs_and_placements() -> None:
    plan = compile_functions(
        regular("a", node="node-a", cost={"gpu": 8}),
        regular("b", node=collocated("a"), timeout=1.0),
        local=True,
    )

    assert plan.node_of == [None, None]
    assert (plan.groups, plan.group_of) == ([], [-1, -1])
    assert [template.cost for template in plan.templates] == [{}, {}]
    assert [template.timeout for template in plan.templates] == [None, 1.0]


def test_local_plan_of_an_impossible_placement_is_refused_too() -> None:
    with pytest.raises(MissingFunctionError):
        compile_functions(regular("a", node=collocated("gone")), local=True)
