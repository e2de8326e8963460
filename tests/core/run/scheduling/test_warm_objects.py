"""Functions that need objects of `per_worker`: what they claim, and on which nodes they are placed."""

import pytest
from msgspec.structs import replace

from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.run.facts.part import ProgramPart
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.python_affinity import NO_AFFINITY
from handoff_actors.core.run.scheduling.requirements import Requirements
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.core.run.scheduling.warm_nodes import WarmNodes
from handoff_actors.errors import AllocationError
from handoff_actors.graph import Function, PerWorker, Plan, collocated, per_worker
from handoff_actors.graph.dag import DAG
from handoff_actors.ids import Resources
from handoff_actors.wire.messages.members import WarmCopies
from tests.core.builders import (
    assigned,
    async_code,
    code,
    completed,
    done,
    job_in,
    node_up,
    run_of,
)


def load(*_: object) -> None: ...


def model(cost: Resources | None = None, name: str = "model") -> PerWorker[None]:
    return per_worker(load, name, cost=cost)


def user(
    index: int, *models: PerWorker[None], cost: Resources | None = None, is_async: bool = False
) -> Function:
    return Function(index, [*models], async_code if is_async else code, cost=cost)


def with_objects(event: NodeUp, *names: str) -> NodeUp:
    """The node's advert, in which it has these objects."""
    return replace(
        event, warm=[WarmCopies(f"load({name!r})".encode(), f"load({name!r})", 1, 0) for name in names]
    )


def needs_of(*functions: Function) -> Requirements:
    return Requirements(Plan.compile(DAG().add_functions(functions)))


def told(run: RunMachine, load_: SessionLoad, *events: NodeUp) -> list[tuple[str, list[int]]]:
    sent: list[tuple[str, list[int]]] = []
    for event in events:
        load_.node_up(event)
        sent += assigned(run.handle(event, 1.0))
    return sent


# --- Claims -------------------------------------------------------------------------------------------------------


def test_a_function_claims_what_its_objects_do() -> None:
    one, other = model({"gpu": 1, "memory": 100}), model({"memory": 50}, "other")

    needs = needs_of(
        user(0, one, other, one, cost={"cpu": 1, "memory": 1}),
        user(1, one),
        user(2),
        user(3, model({"cpu": 2}, "3")),
    )

    first, second, plain, third = needs.of
    assert (first.cost, first.least) == ({"cpu": 1, "memory": 151, "gpu": 1},) * 2
    assert (second.cost, second.own) == ({"gpu": 1, "memory": 100}, {})
    assert (plain.cost, plain.warm) == ({}, {})
    assert third.cost == {"cpu": 2}
    assert needs.warm.keys() == {0, 1, 3}


def test_coroutines_share_the_claim_of_an_object() -> None:
    (need,) = needs_of(user(0, model({"memory": 100}), cost={"cpu": 1}, is_async=True)).of

    assert (need.cost, need.least) == ({"cpu": 1}, {"cpu": 1, "memory": 100})


def test_objects_of_inline_functions_count_once_however_they_are_reached() -> None:
    inline = Function("inline", [model({"memory": 100})], code, type="inline")
    twice = Function("twice", ["inline", "inline"], code, type="inline")

    (need,) = needs_of(inline, twice, Function("f", ["twice", "inline"], code)).of

    assert need.cost == {"memory": 100}


def test_groups_claim_the_objects_of_their_members() -> None:
    first = user(0, model({"memory": 100}))
    second = replace_node(user(1, model({"memory": 100}), cost={"cpu": 1}), 0)

    needs = needs_of(first, second)

    assert needs.sum_of_group[0].cost == {"cpu": 1, "memory": 200}
    assert needs.peak_of_group[0].cost == {"cpu": 1, "memory": 100}


def replace_node(function: Function, partner: int) -> Function:
    function.node = collocated(partner)
    return function


def test_an_index_that_is_used_again_needs_no_object_of_before() -> None:
    plan = Plan.compile(DAG().add_functions([user(0, model({"gpu": 1}))]))
    needs = Requirements(plan)

    needs.add(
        plan, ProgramPart([0], [1], [], [], []), Plan.compile(DAG().add_functions([user(0)])), NO_AFFINITY
    )

    assert (needs.warm, needs.of[0].cost) == ({}, {})


def test_a_node_that_could_never_hold_the_object_is_sent_nothing() -> None:
    load_ = SessionLoad()
    run = run_of(user(0, model({"memory": 100}), is_async=True), load=load_)
    run.start(0.0)

    assert told(run, load_, node_up("a", {"cpu": 1.0, "memory": 99.0})) == []
    assert run.scheduler.room(run.scheduler.needs.of[0]) == 0
    assert told(run, load_, node_up("b", {"cpu": 1.0, "memory": 100.0})) == [("b", [0])]


