"""Nodes that run nothing themselves, and have others started: runs wait for these, and send nothing to those."""

import pytest

from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.backlog import backlogs
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.errors import AllocationError
from handoff_actors.graph import Function, collocated
from handoff_actors.ids import Resources, RunId
from handoff_actors.wire.messages.members import MOST_BACKLOGS, Backlog
from tests.core.builders import (
    assigned,
    async_code,
    code,
    completed,
    done,
    ends,
    node_up,
    options,
    program_of,
    run_of,
)

CAN_START: Resources = {"cpu": 4.0, "memory": 8000.0}
ALLOWED_S = 10.0


def starter(
    name: str = "alloc",
    can_start: Resources = CAN_START,
    *,
    out_of_use: str = "",
    leaving: bool = False,
    python: str = "",
    for_s: float | None = None,
) -> NodeUp:
    """A node without capabilities and workers, that can have others started."""
    return NodeUp(
        name,
        f"address of {name}",
        {},
        {},
        0,
        leaving,
        python=python,
        out_of_use=out_of_use,
        can_start=can_start,
        can_start_for_s=for_s,
    )


def run_with(*nodes: NodeUp, function: Function, **changes: object) -> RunMachine:
    run = run_of(function, allocation_timeout_s=ALLOWED_S, **changes)
    assert assigned(run.start(0.0, nodes)) == []
    run.check()
    return run


def error_of(run: RunMachine) -> AllocationError:
    """The error of a run that no node has anything of."""
    (end,) = ends(run.wake(ALLOWED_S))
    assert isinstance(end.error, AllocationError)
    return end.error


# --- Waiting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [None, {"cpu": 1}, {"cpu": 4, "memory": 8000}])
def test_run_waits_for_a_node_that_can_be_started_however_long_that_takes(cost: Resources | None) -> None:
    run = run_with(starter(), function=Function("f", [], code, cost=cost))

    assert run.wake_at is None
    assert run.wake(86_400.0) == []
    assert assigned(run.handle(node_up("b", {"cpu": 4.0, "memory": 8000.0}), 90_000.0)) == [("b", [0])]


def test_coroutine_is_not_sent_to_a_node_that_only_starts_others() -> None:
    run = run_with(starter(), function=Function("f", [], async_code))

    assert assigned(run.handle(node_up("b"), 1.0)) == [("b", [0])]


@pytest.mark.parametrize("policy", ["most_spare", "first_available", "load_balanced", "locality"])
def test_no_policy_chooses_a_node_that_only_starts_others(policy: str) -> None:
    functions = [Function(number, [], code) for number in range(40)]
    run = run_of(*functions, policy=POLICIES[policy])

    sent = assigned(run.start(0.0, [starter("a"), *(node_up(f"n{number}") for number in range(9))]))

    assert sent
    assert "a" not in dict(sent)


def test_function_that_no_node_that_can_be_started_could_run_ends_the_run_as_before() -> None:
    run = run_with(starter(), function=Function("f", [], code, cost={"cpu": 8}))

    error = error_of(run)

    assert error.offers == {}
    assert str(error) == (
        "function 'f' needs {'cpu': 8.0}, which no node offers, and none that does has joined within allocation_timeout=10 s"
        "; node 'alloc' starts only nodes that offer {'cpu': 4.0, 'memory': 8000.0}, which is less than {'cpu': 8.0}. "
        "The nodes there are: none"
    )


def test_nobody_waits_for_a_node_of_a_certain_name_to_be_started() -> None:
    run = run_with(starter(), function=Function("f", [], code, node="gpu-box"))

    assert "is pinned to node 'gpu-box'" in str(error_of(run))


def test_node_that_is_started_has_the_python_of_the_one_that_starts_it() -> None:
    program = program_of(Function("f", [], code))
    bound = RunMachine(RunId(7), program, options(allocation_timeout_s=ALLOWED_S))
    need = bound.scheduler.needs.classes[0]
    need.python = "3.12"
    bound.start(0.0, [starter(python="3.11")])
    assert bound.wake_at == ALLOWED_S

    bound.handle(starter(python="3.12"), 1.0)
    bound.handle(starter("other", python="3.12"), 1.0)

    assert bound.wake_at is None


