"""Attempts that their run cancels, wherever they are on a node."""

from collections.abc import Sequence

import pytest

from handoff_actors.core.node.events import (
    CancelCoroutine,
    DiscardValue,
    FetchInput,
    InputFetched,
    InputMissing,
    KillWorker,
    Leave,
    LeaveCompleted,
    MessageFromPeer,
    NodeEffect,
    PeerConnected,
    PeerLost,
    RecallWorker,
    WorkerFailed,
    WorkerRecalled,
    WorkerUp,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.scheduling.worker_scheduler import CANCEL_GRACE_S
from handoff_actors.ids import PeerId, WorkerId
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.jobs import Earlier, Job, Ref, Ticket
from handoff_actors.wire.messages.runs import (
    CancelJobs,
    Close,
    Completed,
    Failed,
    FailureKind,
    Recalled,
    Stop,
    Stopped,
)
from tests.core.builders import (
    APP,
    CLOSED,
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

STRANGER = PeerId(b"stranger")
ONE_CPU = [template(cost={"cpu": 1.0})]
COROUTINES = [template(is_async=True)]


def cancel(*indices: int, peer: PeerId = APP, attempt: int = 1) -> MessageFromPeer:
    return said(CancelJobs(RUN, [Ticket(index, attempt) for index in indices]), peer)


def fused_group(*indices: int) -> Job:
    head, *behind = indices
    return Job(head, 1, 0, [], None, tuple(Job(index, 1, 0, [Earlier(index - 1)], None) for index in behind))


def running(*jobs: Job) -> NodeMachine:
    """A node whose only worker runs the first of these jobs, which is long."""
    node = started_node()
    node.handle(said(assign(jobs, ONE_CPU)), 1.0)
    return node


def holding(*jobs: Job) -> NodeMachine:
    """A node whose only worker has been given all of these jobs, which are known to be short."""
    node = started_node()
    node.handle(said(assign([job(9)], ONE_CPU)), 0.9)
    node.handle(worker_done(done(9, ran_s=0.00001)), 0.9)
    assert gives(node.handle(said(assign(jobs, [])), 1.0)) == [(FIRST_WORKER, [one.index for one in jobs])]
    return node


def running_coroutines(*indices: int) -> NodeMachine:
    """A node that runs coroutines on worker 2."""
    node = started_node()
    node.handle(said(assign([job(index) for index in indices], COROUTINES)), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)
    return node


def given_back(*indices: int) -> WorkerRecalled:
    return WorkerRecalled(FIRST_WORKER, [(RUN, Ticket(index, 1)) for index in indices])


def was_cancelled(worker: WorkerId = SECOND_WORKER) -> WorkerFailed:
    return WorkerFailed(worker, RUN, 0, 1, "cancelled", b"", "cancelled", 0.1)


def outcomes(effects: Sequence[NodeEffect]) -> list[tuple[int, FailureKind, str]]:
    return [
        (message.index, message.kind, message.reason)
        for message in replies(effects)
        if isinstance(message, Failed)
    ]


def cancelled(*indices: int) -> list[tuple[int, FailureKind, str]]:
    return [(index, "cancelled", "cancelled by the app") for index in indices]


def separated(*indices: int) -> FromNode:
    return Recalled(RUN, [Ticket(index, 1) for index in indices], is_separated=True)


# --- Attempts that no worker has


def test_queued_attempt_is_dropped_at_once() -> None:
    node = running(job(0), job(1), job(2))

    effects = node.handle(cancel(1), 1.1)
    later = node.handle(worker_done(done(0)), 1.2)

    assert outcomes(effects) == cancelled(1)
    assert len(replies(effects)) == 1
    assert gives(later) == [(FIRST_WORKER, [2])]
    node.check()


def test_attempt_that_waits_for_an_input_is_dropped_and_the_input_still_comes() -> None:
    node = started_node()
    fetching = node.handle(said(assign([job(1, args=[Ref(5, 100, ["elsewhere"])])])), 1.0)

    effects = node.handle(cancel(1), 1.1)
    later = node.handle(InputFetched(RUN, 5, 100), 1.2)

    assert any(isinstance(effect, FetchInput) for effect in fetching)
    assert outcomes(effects) == cancelled(1)
    assert gives(later) == []
    assert node.size_of(RUN, 5) == 100
    node.check()


def test_loss_of_an_input_of_a_cancelled_attempt_leaves_the_next_use_of_its_slot_alone() -> None:
    node = started_node()
    node.handle(said(assign([job(1, args=[Ref(5, 100, ["elsewhere"])])])), 1.0)
    node.handle(cancel(1), 1.1)
    node.handle(said(assign([job(1, attempt=2, args=[Ref(6, 100, ["elsewhere"])])], [])), 1.2)

    lost = node.handle(InputMissing(RUN, 5, "gone"), 1.3)
    later = node.handle(InputFetched(RUN, 6, 100), 1.4)

    assert replies(lost) == []
    assert gives(later) == [(FIRST_WORKER, [1])]
    node.check()


def test_cancelling_twice_or_what_is_unknown_or_reported_or_another_attempt_changes_nothing() -> None:
    node = running(job(0), job(1), job(2))
    node.handle(worker_done(done(0)), 1.1)
    node.handle(cancel(2), 1.2)

    again = node.handle(cancel(0, 2, 7), 1.3)
    other = node.handle(cancel(1, attempt=2), 1.3)

    assert replies(again) == replies(other) == []
    assert not any(isinstance(effect, RecallWorker | KillWorker) for effect in [*again, *other])
    node.check()


def test_only_the_peer_that_a_run_belongs_to_cancels_its_functions() -> None:
    node = running(job(0), job(1))
    node.handle(PeerConnected(STRANGER), 1.0)

    effects = node.handle(cancel(0, 1, peer=STRANGER), 1.1)

    assert effects == []
    assert node.handle(said(CancelJobs(RUN, []), STRANGER), 1.2) == []


def test_fused_group_that_waits_is_dropped_whole_and_given_back_but_for_what_is_cancelled() -> None:
    node = running(job(0), fused_group(1, 2, 3))

    answered = replies(node.handle(cancel(2), 1.1))

    assert [type(message) for message in answered] == [Failed, Recalled]
    assert answered[1] == separated(1, 3)
    assert gives(node.handle(worker_done(done(0)), 1.2)) == []
    node.check()


# --- Sync workers


def test_running_function_is_stopped_once_it_is_known_to_run() -> None:
    node = running(job(0), job(1))

    asked = node.handle(cancel(0), 1.1)
    killed = node.handle(given_back(), 1.1)
    ended = node.handle(exited(), 1.2)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.3)

    assert RecallWorker(FIRST_WORKER) in asked
    assert replies([*asked, *killed]) == []
    assert KillWorker(FIRST_WORKER) in killed
    assert DiscardValue(RUN, 0, 1) in ended
    assert outcomes(ended) == cancelled(0)
    assert node.ledger.claimed == {"cpu": 1.0}, "the next function has the claim"
    node.check()


def test_function_that_ends_before_it_is_stopped_has_succeeded() -> None:
    node = running(job(0))
    node.handle(cancel(0), 1.1)

    before_the_answer = node.handle(worker_done(done(0)), 1.1)
    answer = node.handle(given_back(), 1.1)

    assert [type(message) for message in replies(before_the_answer)] == [Completed]
    assert replies(answer) == []
    assert KillWorker(FIRST_WORKER) not in answer
    node.check()


def test_function_that_ends_while_its_worker_is_killed_has_succeeded() -> None:
    node = running(job(0))
    node.handle(cancel(0), 1.1)
    node.handle(given_back(), 1.1)

    finished = node.handle(worker_done(done(0)), 1.1)
    ended = node.handle(exited(), 1.2)

    assert [type(message) for message in replies(finished)] == [Completed]
    assert replies(ended) == []
    node.check()


def test_attempt_that_its_worker_has_not_started_is_given_back_and_the_others_run() -> None:
    node = holding(job(0), job(1), job(2))

    node.handle(cancel(1), 1.1)
    effects = node.handle(given_back(1, 2), 1.1)
    later = node.handle(worker_done(done(0)), 1.2)

    assert outcomes(effects) == cancelled(1)
    assert KillWorker(FIRST_WORKER) not in effects
    assert gives(later) == [(FIRST_WORKER, [2])]
    node.check()


def test_recall_that_is_under_way_serves_for_further_attempts() -> None:
    node = holding(job(0), job(1), job(2))

    first = node.handle(cancel(1), 1.1)
    second = node.handle(cancel(2, 1), 1.1)
    effects = node.handle(given_back(1, 2), 1.1)

    assert RecallWorker(FIRST_WORKER) in first
    assert RecallWorker(FIRST_WORKER) not in second
    assert outcomes(effects) == cancelled(1, 2)
    node.check()


def test_other_attempts_of_a_worker_that_is_killed_run_again_and_are_no_suspects() -> None:
    node = holding(job(0), job(1), job(2))
    node.handle(cancel(0), 1.1)
    node.wake(1.1 + CANCEL_GRACE_S)

    ended = node.handle(exited(), 1.7)
    later = node.handle(WorkerUp(SECOND_WORKER, 1002), 1.8)

    assert outcomes(ended) == cancelled(0)
    assert gives(later) == [(SECOND_WORKER, [1, 2])]
    node.check()


def test_worker_too_busy_to_answer_is_killed_after_a_while() -> None:
    node = running(job(0))
    node.handle(cancel(0), 1.1)

    early = node.wake(1.1 + CANCEL_GRACE_S - 0.01)
    in_time = node.wake(1.1 + CANCEL_GRACE_S)

    assert KillWorker(FIRST_WORKER) not in early
    assert KillWorker(FIRST_WORKER) in in_time
    assert outcomes(node.handle(exited(), 1.7)) == cancelled(0)


def test_worker_too_busy_to_answer_is_not_killed_for_an_attempt_behind_another_one() -> None:
    node = holding(job(0), job(1))
    node.handle(cancel(1), 1.1)

    effects = node.wake(1.1 + CANCEL_GRACE_S)
    node.handle(worker_done(done(0)), 2.0)
    answer = node.handle(given_back(1), 2.0)

    assert KillWorker(FIRST_WORKER) not in effects
    assert outcomes(answer) == cancelled(1)
    node.check()


def test_cancelled_attempt_whose_worker_dies_is_cancelled() -> None:
    node = holding(job(0), job(1))
    node.handle(cancel(1), 1.1)

    effects = node.handle(exited(signal=11), 1.1)
    later = node.handle(WorkerUp(SECOND_WORKER, 1002), 1.2)

    assert outcomes(effects) == cancelled(1)
    assert gives(later) == [(SECOND_WORKER, [0])]
    node.check()


def test_cancelled_attempt_that_fails_before_it_is_stopped_is_cancelled() -> None:
    node = running(job(0))
    node.handle(cancel(0), 1.1)

    effects = node.handle(worker_failed(0), 1.1)

    assert outcomes(effects) == cancelled(0)
    node.check()


def test_cancelled_function_with_a_time_limit_is_cancelled_whichever_ends_it() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(timeout=0.2)])), 1.0)
    node.handle(cancel(0), 1.1)

    effects = node.wake(1.2)

    assert KillWorker(FIRST_WORKER) in effects
    assert outcomes(node.handle(exited(), 1.3)) == cancelled(0)


