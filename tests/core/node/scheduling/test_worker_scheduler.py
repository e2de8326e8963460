from handoff_actors.core.node.events import (
    Advertise,
    CancelCoroutine,
    DiscardValue,
    KillWorker,
    PeerConnected,
    RecallWorker,
    SpawnWorker,
    WorkerDone,
    WorkerRecalled,
    WorkerUp,
)
from handoff_actors.core.node.scheduling.worker_roster import FIRST_RESPAWN_S, IDLE_S
from handoff_actors.core.node.scheduling.worker_scheduler import MAX_COROUTINES
from handoff_actors.ids import PeerId, RunId, WorkerId
from handoff_actors.wire.messages.jobs import FIRST, Ticket
from handoff_actors.wire.messages.members import Beat
from handoff_actors.wire.messages.runs import Close, Closed, Failed, Recall, Recalled
from tests.core.builders import (
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

LATER_APP = PeerId(b"the same app, connected anew")


def test_function_that_was_alone_when_its_worker_died_is_to_blame() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)

    effects = node.handle(exited(signal=None), 1.5)

    assert effects[0] == DiscardValue(RUN, 0, 1)
    reason = "the worker that ran it died by exit code 3"
    assert replies(effects) == [Failed(RUN, 0, 1, "worker", b"", reason, None, None, 3, 0.5)]


def test_functions_that_shared_a_worker_that_died_run_again_each_alone() -> None:
    node = started_node()
    node.handle(said(assign([job(index) for index in range(9)])), 1.0)
    node.handle(worker_done(done(0, ran_s=0.0001)), 1.0)

    node.handle(exited(), 1.01)
    effects = node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)

    assert [len(indices) for _, indices in gives(effects)] == [1]
    assert len(node._scheduler.queue) == 7


def test_short_functions_are_given_in_batches_and_recalled_when_one_takes_long() -> None:
    node = started_node()
    node.handle(said(assign([job(index) for index in range(9)])), 1.0)

    held = gives(node.handle(worker_done(done(0, ran_s=0.0001)), 1.0))
    silent = node.wake(1.02)
    given_back = [(RUN, Ticket(index, 1)) for index in range(2, 9)] + [(RUN, Ticket(99, 1))]
    node.handle(WorkerRecalled(FIRST_WORKER, given_back), 1.021)

    assert held == [(FIRST_WORKER, list(range(1, 9)))]
    assert [effect for effect in silent if not isinstance(effect, Advertise)] == [RecallWorker(FIRST_WORKER)]
    assert len(node._scheduler.queue) == 7


def test_what_is_more_urgent_starts_before_what_came_earlier() -> None:
    node = started_node()
    ranks = [(0, 1, -3.0), (0, 1, -1.0), (0, 1, -2.0), (0, 0, -1.0), (-1, 1, -1.0), (0, 1, -2.0)]
    for index, rank in enumerate(ranks):
        node.handle(said(assign([job(index, rank=rank)])), 1.0)

    order = [gives(node.handle(worker_done(done(index)), 2.0)) for index in (0, 4, 3, 2, 5)]

    assert order == [[(FIRST_WORKER, [index])] for index in (4, 3, 2, 5, 1)]


def test_what_a_worker_gives_back_starts_before_what_is_as_urgent() -> None:
    node = started_node()
    node.handle(said(assign([job(index) for index in range(3)])), 1.0)
    node.handle(worker_done(done(0, ran_s=0.0001)), 1.0)
    node.wake(1.02)
    node.handle(WorkerRecalled(FIRST_WORKER, [(RUN, Ticket(2, 1))]), 1.021)
    for index, rank in ((3, FIRST), (4, (-1, 0, 0.0))):
        node.handle(said(assign([job(index, rank=rank)])), 1.03)

    order = [gives(node.handle(worker_done(done(index)), 2.0)) for index in (1, 4, 2)]

    assert order == [[(FIRST_WORKER, [index])] for index in (4, 2, 3)]


def test_function_beyond_its_time_limit_is_stopped_and_told() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(timeout=0.2)])), 1.0)

    stopped = node.wake(1.2)
    reported = replies(node.handle(exited(), 1.21))

    assert KillWorker(FIRST_WORKER) in stopped
    assert [(failure.kind, failure.reason) for failure in reported if isinstance(failure, Failed)] == [
        ("timeout", "it did not end within its timeout of 0.2 s, and was stopped")
    ]


