"""What a run that grows keeps of functions that are over, in corners of their lives."""

import pytest

from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import (
    CancelFunctions,
    LetGo,
    MessageFromNode,
    RelayBegun,
    ResultFetched,
    SendToNode,
    WantResults,
)
from handoff_actors.core.run.facts.phases import READY, SENT
from handoff_actors.core.run.facts.state import Transfer
from handoff_actors.core.run.growing import growth
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.scheduling import feasibility
from handoff_actors.graph.argument import Collocated
from handoff_actors.wire.messages.jobs import Ref, ValueKey
from handoff_actors.wire.messages.runs import Completed, Copied, Copy, Failed, Fetched
from tests.core.builders import RUN, assigned, completed, done, failed, job_in, node_up
from tests.core.run.growing.test_growth import call, drops, forgotten, grow, open_run, then

STORED = 10**6


def run_with_a_copy_under_way() -> RunMachine:
    run = open_run("a", "b", "c")
    grow(run, call("x", node="a"))
    then(run, completed("a", done(0, value=STORED)))
    effects = then(run, node_up("a", workers=4, leaving=True))
    assert SendToNode("b", Copy(RUN, [Ref(0, STORED, ["address of a"], 1)])) in effects
    return run


def test_function_is_forgotten_once_the_copy_of_its_value_has_arrived() -> None:
    run = run_with_a_copy_under_way()

    assert forgotten(then(run, LetGo(["x"]))) == []
    assert forgotten(then(run, MessageFromNode("b", Copied(RUN, [0], [])))) == [0]


def test_value_that_nobody_needs_and_that_is_lost_while_it_is_copied_is_not_made_again() -> None:
    run = run_with_a_copy_under_way()
    then(run, WantResults(["x"]))
    then(run, LetGo(["x"]))

    effects = then(run, NodeDown("a", "gone"))

    assert (forgotten(effects), assigned(effects)) == ([0], [])


def test_node_that_had_no_room_for_a_value_is_asked_to_take_another_with_the_same_index() -> None:
    run = run_with_a_copy_under_way()
    then(run, MessageFromNode("b", Copied(RUN, [], [0])))
    then(run, MessageFromNode("c", Copied(RUN, [0], [])))
    assert forgotten(then(run, LetGo(["x"]))) == [0]

    grow(run, call("y", node="c"))
    then(run, completed("c", done(0, attempt=2, value=STORED)))
    effects = then(run, node_up("c", workers=4, leaving=True))

    assert SendToNode("b", Copy(RUN, [Ref(0, STORED, ["address of c"], 2)])) in effects


def test_function_that_two_others_take_stays_until_both_have_ended() -> None:
    run = open_run()
    grow(run, call("x"), call("y", "x"), call("z", "x"), held=[])
    then(run, completed("a", done(0)))

    assert forgotten(then(run, completed("a", done(1)))) == [1]
    assert sorted(forgotten(then(run, completed("a", done(2))))) == [0, 2]


def test_value_that_has_come_inline_when_made_again_is_dropped_where_the_stored_one_may_be_still() -> None:
    run = open_run("a", "b")
    grow(run, call("x", node="a"))
    then(run, completed("a", done(0, value=STORED)))
    grow(run, call("y", "x", node="b"), outer=["x"], held=[])
    assert assigned(then(run, failed("b", 1, "input", lost=0))) == [("a", [0])]
    then(run, completed("a", done(0, attempt=2, value=b"small this time")))
    then(run, completed("b", done(1, attempt=2)))

    effects = then(run, LetGo(["x"]))

    assert forgotten(effects) == [0]
    assert drops(effects) == {"a": [ValueKey(0, 2)], "b": [ValueKey(0, 2)]}