# --- Fused groups on a worker


def test_members_behind_a_cancelled_running_one_are_given_back() -> None:
    node = running(fused_group(0, 1, 2))
    node.handle(cancel(0), 1.1)

    answered = replies(node.handle(given_back(1, 2), 1.1))
    ended = node.handle(exited(), 1.2)

    assert answered == [separated(1, 2)]
    assert outcomes(ended) == cancelled(0)
    node.check()


def test_members_that_are_cancelled_behind_one_that_runs_do_not_run() -> None:
    node = running(fused_group(0, 1, 2, 3))
    node.handle(cancel(1, 3), 1.1)

    effects = node.handle(given_back(1, 2, 3), 1.1)
    finished = node.handle(worker_done(done(0)), 1.2)

    assert outcomes(effects) == cancelled(1, 3)
    assert replies(effects)[-1] == separated(2)
    assert KillWorker(FIRST_WORKER) not in effects
    assert [type(message) for message in replies(finished)] == [Completed]
    node.check()


def test_fused_group_that_a_worker_gives_back_whole_is_given_back_to_its_run_if_a_member_is_cancelled() -> (
    None
):
    node = holding(job(0), fused_group(1, 2, 3), fused_group(4, 5))
    node.handle(cancel(2), 1.1)

    effects = node.handle(given_back(1, 2, 3, 4, 5), 1.1)
    later = node.handle(worker_done(done(0)), 1.2)

    assert outcomes(effects) == cancelled(2)
    assert replies(effects)[-1] == separated(1, 3)
    assert gives(later) == [(FIRST_WORKER, [4])]
    node.check()