def test_coroutines_run_together_and_one_that_ignores_its_limit_takes_the_worker_along() -> None:
    node = started_node()
    spawned = node.handle(said(assign([job(0), job(1)], [template(is_async=True, timeout=0.2)])), 1.0)
    held = gives(node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0))
    node.handle(WorkerDone(SECOND_WORKER, RUN, [done(1)]), 1.1)

    cancelled = node.wake(1.2)
    killed = node.wake(1.7)
    reported = replies(node.handle(exited(SECOND_WORKER), 1.71))

    assert SpawnWorker(SECOND_WORKER, True) in spawned
    assert held == [(SECOND_WORKER, [0, 1])]
    assert CancelCoroutine(SECOND_WORKER, RUN, 0, 1) in cancelled
    assert KillWorker(SECOND_WORKER) in killed
    assert [failure.kind for failure in reported if isinstance(failure, Failed)] == ["timeout"]


def test_coroutine_beside_one_that_ignores_its_limit_runs_again() -> None:
    node = started_node()
    templates = [template(is_async=True, timeout=0.2), template(1, is_async=True)]
    node.handle(said(assign([job(0), job(1, number=1)], templates)), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)

    node.wake(1.2)
    killing = node.wake(1.7)
    reported = replies(node.handle(exited(SECOND_WORKER), 1.8))
    third = WorkerId(3)
    again = node.handle(WorkerUp(third, 1003), 1.9)

    assert KillWorker(SECOND_WORKER) in killing
    assert [(message.index, message.kind) for message in reported if isinstance(message, Failed)] == [
        (0, "timeout")
    ]
    assert (third, [1]) in gives(again)


def test_coroutine_that_was_cancelled_for_its_limit_has_run_out_of_time() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(is_async=True, timeout=0.2)])), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)
    node.wake(1.2)

    reported = replies(node.handle(worker_failed(0, "cancelled", SECOND_WORKER), 1.21))

    assert [failure.kind for failure in reported if isinstance(failure, Failed)] == ["timeout"]


def test_coroutines_on_devices_go_out_one_set_of_devices_at_a_time() -> None:
    node = started_node({"cpu": 1.0, "gpu": 2.0})
    node.handle(said(assign([job(0), job(1), job(2)], [template(is_async=True, cost={"gpu": 1})])), 1.0)

    held = gives(node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0))

    assert held == [(SECOND_WORKER, [0]), (SECOND_WORKER, [1])]


def test_worker_that_does_not_come_up_is_tried_again_after_ever_longer_pauses() -> None:
    node = started_node()
    node.handle(exited(), 1.0)
    node.handle(exited(SECOND_WORKER, signal=None), 1.05)

    too_early = node.wake(1.1)
    in_time = node.wake(1.2)

    assert SpawnWorker(WorkerId(3), False) not in too_early
    assert SpawnWorker(WorkerId(3), False) in in_time


def test_node_wakes_up_to_try_again_to_start_a_worker() -> None:
    node = started_node()
    node.handle(exited(), 1.0)
    node.handle(exited(SECOND_WORKER, signal=None), 1.05)

    assert node.wake_at == 1.05 + FIRST_RESPAWN_S


def test_worker_for_coroutines_that_does_not_come_up_is_not_started_again_at_once() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(is_async=True)])), 1.0)

    at_once = node.handle(exited(SECOND_WORKER), 1.05)
    after_a_pause = node.wake(1.05 + FIRST_RESPAWN_S)

    assert not any(isinstance(effect, SpawnWorker) for effect in at_once)
    assert SpawnWorker(WorkerId(3), True) in after_a_pause


def test_small_claims_get_more_workers_which_end_when_nobody_needs_them() -> None:
    node = started_node()
    jobs = [job(index) for index in range(3)]
    effects = node.handle(said(assign(jobs, [template(cost={"cpu": 0.25})])), 1.0)
    for number in (2, 3):
        node.handle(WorkerUp(WorkerId(number), 1000 + number), 1.0)
    for number in (1, 2, 3):
        node.handle(worker_done(done(number - 1), worker=WorkerId(number)), 1.1)

    ended = [effect for effect in node.wake(6.2) if isinstance(effect, KillWorker)]

    assert [effect.worker for effect in effects if isinstance(effect, SpawnWorker)] == [2, 3]
    assert len(ended) == 2


