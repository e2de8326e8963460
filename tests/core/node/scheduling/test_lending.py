"""Functions that wait for nested runs, as their node sees them."""

import pytest

from handoff_actors.core.node.events import (
    KillWorker,
    NestedWaitBegan,
    NestedWaitEnded,
    NodeEffect,
    PeerConnected,
    SpawnWorker,
    WorkersSampled,
    WorkerUp,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.scheduling.lending import WAITING_MB
from handoff_actors.core.node.scheduling.worker_roster import IDLE_S
from handoff_actors.ids import PeerId, Resources, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Job, Template
from handoff_actors.wire.messages.members import Beat
from handoff_actors.wire.messages.nested import Ancestor
from handoff_actors.wire.messages.runs import Assign, Close, Closed, Failed
from tests.core.builders import (
    APP,
    FIRST_WORKER,
    RUN,
    SECOND_WORKER,
    assign,
    done,
    exited,
    gives,
    job,
    replies,
    said,
    started_node,
    template,
    worker_done,
    worker_failed,
)

NESTED = RunId(70)
SESSION = PeerId(b"session in a function")
THIRD_WORKER = WorkerId(3)
CPU = {"cpu": 1.0}


def begins(index: int = 0, *, attempt: int = 1, may_hold_up_loop: bool = False) -> NestedWaitBegan:
    return NestedWaitBegan(RUN, index, attempt, may_hold_up_loop)


def ends(index: int = 0, *, attempt: int = 1, may_hold_up_loop: bool = False) -> NestedWaitEnded:
    return NestedWaitEnded(RUN, index, attempt, may_hold_up_loop)


def nested(*indices: int, cost: Resources | None = None, is_async: bool = False, parent: int = 0) -> Assign:
    templates = [template(cost=CPU if cost is None else cost, is_async=is_async)]
    return Assign(NESTED, templates, [job(index) for index in indices], parent=Ancestor(RUN, parent, 1))


def node_with_a_parent(
    cost: Resources | None = None, capabilities: Resources | None = None, *, is_async: bool = False
) -> NodeMachine:
    """A node of one core and one worker, whose function 0 is about to begin a run."""
    node = started_node(capabilities)
    node.handle(PeerConnected(SESSION), 0.0)
    give(node, [job(0)], [template(cost=CPU if cost is None else cost, is_async=is_async)])
    return node


def give(node: NodeMachine, jobs: list[Job], templates: list[Template]) -> None:
    node.handle(said(assign(jobs, templates)), 0.0)
    if templates[0].is_async:
        node.handle(WorkerUp(SECOND_WORKER, 1002), 0.0)


def stay_connected(node: NodeMachine, now: float) -> None:
    for peer in (APP, SESSION):
        node.handle(said(Beat([], []), peer), now)


def spawns(effects: list[NodeEffect]) -> list[tuple[WorkerId, bool]]:
    return [(effect.worker, effect.is_async) for effect in effects if isinstance(effect, SpawnWorker)]


def kills(effects: list[NodeEffect]) -> list[WorkerId]:
    return [effect.worker for effect in effects if isinstance(effect, KillWorker)]


@pytest.mark.parametrize("cost", [{}, CPU])
def test_function_that_waits_lends_its_slot_and_its_cpu(cost: Resources) -> None:
    node = node_with_a_parent(cost)

    waited = node.handle(begins(), 1.0)
    effects = node.handle(said(nested(0, cost=cost), SESSION), 1.0)
    started = node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)

    assert spawns(waited) == []
    assert spawns(effects) == [(SECOND_WORKER, False)]
    assert gives(started) == [(SECOND_WORKER, [0])]


def test_it_takes_its_cpu_back_before_work_that_is_queued() -> None:
    node = node_with_a_parent()
    node.handle(begins(), 1.0)
    node.handle(said(nested(0, 1), SESSION), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)

    node.handle(ends(), 2.0)
    claimed = dict(node.ledger.claimed)
    leaf_done = node.handle(worker_done(done(0), worker=SECOND_WORKER, run=NESTED), 2.1)
    parent_done = node.handle(worker_done(done(0)), 2.2)

    assert claimed == {"cpu": 2.0}
    assert gives(leaf_done) == []
    assert gives(parent_done) == [(FIRST_WORKER, [1])]


def test_what_else_it_claims_it_holds() -> None:
    offer = {"cpu": 1.0, "memory": 1000.0, "gpu": 1.0, "licence": 1.0}
    node = node_with_a_parent({"cpu": 1.0, "memory": 600.0, "gpu": 1.0, "licence": 1.0}, offer)

    node.handle(begins(), 1.0)

    assert node.ledger.spare() == {"cpu": 1.0, "memory": 400.0, "gpu": 0.0, "licence": 0.0}
    assert not node.ledger.fits({"gpu": 0.5})
    node.handle(ends(), 2.0)
    assert node.ledger.spare() == {"cpu": 0.0, "memory": 400.0, "gpu": 0.0, "licence": 0.0}