def test_cancelled_members_behind_a_failure_are_cancelled() -> None:
    node = running(fused_group(0, 1, 2))
    node.handle(cancel(2), 1.1)

    answered = replies(node.handle(worker_failed(0), 1.1))

    assert [message.kind for message in answered if isinstance(message, Failed)] == ["exception", "cancelled"]
    assert answered[-1] == separated(1)
    node.check()


def test_cancelled_members_of_a_group_whose_worker_dies_are_cancelled() -> None:
    node = running(fused_group(0, 1, 2))
    node.handle(cancel(2), 1.1)

    effects = node.handle(exited(), 1.1)

    assert outcomes(effects) == cancelled(2)
    assert replies(effects)[-1] == separated(1, 0)
    node.check()


# --- Coroutines


def test_coroutine_is_cancelled() -> None:
    node = running_coroutines(0, 1)

    effects = node.handle(cancel(0), 1.1)
    ended = node.handle(was_cancelled(), 1.2)

    assert CancelCoroutine(SECOND_WORKER, RUN, 0, 1) in effects
    assert outcomes(ended) == cancelled(0)
    assert node.is_working, "the other coroutine goes on"
    node.check()


def test_coroutine_is_cancelled_once() -> None:
    node = running_coroutines(0)
    node.handle(cancel(0), 1.1)

    assert node.handle(cancel(0, 0), 1.2) == []


