"""What errors and stories call functions that other functions have added."""

import pytest

from handoff_actors.core.run.facts.origins import Origins
from handoff_actors.core.run.facts.part import ProgramPart
from handoff_actors.core.run.growing.expanded_program import child_id
from handoff_actors.graph import DAG, Function, Plan
from handoff_actors.graph.naming import CodeName
from handoff_actors.ids import FunctionId


def part(parent: int, result_name: str = "", items: int = 0, stages: int = 0) -> ProgramPart:
    return ProgramPart((), (), (), (), (), parent=parent, result_name=result_name, items=items, stages=stages)


def origins_of(function_id: FunctionId, its_part: ProgramPart | None) -> Origins:
    """Those of a run with one function."""
    plan = Plan.compile(DAG().add_functions([Function(function_id, (), CodeName("outer.<locals>.load"))]))
    return Origins(plan, {} if its_part is None else {0: its_part})


@pytest.mark.parametrize("its_part", [None, part(parent=-1)])
def test_a_function_that_no_other_has_added_goes_by_its_id(its_part: ProgramPart | None) -> None:
    origins = origins_of("a", its_part)

    assert (origins.name(0), origins.stand_in(0)) == ("'a'", "")


def test_a_function_in_place_of_another_goes_by_both_ids() -> None:
    origins = origins_of("a", part(parent=0, result_name="'leaf'"))

    assert origins.name(0) == "'a' (in 'leaf', which it has returned as its result)"
    assert origins.stand_in(0) == "'leaf'"


def test_the_list_of_a_map_goes_by_the_id_of_the_map() -> None:
    origins = origins_of("map-1", part(parent=0, items=3, stages=1))

    assert (origins.name(0), origins.stand_in(0)) == ("'map-1'", "")


def test_a_function_beside_the_result_goes_by_its_code_too() -> None:
    origins = origins_of("a/1", part(parent=7, result_name="'leaf'"))

    assert (origins.name(0), origins.stand_in(0)) == ("'a/1' (load)", "")


@pytest.mark.parametrize("parent", ["a", "a/2", ("a", 1), "long" * 50])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize(("number", "facts"), [(0, "load of item 0"), (5, "load of item 2"), (6, "load")])
def test_a_function_of_a_map_goes_by_its_item_too(
    parent: FunctionId, step: int, number: int, facts: str
) -> None:
    origins = origins_of(child_id(parent, step, number), part(parent=7, items=3, stages=2))

    assert origins.facts(0) == facts


def test_the_copy_of_a_parent_belongs_to_no_item() -> None:
    origins = origins_of(child_id("a", 1, "parts"), part(parent=7, items=3, stages=2))

    assert origins.facts(0) == "load"
