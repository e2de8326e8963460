"""Nodes that end get no function that could not end before they do."""

from typing import Any

import pytest
from msgspec.structs import replace

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.core.run.scheduling.scheduler import MAX_SCANNED_NODES
from handoff_actors.errors import AllocationError
from handoff_actors.graph import Function
from tests.core.builders import assigned, code, completed, done, ends, error_of, node_up, program_of, run_of

CPU = {"cpu": 1.0}


def function(name: str, timeout: float | None = None, **options: Any) -> Function:
    return Function(name, [], code, timeout=timeout, **({"cost": CPU} | options))


def nodes_of(run: RunMachine, *nodes: NodeUp, now: float = 0.0) -> set[str]:
    return {name for name, _ in assigned(run.start(now, nodes))}


def usually(seconds: float, *functions: Function) -> Durations:
    durations = Durations()
    for template in program_of(*functions).templates:
        durations.record(template.digest, seconds)
    return durations


def test_a_function_goes_where_its_time_limit_fits() -> None:
    run = run_of(function("f", 60.0))

    assert nodes_of(run, node_up("a", ends_at=59.0), node_up("b", ends_at=61.0)) == {"b"}


def test_a_function_without_a_limit_goes_where_its_usual_time_fits() -> None:
    f = function("f")
    run = run_of(f, durations=usually(60.0, f))

    assert nodes_of(run, node_up("a", ends_at=59.0), node_up("b")) == {"b"}


def test_the_time_limit_counts_even_if_functions_are_usually_quicker() -> None:
    f = function("f", 60.0)
    run = run_of(f, durations=usually(0.1, f), allocation_timeout_s=5.0)

    assert nodes_of(run, node_up("a", ends_at=59.0)) == set()


def test_a_function_of_which_nothing_is_known_is_sent() -> None:
    assert nodes_of(run_of(function("f")), node_up("a", ends_at=1.0)) == {"a"}


def test_durations_of_this_run_count_from_when_a_node_has_an_end() -> None:
    run = run_of(*(function(f"f{number}") for number in range(8)))
    run.start(0.0, [node_up("a")])
    run.handle(completed("a", replace(done(0), ran_s=30.0)), 30.0)

    run.handle(node_up("b", ends_at=50.0), 30.0)
    effects = run.handle(completed("a", replace(done(1), ran_s=30.0)), 31.0)

    assert "b" not in {name for name, _ in assigned(effects)}
    assert {name for name, _ in assigned(run.handle(node_up("c", ends_at=90.0), 32.0))} == {"c"}


def test_short_functions_pass_a_long_one_that_has_to_wait() -> None:
    run = run_of(function("long", 600.0, priority=5), function("short", 5.0))

    assert assigned(run.start(0.0, [node_up("a", ends_at=100.0)])) == [("a", [1])]
    assert assigned(run.handle(node_up("b"), 1.0)) == [("b", [0])]


def test_a_function_that_would_wait_in_a_queue_needs_the_time_of_those_before_it() -> None:
    functions = [function(f"f{number}", 40.0) for number in range(4)]

    run = run_of(*functions)

    assert assigned(run.start(0.0, [node_up("a", workers=2, ends_at=60.0)])) == [("a", [0, 1])]


@pytest.mark.parametrize("policy", [*POLICIES.values()])
def test_every_policy_is_offered_only_nodes_with_the_time(policy: object) -> None:
    run = run_of(function("f", 60.0), function("g", 60.0), policy=policy)

    assert nodes_of(run, node_up("a", ends_at=59.0), node_up("b", ends_at=161.0)) == {"b"}


class _Any:
    def choose(self, need: object, nodes: Any) -> Any:
        return nodes[0] if nodes else None


def test_a_policy_of_the_users_own_is_offered_only_nodes_with_the_time() -> None:
    run = run_of(function("f", 60.0), policy=_Any())

    assert nodes_of(run, node_up("a", ends_at=59.0), node_up("b", ends_at=61.0)) == {"b"}


def test_among_many_nodes_the_best_with_the_time_is_found() -> None:
    names = [f"n{number:02d}" for number in range(MAX_SCANNED_NODES + 4)]
    ups = [node_up(name, {"cpu": 4.0}, ends_at=50.0) for name in names]
    run = run_of(function("f", 60.0), function("g", 10.0), policy=POLICIES["most_spare"])

    sent = dict(assigned(run.start(0.0, [*ups, node_up("z", {"cpu": 1.0}, ends_at=100.0)])))

    assert sent["z"] == [0]
    assert [1] in sent.values()


def test_functions_are_not_called_back_for_nodes_without_the_time() -> None:
    functions = [function(f"f{number}", 30.0) for number in range(6)]
    run = run_of(*functions)
    run.start(0.0, [node_up("a", workers=2)])

    effects = run.handle(node_up("b", workers=2, ends_at=20.0), 1.0)

    assert effects == []


def test_a_function_that_is_pinned_to_a_node_that_ends_too_soon_can_not_be_placed() -> None:
    run = run_of(function("f", 60.0, node="a"), allocation_timeout_s=5.0)
    run.start(0.0, [node_up("a", ends_at=50.0), node_up("b")])

    [end] = ends(run.wake(5.0))

    assert "'a' in 45 s" in str(end.error)