def test_node_wakes_up_to_end_a_worker_beyond_the_usual_number_and_not_for_the_others() -> None:
    node = started_node()
    node.handle(said(assign([job(0), job(1)], [template(cost={"cpu": 0.5})])), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)
    node.handle(worker_done(done(0)), 1.1)
    node.handle(worker_done(done(1), worker=SECOND_WORKER), 1.2)
    node.handle(said(Beat()), 6.0)

    first_wake = node.wake_at
    effects = node.wake(1.1 + IDLE_S)
    node.wake(7.0)

    assert first_wake == 1.1 + IDLE_S
    assert KillWorker(FIRST_WORKER) in effects
    assert node.wake_at != 1.2 + IDLE_S


def test_worker_bound_to_other_devices_makes_room_for_a_new_one() -> None:
    node = started_node({"cpu": 1.0, "gpu": 2.0})
    node.handle(said(assign([job(0), job(1)], [template(cost={"gpu": 1})])), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)
    node.handle(worker_done(done(0)), 1.1)
    node.handle(worker_done(done(1), worker=SECOND_WORKER), 1.1)

    effects = node.handle(said(assign([job(2, number=1)], [template(1, cost={"gpu": 2})])), 1.2)
    held = gives(node.handle(WorkerUp(WorkerId(3), 1003), 1.3))

    assert KillWorker(FIRST_WORKER) in effects
    assert SpawnWorker(WorkerId(3), False) in effects
    assert held == [(WorkerId(3), [2])]


def test_what_large_claims_have_waited_for_is_not_given_to_small_ones() -> None:
    node = started_node({"cpu": 2.0}, workers=2)
    small, large = template(0, {"cpu": 1}), template(1, {"cpu": 2})
    node.handle(said(assign([job(0), job(1, number=1)], [small, large])), 1.0)

    held_back = gives(node.handle(said(assign([job(2)], [small])), 2.5))
    held = gives(node.handle(worker_done(done(0)), 2.7))

    assert held_back == []
    assert held == [(FIRST_WORKER, [1])]


def test_where_one_is_enough_it_is_always_the_same() -> None:
    node = started_node({"cpu": 2.0}, workers=2)
    for index in (0, 1):
        node.handle(said(assign([job(index)], [template()])), 1.0)
    node.handle(worker_done(done(0)), 1.1)
    node.handle(worker_done(done(1), worker=SECOND_WORKER), 1.2)

    held = gives(node.handle(said(assign([job(2)], [template()])), 1.3))

    assert held == [(FIRST_WORKER, [2])]


def test_worker_gives_back_what_it_has_not_started_of_a_run_that_is_over() -> None:
    node = started_node()
    node.handle(said(assign([job(index) for index in range(3)])), 1.0)
    node.handle(worker_done(done(0, ran_s=0.0001)), 1.0)
    node.wake(1.02)
    node.handle(said(Close(RUN)), 1.03)

    node.handle(WorkerRecalled(FIRST_WORKER, [(RUN, Ticket(2, 1))]), 1.04)
    reported = replies(node.handle(exited(), 1.05))

    assert reported == [Closed(RUN)]
    assert node.is_idle


def test_close_of_a_run_whose_worker_is_being_stopped_already_waits_for_that() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(timeout=0.2)])), 1.0)
    node.wake(1.2)

    at_once = node.handle(said(Close(RUN)), 1.21)
    reported = replies(node.handle(exited(), 1.22))

    assert at_once == []
    assert reported == [Closed(RUN)]


def test_time_limit_of_a_function_that_is_being_stopped_changes_nothing() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(timeout=0.2)])), 1.0)
    node.handle(said(Close(RUN)), 1.1)

    effects = node.wake(1.2)

    assert not any(isinstance(effect, KillWorker) for effect in effects)
    assert replies(effects) == []


def test_coroutine_that_is_being_cancelled_is_not_cancelled_again_by_the_end_of_its_run() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(is_async=True, timeout=0.2)])), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)
    node.wake(1.2)

    effects = node.handle(said(Close(RUN)), 1.3)

    assert CancelCoroutine(SECOND_WORKER, RUN, 0, 1) not in effects
    assert KillWorker(SECOND_WORKER) in node.wake(1.7)