@pytest.mark.parametrize("node", [None, "a"])
def test_an_error_says_which_part_of_the_need_is_that_of_an_object(node: str | None) -> None:
    models = model({"gpu": 1.0}), model(name="free")
    function = Function("use", models, code, cost={"cpu": 1.0}, node=node)
    run = run_of(function, nodes_may_join=False, on_failure="continue")
    run.start(0.0, [node_up("a", {"cpu": 2.0})])

    run.wake(0.0)

    error = run.view.failures[0].error
    assert isinstance(error, AllocationError)
    assert error.need == {"cpu": 1.0, "gpu": 1.0}
    assert error.reason.startswith(
        "needs {'cpu': 1.0, 'gpu': 1.0} (of that {'gpu': 1.0} for load('model'), which per_worker makes)"
    )


def test_objects_alone_ask_for_no_more_than_the_usual_workers() -> None:
    load_ = SessionLoad()
    functions = [user(index, model({"memory": 1})) for index in range(3)]
    run = run_of(*functions, load=load_, max_concurrency=3)
    run.start(0.0)
    told(run, load_, node_up("a", {"memory": 1000.0}, workers=2))

    assert load_.nodes["a"].most_at_once(run.scheduler.needs.of[0]) == 2


# --- Placement ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["most_spare", "locality"])
def test_a_function_goes_to_the_node_that_has_its_object(policy: str) -> None:
    load_ = SessionLoad()
    run = run_of(user(0, model()), load=load_, policy=POLICIES[policy])
    load_.node_up(large := node_up("a", {"cpu": 4.0}, workers=4))
    load_.node_up(warm := with_objects(node_up("b", {"cpu": 2.0}, workers=2, busy=1), "model"))
    run.handle(large, 0.0)
    run.handle(warm, 0.0)

    assert assigned(run.start(1.0)) == [("b", [0])]


def test_a_function_follows_another_of_its_session_before_the_node_says_so() -> None:
    load_ = SessionLoad()
    run = run_of(user(0, model()), user(1, model()), load=load_, max_concurrency=1)
    for event in (node_up("a", {"cpu": 4.0}, workers=4), node_up("b", {"cpu": 4.0}, workers=4)):
        load_.node_up(event)
        run.handle(event, 0.0)

    (first,) = assigned(run.start(1.0))
    (second,) = assigned(run.handle(completed(first[0], done(0)), 2.0))

    assert (first[1], second) == ([0], (first[0], [1]))


def test_explain_says_where_objects_are() -> None:
    load_ = SessionLoad()
    run = run_of(user(0, model(), model(name="other")), user(1), load=load_)
    load_.node_up(event := with_objects(node_up("a"), "model"))
    run.handle(event, 0.0)

    first, second = run.view.explain()

    assert first.warm == {"load('model')": ("a",), "load('other')": ()}
    assert second.warm == {}


def test_functions_with_other_objects_are_not_fused() -> None:
    one, other = model(), model(name="other")
    functions = [user(0, one), Function(1, [0, one], code), Function(2, [1, other], code)]
    run = run_of(*functions, policy=POLICIES["most_spare"])
    for need in run.scheduler.needs.classes:
        need.seconds = 0.00001
    run.handle(node_up("a"), 0.0)

    job = job_in(run.start(1.0)[-1])

    assert [job.index, *(member.index for member in job.then)] == [0, 1]


# --- Nodes with objects -------------------------------------------------------------------------------------------


def test_an_advert_says_what_a_node_has_but_for_what_was_sent_since_the_one_before() -> None:
    nodes = WarmNodes()
    nodes.heard("a", [b"x"])
    nodes.heard("b", [b"x", b"y"])
    nodes.sent("a", [b"y"])

    assert [*nodes.with_object(b"x")] == ["a", "b"]
    assert {*nodes.with_object(b"y")} == {"a", "b"}

    nodes.heard("a", [])

    assert [*nodes.with_object(b"x")] == ["b"]
    assert {*nodes.with_object(b"y")} == {"a", "b"}

    nodes.heard("a", [])
    nodes.gone("b")

    assert [*nodes.with_object(b"x"), *nodes.with_object(b"y")] == []


def test_a_node_that_is_gone_has_nothing() -> None:
    load_ = SessionLoad()
    load_.node_up(with_objects(node_up("a"), "model"))
    load_.warm.sent("a", [b"y"])

    load_.take(NodeDown("a", "gone"))

    assert [*load_.warm.with_object(b"load('model')"), *load_.warm.with_object(b"y")] == []