def test_inputs_are_not_made_for_a_node_that_ends_too_soon() -> None:
    first = function("first")
    argument = _argument("first")
    second = Function("second", [argument], code, cost=CPU, timeout=60.0)
    run = run_of(first, second)
    run.start(0.0, [node_up("a", ends_at=59.0), node_up("b", ends_at=90.0)])

    assert "a" not in set(run.scheduler.reserved.values())


def _argument(name: str) -> Any:
    from handoff_actors.graph import Argument  # noqa: PLC0415

    return Argument(name, serialize=code, deserialize=code)


# --- No node has the time ---------------------------------------------------------------------------------------


def test_without_a_node_that_has_the_time_a_run_ends_after_the_allocation_timeout() -> None:
    run = run_of(function("f", 60.0), allocation_timeout_s=5.0)
    run.start(0.0, [node_up("a", ends_at=50.0)])

    assert run.wake_at is not None
    assert ends(run.wake(4.9)) == []
    [end] = ends(run.wake(5.0))

    assert isinstance(end.error, AllocationError)
    assert "may take 60 s by its time limit" in str(end.error)
    assert "'a' in 45 s" in str(end.error)
    assert "none that has the time has joined within allocation_timeout=5 s" in str(end.error)


def test_a_demand_is_unmet_once_time_has_passed_without_any_event() -> None:
    run = run_of(function("f", 60.0), function("g", 60.0), max_concurrency=1, allocation_timeout_s=5.0)
    run.start(0.0, [node_up("a", workers=1, ends_at=100.0)])

    # The first one runs for 50 s, then the second has no time left there.
    assert run.wake_at == 40.0
    run.wake(40.5)
    assert assigned(run.handle(completed("a", done(0)), 50.0)) == []
    run.wake(56.0)
    assert isinstance(error_of(run), AllocationError)


def test_a_node_with_the_time_that_joins_is_in_time() -> None:
    run = run_of(function("f", 60.0), allocation_timeout_s=5.0)
    run.start(0.0, [node_up("a", ends_at=50.0)])
    run.wake(4.0)

    assert assigned(run.handle(node_up("b", ends_at=80.0), 4.5)) == [("b", [0])]


def test_only_functions_without_the_time_fail_and_the_others_go_on() -> None:
    run = run_of(
        function("long", 60.0),
        *(function(f"short{number}", 1.0) for number in range(3)),
        allocation_timeout_s=1.0,
        on_failure="continue",
    )
    assert assigned(run.start(0.0, [node_up("a", {"cpu": 1.0}, workers=1, ends_at=50.0)])) == [("a", [1, 2])]

    # As long as a short one is ready, the long one may wait.
    assert run.wake(3.0) == []
    assert assigned(run.handle(completed("a", done(1)), 3.0)) == [("a", [3])]
    run.handle(completed("a", done(2), done(3)), 4.0)
    [end] = ends(run.wake(5.0))

    assert end.error is None
    assert [type(failure.error) for failure in run.view.failures.values()] == [AllocationError]


def test_a_function_that_is_not_ready_yet_and_has_the_time_is_not_blamed() -> None:
    short = Function("short", ["other"], code, cost=CPU, timeout=1.0)
    run = run_of(
        function("long", 60.0), function("other", cost={}), short,
        allocation_timeout_s=1.0, on_failure="continue",
    )  # fmt: skip
    run.start(0.0, [node_up("a", ends_at=50.0)])
    run.wake(2.0)

    assert assigned(run.handle(completed("a", done(1)), 3.0)) == [("a", [2])]
    [end] = ends(run.handle(completed("a", done(2)), 4.0))

    assert end.error is None
    assert list(run.view.failures) == [0]


def test_functions_that_have_ended_need_no_time() -> None:
    run = run_of(function("f", 40.0), function("g", cost={}))
    run.start(0.0, [node_up("a", ends_at=50.0)])
    run.handle(completed("a", done(0)), 5.0)

    run.handle(node_up("a", ends_at=30.0), 6.0)

    assert run.wake_at is not None
    assert run.wake_at > 16.0


@pytest.mark.parametrize(("for_s", "is_met"), [(50.0, False), (70.0, True), (None, True)])
def test_a_node_that_could_be_started_counts_if_it_would_be_there_for_long_enough(
    for_s: float | None, is_met: bool
) -> None:
    starter = replace(node_up("s", {}, workers=0), can_start={"cpu": 2.0}, can_start_for_s=for_s)
    run = run_of(function("f", 60.0), allocation_timeout_s=5.0)
    run.start(0.0, [starter, node_up("a", ends_at=55.0)])

    assert bool(ends(run.wake(5.0))) is not is_met


def test_it_is_explained_why_a_function_waits() -> None:
    f = function("usual")
    run = run_of(function("limited", 60.0), f, durations=usually(70.0, f))
    run.start(0.0, [node_up("a", ends_at=50.0), node_up("full", {"cpu": 0.0})])

    limited, usual = run.view.explain()

    assert limited.nodes["a"] == "ends in 50 s, and the function may take 60 s by its time limit"
    assert usual.nodes["a"] == "ends in 50 s, and the function usually takes 70 s"
