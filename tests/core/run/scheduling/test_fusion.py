"""Fused groups as a run forms and tracks them."""

import pytest

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import MessageFromNode, RunEffect, SendToNode
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling.durations import CAPACITY, Durations
from handoff_actors.core.run.scheduling.fusion import MAX_FUSED
from handoff_actors.core.run.scheduling.placement import POLICIES
from handoff_actors.graph import Argument, Function, collocated
from handoff_actors.wire.messages.jobs import Earlier, Ticket
from handoff_actors.wire.messages.runs import Assign, Recalled
from tests.core.builders import (
    RUN,
    assigned,
    async_code,
    code,
    completed,
    done,
    failed,
    hook,
    job_in,
    node_up,
    run_of,
)

QUICK_S = 0.000001
LARGE = 100_000


def assumed(seconds: float) -> Durations:
    durations = Durations()
    durations.record(b"", seconds)
    return durations


def quick_run(*functions: Function, **changes: object) -> RunMachine:
    """A run on node a, whose functions are known to be quick."""
    usual = {"policy": POLICIES["most_spare"], "durations": assumed(QUICK_S)}
    return run_of(*functions, **(usual | changes))


def fused_groups(effects: list[RunEffect]) -> list[list[int]]:
    return [
        [sent.index, *(member.index for member in sent.then)]
        for effect in effects
        if isinstance(effect, SendToNode) and isinstance(effect.message, Assign)
        for sent in effect.message.jobs
    ]


def chain(length: int, **options: object) -> list[Function]:
    return [
        Function(index, [index - 1] if index else [], code, **options)  # type: ignore[arg-type]
        for index in range(length)
    ]


def separated(name: str, *indices: int) -> MessageFromNode:
    return MessageFromNode(name, Recalled(RUN, [Ticket(index, 1) for index in indices], is_separated=True))


# --- Members ----------------------------------------------------------------------------------------------------


def test_chain_of_quick_functions_is_one_fused_group() -> None:
    run = quick_run(*chain(4))

    (effect,) = run.start(0.0, [node_up("a")])

    assert fused_groups([effect]) == [[0, 1, 2, 3]]
    assert [member.args for member in job_in(effect).then] == [[Earlier(0)], [Earlier(1)], [Earlier(2)]]
    run.check()


def test_small_subtree_of_quick_functions_is_one_fused_group() -> None:
    run = quick_run(
        Function("generate", [], code),
        Function("a", ["generate"], code),
        Function("b", ["generate"], code),
        Function("sum", ["a", "b"], code),
    )

    assert fused_groups(run.start(0.0, [node_up("a")])) == [[0, 1, 2, 3]]


def test_functions_that_could_run_side_by_side_are_fused_only_if_they_are_very_quick() -> None:
    functions = (Function("x", [], code), Function("y", ["x"], code), Function("z", ["x"], code))
    run = quick_run(*functions, durations=assumed(0.0002))

    assert fused_groups(run.start(0.0, [node_up("a")])) == [[0, 1]]


def test_fused_group_has_no_more_members_than_it_may() -> None:
    run = quick_run(*chain(MAX_FUSED + 10))

    assert fused_groups(run.start(0.0, [node_up("a")])) == [list(range(MAX_FUSED))]


@pytest.mark.parametrize("durations", [Durations(), assumed(0.1)], ids=["unknown", "slow"])
def test_functions_that_are_not_known_to_be_quick_are_not_fused(durations: Durations) -> None:
    run = quick_run(*chain(2), durations=durations)

    assert fused_groups(run.start(0.0, [node_up("a")])) == [[0]]


def test_run_learns_by_itself_that_its_functions_are_quick() -> None:
    run = quick_run(*chain(4), durations=Durations())
    run.start(0.0, [node_up("a")])

    assert fused_groups(run.handle(completed("a", done(0, ran_s=QUICK_S)), 0.1)) == [[1, 2, 3]]


def test_durations_of_a_run_are_known_to_the_next_one() -> None:
    durations = Durations()
    first = quick_run(*chain(1), durations=durations)
    first.start(0.0, [node_up("a")])
    first.handle(completed("a", done(0, ran_s=QUICK_S)), 0.1)

    assert durations.of(b"") == QUICK_S
    assert fused_groups(quick_run(*chain(2), durations=durations).start(0.0, [node_up("a")])) == [[0, 1]]


def test_durations_that_were_measured_least_recently_are_dropped() -> None:
    durations = Durations()
    for number in range(CAPACITY + 1):
        durations.record(b"%d" % number, QUICK_S)

    assert (durations.of(b"0"), durations.of(b"1")) == (None, QUICK_S)


@pytest.mark.parametrize(
    "second",
    [
        Function("y", ["x"], async_code),
        Function("y", ["x"], code, timeout=1.0),
        Function("y", ["x"], code, cost={"cpu": 1}),
        Function("y", ["x"], code, node="b"),
        Function("y", ["x"], code, node=collocated("x")),
        Function("y", ["x"], code, priority=-1),
        Function("y", [Argument("x", serialize=hook)], code),
        Function("y", ["x", "slow"], code),
    ],
    ids=[
        "coroutine",
        "time limit",
        "other claim",
        "pinned",
        "collocated",
        "less urgent",
        "hook",
        "other input",
    ],
)
def test_functions_with_a_constraint_of_their_own_are_not_fused(second: Function) -> None:
    run = quick_run(Function("x", [], code), Function("slow", [], code, cost={"gpu": 1}), second)

    assert fused_groups(run.start(0.0, [node_up("a")])) == [[0]]


