import pytest
from hypothesis import given, strategies as st

from handoff_actors.core.cluster.node_demand import WORTHWHILE_S, nodes_needed
from handoff_actors.ids import Resources
from handoff_actors.wire.messages.members import Backlog

OFFER: Resources = {"cpu": 4.0, "memory": 8000.0, "gpu": 1.0}
MANY = 1000


def needed(*backlogs: Backlog, at_most: int = MANY, for_s: float | None = None) -> int:
    return nodes_needed(backlogs, OFFER, at_most, for_s)


@pytest.mark.parametrize(
    ("count", "cost", "nodes"),
    [
        (0, {"cpu": 1.0}, 0),
        (1, {"cpu": 1.0}, 1),
        (4, {"cpu": 1.0}, 1),
        (5, {"cpu": 1.0}, 2),
        (5, {}, 2),
        (10, {"cpu": 0.1}, 1),
        (3, {"cpu": 3.0}, 3),
        (4, {"cpu": 1.0, "memory": 4000.0}, 2),
        (3, {"gpu": 1.0}, 3),
        (3, {"gpu": 0.5}, 2),
        (100, {"disk": 0.0}, 1),
    ],
)
def test_functions_are_packed_by_their_scarcest_resource(count: int, cost: Resources, nodes: int) -> None:
    assert needed(Backlog(count, cost)) == nodes


def test_functions_with_different_claims_share_a_node() -> None:
    large, small, gpu = Backlog(1, {"cpu": 3.0}), Backlog(1, {"cpu": 1.0}), Backlog(1, {"gpu": 1.0})

    assert needed(small, gpu, large) == 1


@pytest.mark.parametrize("cost", [{"cpu": 5.0}, {"tpu": 1.0}])
def test_function_that_such_a_node_could_not_run_needs_none(cost: Resources) -> None:
    assert needed(Backlog(10, cost)) == 0


def test_function_that_could_not_end_while_the_node_is_there_needs_none() -> None:
    backlog = Backlog(10, {"cpu": 4.0}, usual_s=600.0, least_s=60.0)

    assert needed(backlog, for_s=59.0) == 0
    assert needed(backlog, for_s=60.0) == 10


def test_no_more_nodes_are_needed_than_may_be_had() -> None:
    assert needed(Backlog(100, {"cpu": 4.0}), at_most=3) == 3
    assert needed(Backlog(100, {"cpu": 4.0}), at_most=0) == 0


def test_work_that_is_done_soon_needs_few_nodes() -> None:
    assert needed(Backlog(100, {"cpu": 4.0}, usual_s=0.001)) == 1
    assert needed(Backlog(100, {"cpu": 4.0}, usual_s=0.0)) == 1
    assert needed(Backlog(100, {"cpu": 4.0}, usual_s=WORTHWHILE_S / 10)) == 10
    assert needed(Backlog(100, {"cpu": 4.0}, usual_s=10 * WORTHWHILE_S)) == 100


@given(
    backlogs=st.lists(
        st.builds(
            Backlog,
            st.integers(0, 50),
            st.dictionaries(
                st.sampled_from(["cpu", "memory", "gpu", "tpu"]), st.sampled_from([0.0, 0.5, 1.0, 3.0, 9.0])
            ),
            st.none() | st.floats(0, 100),
        ),
        max_size=6,
    ),
    at_most=st.integers(0, 20),
)
def test_needed_nodes_are_neither_more_than_functions_nor_than_may_be_had(
    backlogs: list[Backlog], at_most: int
) -> None:
    nodes = needed(*backlogs, at_most=at_most)

    assert 0 <= nodes <= min(at_most, sum(backlog.count for backlog in backlogs))
    assert nodes >= needed(*backlogs[:1], at_most=at_most)