def test_coroutines_of_a_worker_that_died_run_again_and_their_claims_are_free() -> None:
    node = started_node({"cpu": 2.0})
    claiming = template(is_async=True, cost={"cpu": 1})
    node.handle(said(assign([job(0), job(1)], [claiming])), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)

    effects = node.handle(exited(SECOND_WORKER), 1.1)

    assert gives(effects) == [(FIRST_WORKER, [0])]
    assert len(node.ledger) == 1


def test_claim_of_a_coroutine_that_is_done_is_free_for_the_next() -> None:
    node = started_node()
    node.handle(said(assign([job(0), job(1)], [template(is_async=True, cost={"cpu": 1})])), 1.0)
    first = gives(node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0))

    second = gives(node.handle(worker_done(done(0), worker=SECOND_WORKER), 1.1))
    node.handle(worker_done(done(1), worker=SECOND_WORKER), 1.2)

    assert (first, second) == ([(SECOND_WORKER, [0])], [(SECOND_WORKER, [1])])
    assert node.ledger.claimed == {"cpu": 0.0}


def test_no_more_coroutines_run_at_once_than_a_worker_bears() -> None:
    node = started_node()
    jobs = [job(index) for index in range(MAX_COROUTINES + 2)]
    node.handle(said(assign(jobs, [template(is_async=True)])), 1.0)

    at_first = gives(node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0))
    after_one = gives(node.handle(worker_done(done(0), worker=SECOND_WORKER), 1.1))

    assert [len(indices) for _, indices in at_first] == [MAX_COROUTINES]
    assert after_one == [(SECOND_WORKER, [MAX_COROUTINES])]


def test_worker_of_short_functions_gets_more_before_it_runs_dry() -> None:
    node = started_node()
    node.handle(said(assign([job(index) for index in range(60)])), 1.0)
    ((_, batch),) = gives(node.handle(worker_done(done(0, ran_s=0.0001)), 1.0))

    half = [done(index, ran_s=0.0001) for index in batch[: len(batch) // 2 + 1]]
    more = gives(node.handle(worker_done(*half), 1.001))

    assert [(worker, indices[0]) for worker, indices in more] == [(FIRST_WORKER, batch[-1] + 1)]


def test_last_functions_of_a_run_are_given_before_the_worker_runs_dry() -> None:
    node = started_node()
    node.handle(said(assign([job(index) for index in range(23)])), 1.0)
    ((_, batch),) = gives(node.handle(worker_done(done(0, ran_s=0.0001)), 1.0))
    half = [done(index, ran_s=0.0001) for index in batch[: len(batch) // 2 + 1]]

    more = gives(node.handle(worker_done(*half), 1.001))

    assert [indices[-1] for _, indices in more] == [22]
    node.check()


def test_node_whose_workers_do_not_start_does_not_start_more_for_small_claims() -> None:
    node = started_node()
    node.handle(exited(), 1.0)
    node.handle(exited(SECOND_WORKER, signal=None), 1.01)

    effects = node.handle(said(assign([job(0)], [template(cost={"cpu": 0.1})])), 1.02)

    assert not any(isinstance(effect, SpawnWorker) for effect in effects)


def test_recall_takes_what_it_names_and_leaves_the_rest() -> None:
    node = started_node()
    node.handle(said(assign([job(index) for index in range(4)])), 1.0)

    reported = replies(
        node.handle(said(Recall(RUN, [Ticket(0, 1), Ticket(2, 1), Ticket(3, 9)], room=4)), 1.1)
    )
    rest = replies(node.handle(said(Recall(RUN, [Ticket(1, 1), Ticket(3, 1)], room=4)), 1.2))

    assert reported == [Recalled(RUN, [Ticket(2, 1)])]
    assert rest == [Recalled(RUN, [Ticket(1, 1), Ticket(3, 1)])]
    node.check()


def test_recall_that_finds_nothing_to_give_back_leaves_the_room_to_another_peer() -> None:
    node = started_node()
    other, its_run = PeerId(b"other"), RunId(8)
    node.handle(PeerConnected(other), 1.0)
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(said(assign([job(0)], run=its_run), other), 1.0)

    running = replies(node.handle(said(Recall(RUN, [Ticket(0, 1)], room=1)), 1.1))
    waiting = replies(node.handle(said(Recall(its_run, [Ticket(0, 1)], room=1), other), 1.1))

    assert running == [Recalled(RUN, [])]
    assert waiting == [Recalled(its_run, [Ticket(0, 1)])]