def test_allocation_timeout_begins_when_no_further_node_can_be_started() -> None:
    run = run_with(starter(), function=Function("f", [], code))

    run.handle(starter(can_start={}, out_of_use="3 jobs in a row ended before their node joined"), 100.0)

    assert run.wake_at == 110.0
    (end,) = ends(run.wake(110.0))
    assert "; node 'alloc' starts no nodes: 3 jobs in a row ended" in str(end.error)


def test_function_that_takes_longer_than_a_node_would_be_there_ends_the_run_as_before() -> None:
    run = run_with(starter(for_s=55.0), function=Function("f", [], code, timeout=600.0))

    assert str(error_of(run)) == (
        "function 'f' may take 600 s by its time limit, and the nodes that could run it end sooner ('alloc' in 55 s); "
        "none that has the time has joined within allocation_timeout=10 s"
        "; node 'alloc' starts nodes that offer {'cpu': 4.0, 'memory': 8000.0} for functions that wait, and runs none itself. "
        "The nodes there are: none"
    )


def test_function_that_a_node_would_be_there_for_waits() -> None:
    run = run_with(starter(for_s=601.0), function=Function("f", [], code, timeout=600.0))

    assert run.wake(ALLOWED_S) == []


@pytest.mark.parametrize("leaves", [True, False])
def test_allocation_timeout_begins_when_the_node_that_would_start_others_goes(*, leaves: bool) -> None:
    run = run_with(starter(), function=Function("f", [], code))

    run.handle(starter(leaving=True) if leaves else NodeDown("alloc", "gone"), 100.0)

    assert run.wake_at == 110.0


def test_collocated_functions_wait_for_one_node_that_holds_the_largest() -> None:
    first = Function("first", [], code, cost={"cpu": 3})
    second = Function("second", [], code, cost={"cpu": 3}, node=collocated("first"))
    run = run_of(first, second, allocation_timeout_s=ALLOWED_S)
    run.start(0.0, [starter()])

    assert run.wake_at is None


def test_values_of_a_node_that_leaves_are_not_copied_to_one_that_only_starts_others() -> None:
    run = run_of(Function("first", [], code), Function("second", ["first"], code, node="b"))
    run.start(0.0, [node_up("a"), starter()])
    run.handle(completed("a", done(0, value=10**6)), 1.0)

    assert run.handle(node_up("a", leaving=True), 2.0) == []


# --- Explaining -------------------------------------------------------------------------------------------------


def explained(node: NodeUp, function: Function) -> str:
    run = run_of(function)
    run.start(0.0, [node])
    (entry,) = run.view.explain()
    return entry.nodes[node.name]


def test_explanation_says_what_a_node_could_start() -> None:
    function = Function("f", [], code, cost={"cpu": 2})

    assert explained(starter(), function) == (
        "starts nodes that offer {'cpu': 4.0, 'memory': 8000.0} for functions that wait, and runs none itself"
    )
    assert explained(starter(can_start={"cpu": 1.0}), function) == (
        "starts only nodes that offer {'cpu': 1.0}, which is less than {'cpu': 2.0}"
    )
    assert (
        explained(starter(can_start={}), function)
        == "starts no further nodes now, and runs no functions itself"
    )
    assert explained(starter(out_of_use="sbatch said: invalid account"), function) == (
        "starts no nodes: sbatch said: invalid account"
    )


# --- Backlogs ---------------------------------------------------------------------------------------------------


def backlogs_of(run: RunMachine, load: SessionLoad) -> list[Backlog]:
    return backlogs(run.view.waiting(), load)


def waiting_run(*functions: Function, nodes: tuple[NodeUp, ...] = (), **changes: object) -> list[Backlog]:
    load = SessionLoad()
    run = run_of(*functions, load=load, **changes)
    run.start(0.0, nodes)
    return backlogs_of(run, load)