def test_nothing_is_fused_behind_a_coroutine() -> None:
    run = quick_run(Function("x", [], async_code), Function("y", ["x"], async_code))

    assert fused_groups(run.start(0.0, [node_up("a")])) == [[0]]


def test_function_that_is_pinned_to_the_node_of_the_one_before_it_is_fused() -> None:
    run = quick_run(Function("x", [], code, node="a"), Function("y", ["x"], code, node="a"))

    assert fused_groups(run.start(0.0, [node_up("a"), node_up("b")])) == [[0, 1]]


def test_function_that_takes_a_stored_value_too_is_not_fused() -> None:
    run = quick_run(
        Function("big", [], code, cost={"gpu": 1}),
        Function("x", ["big"], code),
        Function("y", ["x", "big"], code),
    )
    run.start(0.0, [node_up("a", {"gpu": 1})])

    assert fused_groups(run.handle(completed("a", done(0, value=LARGE)), 0.1)) == [[1]]


@pytest.mark.parametrize("changes", [{"max_concurrency": 8}, {"policy": POLICIES["load_balanced"]}])
def test_functions_are_not_fused_where_each_has_to_be_looked_at(changes: dict[str, object]) -> None:
    run = quick_run(*chain(2), **changes)

    assert fused_groups(run.start(0.0, [node_up("a")])) == [[0]]


# --- Outcomes -----------------------------------------------------------------------------------------------------


def test_member_takes_the_place_of_the_one_before_it_under_the_same_claim() -> None:
    run = quick_run(*chain(3, cost={"cpu": 1}))
    run.start(0.0, [node_up("a")])
    node = run.scheduler.nodes["a"]
    run.handle(completed("a", done(0)), 0.1)

    assert (node.mine, list(node.sent), node.followers) == ({"cpu": 1.0}, [1, 2], {2})
    run.check()
    run.handle(completed("a", done(1), done(2)), 0.2)
    assert (node.mine, node.sent) == ({}, {})
    run.check()


def test_member_is_ready_once_its_input_is_made() -> None:
    run = quick_run(*chain(2))
    run.start(0.0, [node_up("a")])

    run.handle(completed("a", done(0)), 0.3)

    assert run.state.ready_at[1] == 0.3


def test_function_fused_behind_a_failure_waits_for_its_retry_and_is_sent_by_itself() -> None:
    run = quick_run(*chain(3))
    run.start(0.0, [node_up("a")])

    again = run.handle(failed("a", 0), 0.1)
    run.handle(separated("a", 1, 2), 0.1)
    then = run.handle(completed("a", done(0, attempt=2)), 0.2)

    assert fused_groups(again) == [[0]]
    assert fused_groups(then) == [[1]]
    assert run.scheduler.nodes["a"].usable
    run.check()


def test_fused_group_that_is_lost_with_its_node_runs_elsewhere() -> None:
    run = quick_run(*chain(3))
    run.start(0.0, [node_up("a")])
    run.handle(completed("a", done(0)), 0.1)
    run.handle(NodeDown("a", "gone"), 0.2)

    assert assigned(run.handle(node_up("b"), 0.3)) == [("b", [1])]
    run.check()


def test_recalled_fused_group_comes_back_whole() -> None:
    run = quick_run(*chain(2))
    run.start(0.0, [node_up("a")])

    again = run.handle(MessageFromNode("a", Recalled(RUN, [Ticket(0, 1), Ticket(1, 1)])), 0.1)

    assert fused_groups(again) == []
    assert fused_groups(run.handle(node_up("a"), 0.2)) == [[0]]
    run.check()


def test_member_that_is_done_before_the_value_of_the_one_before_it_could_be_kept_is_not_sent_again() -> None:
    run = quick_run(*chain(2), Function("goes on", [], async_code))
    run.start(1.0, [node_up("a")])

    again = run.handle(failed("a", 0, "store"), 1.1)
    run.handle(completed("a", done(1)), 1.1)
    made = run.handle(completed("a", done(0, attempt=2)), 1.2)

    assert fused_groups(again) == [[0]]
    assert made == []
    assert [*run.state.unfinished()] == [2]
    assert run.state.ready_at[1] == 1.0
    run.check()


def test_member_that_rests_does_so_to_the_end_whenever_its_input_is_made() -> None:
    run = quick_run(*chain(1), Function(1, [0], code, retry_backoff=(1, 1, 1)))
    run.start(0.0, [node_up("a")])
    run.handle(failed("a", 0, "store"), 0.1)
    run.handle(failed("a", 1), 0.1)

    made = run.handle(completed("a", done(0, attempt=2)), 0.2)

    assert made == []
    assert run.wake_at is not None
    assert fused_groups(run.wake(run.wake_at)) == [[1]]
    run.check()
