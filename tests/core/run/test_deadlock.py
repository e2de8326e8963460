from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from handoff_actors.core.run.deadlock import NestedWait, NodeFacts, Room, deadlocked, holdings_on
from handoff_actors.ids import Resources, RunId
from handoff_actors.wire.messages.nested import Ancestor, Holding, Want

CPU = Want({"cpu": 1.0}, is_async=False)
FREE = Want({}, is_async=False)


def holding(
    run: int, cost: Resources, *, devices: Sequence[int] = (), has_worker: bool = False, index: int = 0
) -> Holding:
    return Holding(Ancestor(RunId(run), index, 1), "'f'", cost, list(devices), has_worker)


def cpu(run: int, amount: float = 1.0, *, index: int = 0) -> Holding:
    return holding(run, {"cpu": amount}, index=index)


def node(cpu: float = 2.0, **more: float) -> NodeFacts:
    return NodeFacts({"cpu": cpu, **more}, 2, 4, "3.11")


def test_run_that_needs_what_its_own_ancestor_holds_waits_for_ever() -> None:
    waiting = {RunId(1): NestedWait([CPU], {"a": [cpu(9)]})}

    assert deadlocked({"a": node(cpu=1)}, waiting) == waiting
    assert deadlocked({"a": node(cpu=2)}, waiting) == {}


def test_runs_that_need_what_ancestors_of_one_another_hold_wait_for_ever() -> None:
    waiting = {RunId(run): NestedWait([CPU], {"a": [cpu(9, index=run)]}) for run in (1, 2)}

    assert deadlocked({"a": node(cpu=2)}, waiting) == waiting
    assert deadlocked({"a": node(cpu=2), "b": node(cpu=1)}, waiting) == {}


def test_run_goes_on_once_another_one_can() -> None:
    modest = NestedWait([CPU], {"a": [cpu(9, index=1)]})
    greedy = NestedWait([Want({"cpu": 2.0}, is_async=False)], {"a": [cpu(9, index=2)]})

    assert deadlocked({"a": node(cpu=3)}, {RunId(1): modest, RunId(2): greedy}) == {}
    assert deadlocked({"a": node(cpu=2)}, {RunId(1): modest, RunId(2): greedy}).keys() == {1, 2}


def test_ancestor_of_two_runs_comes_free_with_the_last_of_them() -> None:
    shared = cpu(9)
    going_on = NestedWait([Want({}, is_async=True)], {"a": [shared]})
    stuck = NestedWait([CPU], {"a": [shared]})

    assert deadlocked({"a": node(cpu=1)}, {RunId(1): going_on, RunId(2): stuck}) == {RunId(2): stuck}
    assert holdings_on("a", [going_on, stuck]) == [shared]


def test_one_function_that_could_start_is_enough() -> None:
    waiting = {RunId(1): NestedWait([CPU, Want({}, is_async=True)], {"a": [cpu(9)]})}

    assert deadlocked({"a": node(cpu=1)}, waiting) == {}


@pytest.mark.parametrize(
    ("want", "held", "lacks"),
    [
        (CPU, [cpu(9, 2.0)], ["cpu"]),
        (Want({"cpu": 1.0, "gpu": 1.0}, is_async=False), [cpu(9, 2.0)], ["cpu"]),
        # Two devices are half free, but none is whole.
        (
            Want({"gpu": 1.0}, is_async=True),
            [
                holding(9, {"gpu": 0.5}, devices=[0]),
                holding(9, {"gpu": 0.5}, devices=[1], index=1),
            ],
            ["gpu"],
        ),
        (FREE, [holding(9, {}, has_worker=True, index=index) for index in range(2)], ["workers"]),
        (CPU, [holding(9, {}, has_worker=True, index=index) for index in range(2)], []),
        (CPU, [holding(9, {}, has_worker=True, index=index) for index in range(4)], ["workers"]),
        (
            Want({"cpu": 1.0}, is_async=True),
            [holding(9, {}, has_worker=True, index=index) for index in range(4)],
            [],
        ),
    ],
)
def test_room_says_what_it_lacks(want: Want, held: list[Holding], lacks: list[str]) -> None:
    room = Room(node(gpu=2.0), held)

    assert room.scarce(want) == lacks
    assert room.could_start("a", want) == (not lacks)


def test_only_nodes_that_may_run_a_function_count() -> None:
    room = Room(node(), [])

    assert room.could_start("a", Want({}, is_async=False, nodes=["b", "a"]))
    assert not room.could_start("a", Want({}, is_async=False, nodes=["b"]))
    assert room.could_start("a", Want({}, is_async=False, python="3.11"))
    assert not room.could_start("a", Want({}, is_async=False, python="3.12"))
    assert not Room(NodeFacts({"cpu": 2.0}, 2, 4, is_leaving=True), []).could_start("a", FREE)


amounts = st.integers(1, 3).map(float)
# What a function holds is the same for all whose ancestor it is.
held = st.integers(9, 12).map(lambda run: cpu(run, run % 3 + 1.0))
waits = st.builds(
    NestedWait,
    st.lists(st.builds(Want, st.fixed_dictionaries({"cpu": amounts}), st.booleans()), min_size=1, max_size=2),
    st.dictionaries(st.sampled_from("ab"), st.lists(held, max_size=2)),
)


@given(st.dictionaries(st.integers(1, 6).map(RunId), waits), amounts, amounts)
def test_runs_that_are_left_are_the_largest_set_without_a_way_out(
    waiting: dict[RunId, NestedWait], first: float, second: float
) -> None:
    nodes = {"a": node(cpu=first), "b": node(cpu=second)}

    stuck = deadlocked(nodes, waiting)

    rooms = {name: Room(facts, holdings_on(name, stuck.values())) for name, facts in nodes.items()}
    for state in stuck.values():
        assert not any(room.could_start(name, want) for want in state.wants for name, room in rooms.items())
    # Adding any of the others leaves nobody out: asked again among themselves, they all go on.
    assert deadlocked(nodes, stuck) == stuck
    for run in waiting.keys() - stuck.keys():
        assert run not in deadlocked(nodes, {**stuck, run: waiting[run]})


def test_node_without_workers_runs_no_coroutine_either() -> None:
    facts = NodeFacts({}, 0, 0, "3.11")

    assert not Room(facts, []).could_start("alloc", Want({}, is_async=True))