def many(count: int, **fields: object) -> list[Function]:
    return [Function(number, [], code, **fields) for number in range(count)]  # type: ignore[arg-type]


def test_functions_that_wait_without_a_node_are_counted_by_claim() -> None:
    functions = [
        *many(3, cost={"cpu": 1}),
        *(Function(f"large {number}", [], code, cost={"cpu": 4}) for number in range(2)),
        Function("later", [0], code),
    ]

    assert waiting_run(*functions) == [Backlog(3, {"cpu": 1.0}), Backlog(2, {"cpu": 4.0})]


def test_functions_in_the_queue_of_a_node_wait_for_another_one() -> None:
    functions = many(10, cost={"cpu": 1})

    assert waiting_run(*functions, nodes=(node_up("a", {"cpu": 2.0}),)) == [Backlog(8, {"cpu": 1.0})]


def test_functions_that_run_are_no_backlog() -> None:
    assert waiting_run(*many(2, cost={"cpu": 1}), nodes=(node_up("a", {"cpu": 2.0}),)) == []


def test_runs_that_share_a_node_count_what_waits_there_once() -> None:
    load = SessionLoad()
    node = node_up("a", {"cpu": 2.0})
    runs = [
        RunMachine(RunId(number), program_of(*many(2, cost={"cpu": 1})), options(load=load))
        for number in range(3)
    ]
    for run in runs:
        run.start(0.0, [node])

    waiting = backlogs([entry for run in runs for entry in run.view.waiting()], load)

    assert waiting == [Backlog(4, {"cpu": 1.0})]


def test_classes_that_share_a_queue_are_counted_once() -> None:
    functions = [Function("two", [], code, cost={"cpu": 2}), *many(2, cost={"cpu": 1})]

    waiting = waiting_run(*functions, nodes=(node_up("a", {"cpu": 2.0}),))

    assert sum(backlog.count for backlog in waiting) == 2


def test_function_pinned_to_a_node_waits_for_that_one_only() -> None:
    assert waiting_run(Function("f", [], code, node="elsewhere")) == []


def test_backlog_is_no_longer_than_what_the_run_may_have_in_flight() -> None:
    functions = [*many(5, cost={"cpu": 1}), Function("large", [], code, cost={"cpu": 2})]

    assert waiting_run(*functions, max_concurrency=3) == [Backlog(3, {"cpu": 1.0})]


def test_coroutines_that_claim_nothing_need_one_node_however_many_they_are() -> None:
    functions = [Function(number, [], async_code) for number in range(100)]

    assert waiting_run(*functions) == [Backlog(1, {})]


def test_backlog_says_how_long_its_functions_take() -> None:
    load = SessionLoad()
    run = run_of(*many(20, cost={"cpu": 1}), load=load)
    run.start(0.0, [node_up("a", {"cpu": 1.0}, workers=1)])

    run.handle(completed("a", done(0, ran_s=3.0)), 3.0)

    (waiting,) = backlogs_of(run, load)
    assert (waiting.count, waiting.usual_s, waiting.least_s) == (18, 3.0, 0.0)


def test_functions_whose_time_limits_differ_are_backlogs_of_their_own() -> None:
    functions = [
        Function("short", [], code, cost={"cpu": 1}),
        Function("long", [], code, cost={"cpu": 2}, timeout=3600),
        Function("longer", [], code, cost={"cpu": 4}, timeout=7200),
    ]

    assert [(backlog.cost["cpu"], backlog.least_s) for backlog in waiting_run(*functions)] == [
        (1.0, 0.0),
        (2.0, 3600.0),
        (4.0, 7200.0),
    ]


def test_claims_beyond_what_a_message_carries_are_added_to_the_last() -> None:
    count = MOST_BACKLOGS + 8
    functions = [Function(number, [], code, cost={"cpu": number + 1}) for number in range(count)]

    waiting = waiting_run(*functions)

    assert len(waiting) == MOST_BACKLOGS
    assert sum(backlog.count for backlog in waiting) == count
    assert waiting[-1].cost == {"cpu": float(count)}