def test_it_waits_until_its_last_run_is_over() -> None:
    node = node_with_a_parent()

    for event in (begins(), begins(), ends()):
        node.handle(event, 1.0)
    one_left = node.ledger.spare()
    node.handle(ends(), 1.0)

    assert (one_left, node.ledger.spare()) == ({"cpu": 1.0}, {"cpu": 0.0})


@pytest.mark.parametrize("event", [begins(attempt=2), begins(5), ends(), ends(5)])
def test_news_of_attempts_that_do_not_wait_or_have_ended_changes_nothing(
    event: NestedWaitBegan | NestedWaitEnded,
) -> None:
    node = node_with_a_parent()

    node.handle(event, 1.0)

    assert node.ledger.spare() == {"cpu": 0.0}
    node.check()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_function_may_end_before_the_node_learns_that_it_goes_on(is_async: bool, fails: bool) -> None:
    node = node_with_a_parent(is_async=is_async)
    worker = SECOND_WORKER if is_async else FIRST_WORKER
    node.handle(begins(), 1.0)

    node.handle(worker_failed(0, worker=worker) if fails else worker_done(done(0), worker=worker), 2.0)
    node.handle(ends(), 2.0)

    node.check()
    assert node.ledger.spare() == {"cpu": 1.0}
    assert len(node.ledger) == 0


def test_workers_in_place_of_others_end_once_they_are_idle_again() -> None:
    node = node_with_a_parent()
    node.handle(begins(), 1.0)
    node.handle(said(nested(0), SESSION), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)
    node.handle(worker_done(done(0), worker=SECOND_WORKER, run=NESTED), 2.0)

    stay_connected(node, 4.0)
    still_waits = node.wake(2.0 + IDLE_S)
    node.handle(ends(), 8.0)
    node.handle(worker_done(done(0)), 8.0)
    stay_connected(node, 8.5)
    effects = node.wake(8.0 + IDLE_S)

    assert kills(still_waits) == []
    assert len(kills(effects)) == 1


def test_memory_bounds_the_workers_in_place_of_others() -> None:
    offer = {"cpu": 1.0, "memory": WAITING_MB * 1.5}
    node = node_with_a_parent({}, offer)
    node.handle(begins(), 1.0)
    node.handle(said(nested(0, cost={}), SESSION), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)

    node.handle(NestedWaitBegan(NESTED, 0, 1), 2.0)
    inner = Assign(RunId(71), [template()], [job(0)], parent=Ancestor(NESTED, 0, 1))
    effects = node.handle(said(inner, SESSION), 2.0)
    goes_on = node.handle(ends(), 3.0)

    assert spawns(effects) == []
    # The outer function goes on on its own worker, so that one slot is lent, as many as may be.
    assert spawns(goes_on) == []
    assert gives(node.handle(worker_done(done(0)), 3.0)) == [(FIRST_WORKER, [0])]


def test_no_slot_is_lent_while_the_machine_is_short_of_memory() -> None:
    node = node_with_a_parent({})
    node.handle(begins(), 1.0)

    node.handle(WorkersSampled(1.0, {}, available_nbytes=9, total_nbytes=100), 1.0)
    while_short = node.handle(said(nested(0, cost={}), SESSION), 2.0)
    afterwards = node.handle(WorkersSampled(3.0, {}, available_nbytes=50, total_nbytes=100), 3.0)

    assert (spawns(while_short), spawns(afterwards)) == ([], [(SECOND_WORKER, False)])


@pytest.mark.parametrize("is_async", [False, True])
def test_worker_that_dies_while_its_function_waits_leaves_no_claim(is_async: bool) -> None:
    node = node_with_a_parent(is_async=is_async)
    node.handle(begins(), 1.0)

    effects = node.handle(exited(SECOND_WORKER if is_async else FIRST_WORKER), 2.0)

    assert [message.kind for message in replies(effects) if isinstance(message, Failed)] == ["worker"]
    assert node.ledger.spare() == {"cpu": 1.0}
    assert len(node.ledger) == 0
    node.check()


def test_runs_of_a_function_end_with_its_worker() -> None:
    node = node_with_a_parent()
    node.handle(begins(), 1.0)
    node.handle(said(nested(0), SESSION), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)

    effects = node.handle(exited(FIRST_WORKER), 2.0)

    assert kills(effects) == [SECOND_WORKER]
    assert Closed(NESTED) in replies(node.handle(exited(SECOND_WORKER), 2.1))


def test_run_that_is_closed_ends_the_runs_of_its_functions_on_all_levels() -> None:
    node = node_with_a_parent()
    node.handle(begins(), 1.0)
    node.handle(said(nested(0), SESSION), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)
    node.handle(NestedWaitBegan(NESTED, 0, 1), 1.2)
    inner = Assign(RunId(71), [template(cost=CPU)], [job(0)], parent=Ancestor(NESTED, 0, 1))
    node.handle(said(inner, SESSION), 1.2)
    node.handle(WorkerUp(THIRD_WORKER, 1003), 1.3)

    effects = node.handle(said(Close(RUN)), 2.0)

    assert kills(effects) == [FIRST_WORKER, SECOND_WORKER, THIRD_WORKER]
    for worker in (FIRST_WORKER, SECOND_WORKER, THIRD_WORKER):
        node.handle(exited(worker), 2.1)
    assert node.is_idle


