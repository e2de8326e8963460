"""Values of other runs among the arguments of functions."""

import pytest

from handoff_actors.errors import InvalidFunctionError
from handoff_actors.graph import DAG, Argument, Constant, Function, Plan, collocated
from handoff_actors.graph.argument import RunValue
from handoff_actors.graph.dag import set_latest_run
from handoff_actors.graph.function import producer_ids
from handoff_actors.graph.growing_dag import renamed
from handoff_actors.graph.placing import Skeleton
from handoff_actors.graph.run_if import conditions_among
from handoff_actors.ids import FunctionId


def same(*args: object, **kwargs: object) -> object:
    return args


class Values:
    """A run of a DAG, of which there is one value."""

    def __init__(self, function_id: FunctionId) -> None:
        self._function_id = function_id
        self.value = RunValue()

    def value_of(self, function_id: FunctionId) -> RunValue | None:
        return self.value if function_id == self._function_id else None


def test_a_value_by_itself_is_a_constant_and_needs_no_place() -> None:
    dag, value = DAG(), RunValue()
    dag.call(same, value, 1, id="f")
    dag.add_function(Function("g", [value], same))

    plan = Plan.compile(dag)

    assert [spec for spec in plan.args[0] if plan.values[~spec] is value]  # type: ignore[operator]
    assert plan.values == [value, 1]
    assert not plan.placed


def test_a_value_within_containers_gets_a_place() -> None:
    dag, value = DAG(), RunValue()
    dag.call(same, [value], named={"a": value}, id="f")

    plan = Plan.compile(dag)

    assert isinstance(dag.functions["f"].argument_inclusion, Skeleton)
    assert plan.values == [value]
    assert plan.placed == {0}


def test_handles_of_another_dag_stand_for_the_values_of_its_run() -> None:
    other, dag = DAG(), DAG()
    handle = other.call(same, id="made")
    values = Values("made")
    set_latest_run(other, values)

    dag.call(same, handle, [handle], id="f")

    assert Plan.compile(dag).values == [values.value]


def test_handles_of_a_run_that_nobody_refers_to_are_refused() -> None:
    other = DAG("other")
    handle = other.call(same, id="made")
    set_latest_run(other, Values("made"))

    with pytest.raises(InvalidFunctionError, match="run the other first and keep its Run"):
        DAG().call(same, handle)


def test_handles_without_a_value_in_the_latest_run_are_refused() -> None:
    other = DAG("other")
    handle = other.call(same, id="unfinished")
    values = Values("made")
    set_latest_run(other, values)

    with pytest.raises(InvalidFunctionError, match="belongs to another DAG, 'other'"):
        DAG().call(same, [handle])


def test_values_have_neither_hooks_nor_a_node_to_be_collocated_with() -> None:
    with pytest.raises(
        InvalidFunctionError, match="is of another run: pass it as an argument, without hooks"
    ):
        DAG().call(same, Argument(RunValue(), serialize=same))
    with pytest.raises(InvalidFunctionError, match="is of another run"):
        DAG().call(same, node=collocated(RunValue()))


def test_a_value_within_a_constant_of_args_is_found() -> None:
    dag, value = DAG(), RunValue()
    dag.add_function(Function("f", [Constant([value])], same))

    assert Plan.compile(dag).values == [value]


def test_values_are_conditions() -> None:
    dag, value = DAG(), RunValue()
    own = dag.call(same, id="own")
    one = dag.call(same, id="one", when=value)
    several = dag.call(same, 5, id="several", when=[own, value])

    dag.validate()
    plan = Plan.compile(dag)

    assert [producer_ids(dag.functions[each.id]) for each in (one, several)] == [[], ["own"]]
    assert [plan.producers[plan.index(each)] for each in (one, several)] == [(), (plan.index(own),)]
    for handle in (one, several):
        condition = conditions_among(plan, plan.index(handle))[-1]
        assert isinstance(condition, int)
        assert plan.values[~condition] is value
    again = renamed(dag.functions, 2)
    assert again["several@2"].when == ["own@2", dag.functions["several"].when[1]]  # type: ignore[index]