def test_coroutine_that_ends_well_all_the_same_has_succeeded() -> None:
    node = running_coroutines(0)
    node.handle(cancel(0), 1.1)

    effects = node.handle(worker_done(done(0), worker=SECOND_WORKER), 1.2)

    assert [type(message) for message in replies(effects)] == [Completed]


def test_coroutine_that_does_not_end_is_killed_with_its_worker_and_the_others_run_again() -> None:
    node = running_coroutines(0, 1)
    node.handle(cancel(0), 1.1)

    early = node.wake(1.1 + CANCEL_GRACE_S - 0.01)
    effects = node.wake(1.1 + CANCEL_GRACE_S)
    ended = node.handle(exited(SECOND_WORKER), 1.7)
    third = WorkerId(3)
    again = node.handle(WorkerUp(third, 1003), 1.8)

    assert KillWorker(SECOND_WORKER) not in early
    assert KillWorker(SECOND_WORKER) in effects
    assert outcomes(ended) == cancelled(0)
    assert gives(again) == [(third, [1])]
    node.check()


def test_time_limit_that_passes_while_a_coroutine_is_cancelled_takes_nothing_from_its_time_to_clean_up() -> (
    None
):
    node = started_node()
    node.handle(said(assign([job(0)], [template(is_async=True, timeout=0.2)])), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)
    node.handle(cancel(0), 1.1)

    at_the_limit = node.wake(1.2)
    in_the_end = node.wake(1.1 + CANCEL_GRACE_S)

    assert KillWorker(SECOND_WORKER) not in at_the_limit
    assert KillWorker(SECOND_WORKER) in in_the_end


def test_coroutine_that_has_exceeded_its_time_limit_is_reported_as_such() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(is_async=True, timeout=0.2)])), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)
    node.wake(1.2)

    effects = node.handle(cancel(0), 1.3)
    ended = node.handle(was_cancelled(), 1.3)

    assert effects == []
    assert [kind for _, kind, _ in outcomes(ended)] == ["timeout"]


# --- What else may happen meanwhile


@pytest.mark.parametrize(("end", "answer"), [(Close(RUN), CLOSED), (Stop(RUN), Stopped(RUN))])
def test_run_that_ends_while_a_function_of_it_is_cancelled(end: object, answer: FromNode) -> None:
    node = running(job(0))
    node.handle(cancel(0), 1.1)

    at_once = node.handle(said(end), 1.1)
    given = node.handle(given_back(), 1.2)
    in_the_end = node.handle(exited(), 1.3)

    assert KillWorker(FIRST_WORKER) in at_once
    assert KillWorker(FIRST_WORKER) not in given
    assert replies(in_the_end) == [answer]
    node.check()


@pytest.mark.parametrize(("end", "answer"), [(Close(RUN), CLOSED), (Stop(RUN), Stopped(RUN))])
def test_run_that_ends_while_a_coroutine_of_it_is_cancelled(end: object, answer: FromNode) -> None:
    node = running_coroutines(0)
    node.handle(cancel(0), 1.1)

    at_once = node.handle(said(end), 1.1)
    in_the_end = node.handle(was_cancelled(), 1.2)

    assert not any(isinstance(effect, CancelCoroutine) for effect in at_once)
    assert replies(in_the_end) == [answer]
    node.check()


def test_functions_of_a_run_that_is_over_are_not_cancelled() -> None:
    node = running(job(0))
    node.handle(said(Stop(RUN)), 1.1)

    assert node.handle(cancel(0), 1.2) == []


def test_app_that_is_lost_while_its_function_is_cancelled_leaves_nothing_behind() -> None:
    node = running(job(0), job(1))
    node.handle(cancel(0, 1), 1.1)

    node.handle(PeerLost(APP), 1.2)
    node.handle(exited(), 1.3)

    assert node.is_idle
    node.check()


def test_worker_that_is_being_killed_for_another_reason_is_not_recalled() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(timeout=0.2)])), 1.0)
    node.wake(1.2)

    effects = node.handle(cancel(0), 1.3)

    assert RecallWorker(FIRST_WORKER) not in effects
    assert outcomes(node.handle(exited(), 1.4)) == cancelled(0)


def test_leaving_node_goes_once_its_cancelled_function_has_ended() -> None:
    node = running(job(0))
    node.handle(Leave(), 1.0)
    node.handle(cancel(0), 1.1)
    node.handle(given_back(), 1.1)

    ended = node.handle(exited(), 1.2)
    closed = node.handle(said(Close(RUN)), 1.3)

    assert outcomes(ended) == cancelled(0)
    assert LeaveCompleted() not in ended
    assert LeaveCompleted() in closed