def test_runs_of_other_functions_go_on() -> None:
    node = node_with_a_parent()
    node.handle(begins(), 1.0)
    node.handle(said(nested(0, parent=9), SESSION), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)

    assert kills(node.handle(exited(FIRST_WORKER), 2.0)) == []


def test_coroutine_that_waits_lends_its_cpu() -> None:
    node = node_with_a_parent(is_async=True)

    node.handle(begins(), 1.0)
    effects = node.handle(said(nested(0, is_async=True), SESSION), 1.0)

    assert gives(effects) == [(SECOND_WORKER, [0])]
    assert node.advertisement().busy == 0


def test_coroutines_run_elsewhere_while_an_event_loop_may_be_held_up() -> None:
    node = node_with_a_parent(is_async=True)
    node.handle(begins(may_hold_up_loop=True), 1.0)

    effects = node.handle(said(nested(0, is_async=True), SESSION), 1.0)
    started = node.handle(WorkerUp(THIRD_WORKER, 1003), 1.1)
    node.handle(worker_done(done(0), worker=THIRD_WORKER, run=NESTED), 1.2)
    node.handle(ends(may_hold_up_loop=True), 1.3)
    over = node.handle(worker_done(done(0), worker=SECOND_WORKER), 1.4)

    assert spawns(effects) == [(THIRD_WORKER, True)]
    assert gives(started) == [(THIRD_WORKER, [0])]
    assert kills(over) == [SECOND_WORKER]


def test_loop_is_free_again_once_the_last_run_is_over_that_may_hold_it_up() -> None:
    node = node_with_a_parent(is_async=True)
    for event in (begins(may_hold_up_loop=True), begins(), ends(may_hold_up_loop=True)):
        node.handle(event, 1.0)

    effects = node.handle(said(nested(0, is_async=True), SESSION), 1.0)

    # No other worker has taken its place.
    assert gives(effects) == [(SECOND_WORKER, [0])]


def test_function_that_waits_does_not_count_as_busy() -> None:
    node = node_with_a_parent({})
    busy = node.advertisement().busy

    node.handle(begins(), 1.0)

    assert (busy, node.advertisement().busy, node.advertisement().running) == (1, 0, 1)


def test_worker_whose_function_waits_gets_no_further_one() -> None:
    node = started_node()
    give(node, [job(index) for index in range(3)], [template()])
    node.handle(worker_done(done(0, ran_s=0.05)), 1.0)
    # Brief functions are given ahead of time otherwise.
    assert gives(node.handle(begins(1), 1.0)) == []

    assert node.advertisement().queued == 1


def test_fork_of_an_earlier_function_may_wait_while_the_next_one_does() -> None:
    node = started_node({"cpu": 1.0})
    give(node, [job(index) for index in range(9)], [template(cost=CPU)])
    node.handle(worker_done(done(0, ran_s=0.0001)), 1.0)

    for event in (begins(1), begins(2)):
        node.handle(event, 1.0)
        node.check()
    lent = node.ledger.spare()
    node.handle(worker_done(done(1)), 1.1)
    still_lent = node.ledger.spare()
    node.handle(ends(2), 1.2)

    assert (lent, still_lent, node.ledger.spare()) == ({"cpu": 1.0}, {"cpu": 1.0}, {"cpu": 0.0})
    node.check()


def test_slot_of_a_worker_that_is_being_killed_is_neither_lent_nor_taken_back() -> None:
    node = node_with_a_parent(capabilities={"cpu": 2.0})
    node.handle(begins(), 1.0)
    node.handle(said(Close(RUN)), 1.0)

    for event in (ends(), begins()):
        node.handle(event, 1.0)
        node.check()
    node.handle(exited(FIRST_WORKER), 1.1)

    assert node.is_idle
    assert node.ledger.spare() == {"cpu": 2.0}


def test_cost_of_a_function_in_the_queue_counts_beside_what_is_taken_back() -> None:
    node = node_with_a_parent({"cpu": 2.0}, {"cpu": 2.0})
    node.handle(begins(), 1.0)
    node.handle(said(nested(0, 1, 2), SESSION), 1.0)
    for number in (2, 3):
        node.handle(WorkerUp(WorkerId(number), 1000 + number), 1.1)

    node.handle(ends(), 2.0)
    one_done = node.handle(worker_done(done(0), worker=SECOND_WORKER, run=NESTED), 2.1)
    both_done = node.handle(worker_done(done(1), worker=THIRD_WORKER, run=NESTED), 2.2)
    parent_done = node.handle(worker_done(done(0)), 2.3)

    assert (gives(one_done), gives(both_done)) == ([], [])
    assert gives(parent_done) == [(FIRST_WORKER, [2])]