@pytest.mark.parametrize("is_relayed", [True, False])
def test_that_a_value_could_not_be_reached_says_nothing_of_a_later_one_with_the_same_index(
    *, is_relayed: bool
) -> None:
    run = open_run("a", "b")
    grow(run, call("x", node="a"))
    then(run, completed("a", done(0, value=STORED)))
    grow(run, call("y", "x", node="b"), outer=["x"])
    if is_relayed:
        then(run, RelayBegun(0, "a", "b"))
    unreachable = Failed(RUN, 1, 1, "unreachable", b"", "no answer", 0, None, None, 0.0)
    then(run, MessageFromNode("b", unreachable))
    then(run, failed("b", 1, attempt=2))
    assert forgotten(then(run, LetGo(["x"]))) == [0]

    (effect,) = grow(run, call("other", node="a"))
    then(run, completed("a", done(0, attempt=2, value=STORED)))

    assert (job_in(effect).index, run.state.cut_off) == (0, {"b": {"a"}})
    # Its bytes would have to go through the app, which has not failed for them.
    grow(run, call("z", "other", node="b"), outer=["other"])
    (index,) = (index for index, phase in enumerate(run.state.phase) if phase == SENT)
    assert dict(run.scheduler.locality.held(index)) == {"a": STORED, "b": -STORED}
    # They have come without the app.
    fetched = [Fetched(0, STORED, 0.1, 0.0)]
    then(run, MessageFromNode("b", Completed(RUN, [done(index)], {}, fetched)))
    assert run.state.cut_off == {"b": set()}


def test_function_that_is_let_go_twice_is_forgotten_once() -> None:
    run = open_run()
    grow(run, call("x"))

    then(run, LetGo(["x"]))
    then(run, LetGo(["x"]))

    assert forgotten(then(run, completed("a", done(0)))) == [0]


def test_transfers_that_are_reported_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "MOST_TRANSFERS", 1)
    run = open_run()
    for number in range(3):
        grow(run, call(number))
        then(run, completed("a", done(0, attempt=number + 1, value=STORED)))
        then(run, WantResults([number]))
        then(run, ResultFetched(0, Transfer(0, "", STORED, float(number), number + 1.0)))
        then(run, LetGo([number]))

    assert [transfer.began_at for transfer in run.state.transfers] == [2.0]


def test_numbers_of_collocated_groups_are_used_again() -> None:
    run = open_run("a", "b")
    for number in range(3):
        effects = grow(
            run, call((number, 0)), call((number, 1), (number, 0), node=Collocated((number, 0))), held=[]
        )
        ((name, _),) = assigned(effects)
        for _ in range(2):
            for index, phase in enumerate(run.state.phase):
                if phase < READY + 2:
                    name = run.state.node[index] or name
                    then(run, completed(name, done(index, attempt=run.state.attempt[index])))

    assert run.state.remaining == 0
    assert len(run.view.plan.groups) == 1
    assert run.view.plan.groups == [()]


@pytest.mark.parametrize("priority", [0, -1])
def test_function_in_the_middle_of_the_queue_leaves_it_when_it_is_forgotten(priority: int) -> None:
    run = open_run(max_concurrency=1)
    grow(run, call(0), call(1), call(2, priority=priority), call(3))
    then(run, CancelFunctions([2]))
    assert forgotten(then(run, LetGo([2]))) == [2]

    grow(run, call("x", priority=priority), now=3.0)
    sent: list[int] = []
    while run.state.remaining:
        index = run.state.phase.index(2)
        sent.append(index)
        then(run, completed("a", done(index, attempt=run.state.attempt[index])))

    assert [run.view.plan.ids[index] for index in sent] == [0, 1, 3, "x"]


def test_queue_of_functions_of_one_kind_goes_with_the_last_of_them() -> None:
    run = open_run(max_concurrency=1)
    grow(run, call("busy"), call("x", cost={"cpu": 3}))
    then(run, CancelFunctions(["x"]))

    then(run, LetGo(["x"]))

    assert not run.scheduler.has_ready


def test_functions_that_need_the_same_are_counted_only_while_they_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feasibility, "LEAST_COMPACTED", 4)
    run = open_run()

    for number in range(40):
        grow(run, call(number), held=[])
        then(run, completed("a", done(0, attempt=number + 1)))

    (demand,) = run.feasibility._demands
    assert len(demand.functions) <= 8
