from collections.abc import Mapping, Sequence

import pytest

from handoff_actors.core.cluster.autoscaler import (
    FIRST_PAUSE_S,
    JOINS_WITHIN_S,
    LONGEST_PAUSE_S,
    MOST_IN_VAIN,
    PATIENCE_S,
    PROVEN_S,
    SETTLING_S,
    Autoscaler,
    AutoscalerEffect,
    CancelBatchJobs,
    ClusterSeen,
    JobId,
    JobListed,
    JobPhase,
    JobsListed,
    JobSubmitted,
    LogJob,
    Scale,
    SubmissionRefused,
    SubmitJob,
)
from handoff_actors.ids import Resources
from handoff_actors.wire.messages.members import Backlog

OFFER: Resources = {"cpu": 4.0}
IDLE_S = 300.0
ON_DEMAND, KEPT = SubmitJob(is_kept=False), SubmitJob(is_kept=True)


def waiting(count: int) -> ClusterSeen:
    """Functions wait, each for a whole node, and there is no node."""
    return ClusterSeen([Backlog(count, {"cpu": 4.0})])


def seen(count: int, *nodes: str, leaving: Sequence[str] = (), offer: Resources = OFFER) -> ClusterSeen:
    """So many functions wait, and the nodes of these jobs are there."""
    names = frozenset(map(JobId, leaving))
    return ClusterSeen([Backlog(count, {"cpu": 4.0})], {JobId(name): offer for name in nodes}, names)


def listed(**jobs: JobPhase) -> JobsListed:
    return JobsListed({JobId(name): JobListed(phase) for name, phase in jobs.items()})


def failed(name: str = "a") -> JobsListed:
    return JobsListed({JobId(name): JobListed("ended", state="FAILED (NonZeroExitCode)")})


def autoscaler(least: int = 0, most: int = 4, **changes: float) -> Autoscaler:
    """One that has no jobs, and knows that."""
    made = Autoscaler(Scale(least, most, IDLE_S, **changes), OFFER)
    made.handle(JobsListed({}), 0.0)
    return made


def submitted(machine: Autoscaler, *names: str, now: float) -> list[AutoscalerEffect]:
    """Have the batch system take jobs, one after the other. Returns the effects of the last one."""
    effects: list[AutoscalerEffect] = []
    for name in names:
        effects = machine.handle(JobSubmitted(JobId(name)), now)
    machine.check()
    return effects


def with_node(least: int = 0, most: int = 4) -> Autoscaler:
    """One whose job "a" has a node, which has proved itself, and has nothing to do."""
    machine = autoscaler(least, most)
    machine.handle(waiting(1), 0.0)
    submitted(machine, "a", now=0.0)
    machine.handle(listed(a="running"), 0.0)
    machine.handle(seen(0, "a"), 0.0)
    machine.handle(seen(0, "a"), PROVEN_S)
    return machine


def faults(effects: Sequence[AutoscalerEffect]) -> list[str]:
    return [effect.what for effect in effects if isinstance(effect, LogJob) and effect.is_fault]


# --- Submitting -------------------------------------------------------------------------------------------------


def test_nothing_waits_and_nothing_is_submitted() -> None:
    assert autoscaler().handle(ClusterSeen(), 1.0) == []


def test_jobs_are_submitted_one_at_a_time_until_they_do_for_all_that_waits() -> None:
    machine = autoscaler()

    assert machine.handle(waiting(2), 1.0) == [ON_DEMAND]
    assert machine.handle(waiting(2), 2.0) == []
    assert submitted(machine, "a", now=2.0) == [ON_DEMAND]
    assert submitted(machine, "b", now=2.0) == []
    assert machine.handle(waiting(2), 600.0) == []


def test_there_are_never_more_jobs_than_asked_for() -> None:
    machine = autoscaler(most=2)
    machine.handle(waiting(9), 1.0)

    assert submitted(machine, "a", "b", now=1.0) == []
    assert machine.handle(waiting(9), 600.0) == []
    assert machine.jobs == {"a": False, "b": False}


def test_a_job_that_has_ended_may_be_followed_by_another() -> None:
    machine = with_node(most=1)

    (log, *submission) = machine.handle(JobsListed({}), 60.0)
    assert log == LogJob(JobId("a"), "ended", "unknown to the batch system")
    assert submission == []
    assert machine.handle(waiting(1), 61.0) == [ON_DEMAND]


def test_nothing_is_submitted_before_the_jobs_of_an_earlier_life_are_known() -> None:
    machine = Autoscaler(Scale(0, 4, IDLE_S), OFFER)
    assert machine.handle(waiting(2), 1.0) == []

    effects = machine.handle(listed(a="pending", b="running", c="ended"), 2.0)

    assert effects == [LogJob(JobId("a"), "found"), LogJob(JobId("b"), "found"), LogJob(JobId("b"), "runs")]
    assert machine.handle(waiting(3), 3.0) == [ON_DEMAND]


def test_more_jobs_of_an_earlier_life_than_asked_for_are_left_alone() -> None:
    machine = Autoscaler(Scale(0, 1, IDLE_S), OFFER)
    machine.handle(listed(a="running", b="running"), 0.0)

    assert machine.handle(seen(5, "a", "b"), 60.0)[2:] == []
    machine.check()


def test_while_a_node_works_functions_have_to_wait_for_a_while_before_another_is_started() -> None:
    machine = with_node()

    assert machine.handle(seen(2, "a"), 100.0) == []
    assert machine.handle(seen(0, "a"), 104.0) == []
    assert machine.handle(seen(2, "a"), 106.0) == []
    assert machine.handle(seen(2, "a"), 106.0 + PATIENCE_S) == [ON_DEMAND]
    assert submitted(machine, "b", now=111.0) == [ON_DEMAND]


def test_nodes_of_no_job_are_nodes_that_work() -> None:
    machine = autoscaler()
    others = ClusterSeen([Backlog(1, {"cpu": 1.0})], has_others=True)

    assert machine.handle(others, 1.0) == []
    assert machine.handle(others, 1.0 + PATIENCE_S) == [ON_DEMAND]


def test_node_that_has_just_joined_has_yet_to_get_work() -> None:
    machine = autoscaler()
    machine.handle(waiting(1), 0.0)
    submitted(machine, "a", now=0.0)
    machine.handle(seen(1, "a"), 60.0)

    assert machine.handle(seen(1, "a"), 60.0 + SETTLING_S - 1) == []
    machine.handle(seen(1, "a"), 60.0 + SETTLING_S)
    assert machine.handle(seen(1, "a"), 60.0 + SETTLING_S + PATIENCE_S) == [ON_DEMAND]


def test_function_too_large_for_a_job_starts_none() -> None:
    machine = autoscaler()

    assert machine.handle(ClusterSeen([Backlog(3, {"cpu": 5.0})]), 1.0) == []


def test_function_too_long_for_a_job_starts_none() -> None:
    machine = autoscaler(for_s=3600.0)

    assert machine.handle(ClusterSeen([Backlog(3, {"cpu": 1.0}, least_s=3601.0)]), 1.0) == []


# --- Nodes that are kept ----------------------------------------------------------------------------------------


def test_least_nodes_are_started_without_a_function_and_started_again() -> None:
    machine = Autoscaler(Scale(2, 4, IDLE_S), OFFER)

    assert machine.handle(JobsListed({}), 1.0) == [KEPT]
    assert submitted(machine, "a", now=1.0) == [KEPT]
    assert submitted(machine, "b", now=1.0) == []
    machine.handle(seen(0, "a", "b"), 60.0)
    machine.handle(seen(0, "a", "b"), 60.0 + PROVEN_S)
    assert machine.handle(listed(a="running"), 200.0)[-1] == KEPT


def test_node_that_is_kept_is_replaced_as_soon_as_it_leaves_if_there_may_be_one_more() -> None:
    machine = with_node(least=1)

    assert machine.handle(seen(0, "a", leaving=["a"]), 100.0) == [KEPT]


def test_kept_jobs_of_an_earlier_life_count() -> None:
    machine = Autoscaler(Scale(1, 1, IDLE_S), OFFER)

    assert machine.handle(JobsListed({JobId("a"): JobListed("pending", is_kept=True)}), 0.0)[1:] == []


# --- Cancelling -------------------------------------------------------------------------------------------------


def test_pending_jobs_that_nobody_needs_are_cancelled_once_that_has_lasted() -> None:
    machine = autoscaler()
    machine.handle(waiting(3), 0.0)
    submitted(machine, "a", "b", "c", now=0.0)
    machine.handle(listed(a="pending", b="pending", c="pending"), 0.0)

    assert machine.handle(waiting(2), 1.0) == []
    assert machine.handle(waiting(2), IDLE_S) == []
    assert machine.handle(waiting(2), 1.0 + IDLE_S)[-1] == CancelBatchJobs(
        [JobId("c")], "nothing waits for a node any more"
    )
    assert machine.handle(waiting(2), 2.0 + IDLE_S) == []
    assert machine.handle(listed(a="pending", b="pending", c="ended"), 400.0) == [LogJob(JobId("c"), "ended")]
    assert machine.out_of_order == ""


def test_a_lull_cancels_nothing() -> None:
    machine = autoscaler()
    machine.handle(waiting(1), 0.0)
    submitted(machine, "a", now=0.0)
    machine.handle(ClusterSeen(), 1.0)
    machine.handle(waiting(1), IDLE_S - 1)

    assert machine.handle(ClusterSeen(), IDLE_S + 2) == []


def test_kept_jobs_are_not_cancelled() -> None:
    machine = autoscaler(least=1)
    machine.handle(ClusterSeen(), 0.0)
    submitted(machine, "a", now=0.0)

    assert machine.handle(ClusterSeen(), 10 * IDLE_S) == []


def test_the_end_cancels_what_is_pending_and_what_would_never_end_by_itself() -> None:
    machine = with_node(least=1)
    for name in ("b", "c"):
        machine.handle(seen(4, "a"), 60.0)
        machine.handle(seen(4, "a"), 70.0)
        submitted(machine, name, now=70.0)
    machine.handle(listed(a="running", b="running", c="pending"), 80.0)

    assert machine.stop(cancel_running=False) == [
        CancelBatchJobs([JobId("a"), JobId("c")], "this command ends")
    ]
    assert machine.stop(cancel_running=True) == [
        CancelBatchJobs([JobId("a"), JobId("b"), JobId("c")], "this command ends")
    ]
    assert autoscaler().stop(cancel_running=True) == []


# --- Failures ---------------------------------------------------------------------------------------------------


def test_refusals_double_the_pause_and_are_said_while_runs_wait_on() -> None:
    machine = autoscaler()
    now, pauses = 0.0, []
    assert machine.handle(waiting(2), now) == [ON_DEMAND]
    for _ in range(12):
        began = now
        assert machine.handle(SubmissionRefused("the controller is down"), now) == []
        while machine.handle(waiting(2), now) != [ON_DEMAND]:
            now += 1.0
        pauses.append(now - began)

    assert pauses[0] == FIRST_PAUSE_S
    assert max(pauses) == LONGEST_PAUSE_S
    assert (machine.out_of_order, machine.can_start) == ("the controller is down", OFFER)


def test_submission_that_succeeds_ends_the_trouble() -> None:
    machine = autoscaler()
    machine.handle(waiting(1), 0.0)
    machine.handle(SubmissionRefused("busy"), 0.0)
    machine.handle(waiting(1), FIRST_PAUSE_S)

    submitted(machine, "a", now=FIRST_PAUSE_S)

    assert machine.out_of_order == ""


def test_jobs_that_end_without_joining_are_said_and_don_t_lead_to_a_stream_of_jobs() -> None:
    machine = autoscaler()
    machine.handle(waiting(1), 0.0)
    submitted(machine, "a", now=0.0)

    effects = machine.handle(failed(), 1.0)

    assert effects == [
        LogJob(JobId("a"), "ended before its node joined", "FAILED (NonZeroExitCode)", is_fault=True)
    ]
    assert machine.can_start == OFFER
    assert machine.handle(waiting(1), FIRST_PAUSE_S) == []
    assert machine.handle(waiting(1), 1.0 + FIRST_PAUSE_S) == [ON_DEMAND]


def test_after_some_jobs_in_vain_members_hear_that_no_node_can_be_started_and_why() -> None:
    machine = autoscaler()
    now = 0.0
    for _ in range(MOST_IN_VAIN):
        now += LONGEST_PAUSE_S
        machine.handle(waiting(1), now)
        submitted(machine, "a", now=now)
        assert faults(machine.handle(failed(), now)) == ["ended before its node joined"]

    assert machine.can_start == {}
    assert machine.out_of_order == (
        "jobs were in vain 3 times in a row; the latest: job a ended before its node joined: FAILED (NonZeroExitCode)"
    )


def doubtful() -> Autoscaler:
    """One whose jobs have all failed; the time is 0."""
    machine = autoscaler()
    for number in range(MOST_IN_VAIN):
        now = (number - MOST_IN_VAIN) * LONGEST_PAUSE_S
        machine.handle(waiting(3), now)
        submitted(machine, "a", now=now)
        machine.handle(SubmissionRefused("one is enough here"), now)
        machine.handle(failed(), now)
    return machine


def test_then_there_is_one_job_at_a_time_until_a_node_has_proved_that_jobs_start_nodes() -> None:
    machine = doubtful()
    assert machine.handle(waiting(3), 0.0) == [ON_DEMAND]
    assert submitted(machine, "b", now=0.0) == []
    machine.handle(seen(3, "b"), 10.0)
    assert machine.can_start == {}

    assert machine.handle(seen(3, "b"), 10.0 + PROVEN_S) == [ON_DEMAND]
    assert (machine.can_start, machine.out_of_order) == (OFFER, "")


def test_node_that_ends_in_good_order_soon_after_it_joined_was_not_in_vain() -> None:
    machine = doubtful()
    machine.handle(waiting(1), 0.0)
    submitted(machine, "b", now=0.0)
    machine.handle(seen(0, "b"), 1.0)

    ended = JobsListed({JobId("b"): JobListed("ended", state="COMPLETED", is_well=True)})
    assert machine.handle(ended, 5.0) == [LogJob(JobId("b"), "ended", "COMPLETED")]
    assert machine.can_start == OFFER


def test_node_that_crashes_soon_after_it_joined_was_in_vain() -> None:
    machine = autoscaler()
    machine.handle(waiting(1), 0.0)
    submitted(machine, "a", now=0.0)
    machine.handle(seen(1, "a"), 1.0)

    assert faults(machine.handle(failed(), 2.0)) == ["ended soon after its node joined"]


def test_job_that_was_preempted_after_a_while_is_replaced_at_once() -> None:
    machine = with_node()
    machine.handle(failed(), 100.0)

    assert machine.handle(waiting(1), 101.0) == [ON_DEMAND]


def test_job_that_runs_without_joining_is_said_once_and_counts_as_one_to_come() -> None:
    machine = autoscaler()
    machine.handle(waiting(1), 0.0)
    submitted(machine, "a", now=0.0)
    machine.handle(listed(a="running"), 10.0)
    assert faults(machine.handle(waiting(1), 9.0 + JOINS_WITHIN_S)) == []

    late = machine.handle(waiting(1), 10.0 + JOINS_WITHIN_S)

    assert late == [LogJob(JobId("a"), "has run for 120 s, and its node has not joined", is_fault=True)]
    assert machine.handle(waiting(1), 11.0 + JOINS_WITHIN_S) == []


# --- Offers -----------------------------------------------------------------------------------------------------


def test_offer_is_what_is_expected_until_a_node_has_shown_what_it_is() -> None:
    machine = autoscaler()
    machine.handle(waiting(1), 0.0)
    submitted(machine, "a", now=0.0)
    assert machine.can_start == OFFER

    machine.handle(seen(0, "a", offer={"cpu": 2.0, "memory": 100.0}), 1.0)

    assert machine.can_start == {"cpu": 2.0, "memory": 100.0}


def test_offer_is_the_least_of_what_nodes_have() -> None:
    machine = autoscaler()
    machine.handle(waiting(3), 0.0)
    submitted(machine, "a", "b", now=0.0)
    nodes: Mapping[JobId, Resources] = {
        JobId("a"): {"cpu": 8.0, "memory": 90.0, "gpu": 1.0},
        JobId("b"): {"cpu": 4.0, "memory": 100.0},
    }

    machine.handle(ClusterSeen((), nodes), 1.0)

    assert machine.can_start == {"cpu": 4.0, "memory": 90.0}


def test_nobody_waits_for_a_node_while_all_that_may_be_there_are() -> None:
    machine = with_node(most=1)
    assert machine.can_start == {}

    machine.handle(seen(1, "a", leaving=["a"]), 40.0)

    assert machine.can_start == OFFER


@pytest.mark.parametrize("stranger", ["7", "app"])
def test_nodes_of_other_jobs_are_none_of_its(stranger: str) -> None:
    machine = autoscaler()

    assert machine.handle(ClusterSeen((), {JobId(stranger): {"cpu": 1.0}}), 1.0) == []
    assert machine.can_start == OFFER


def test_nodes_that_work_are_no_proof_that_others_can_be_started() -> None:
    machine = with_node()
    now, submissions = 100.0, 0
    while now < 100.0 + 2 * LONGEST_PAUSE_S:
        if ON_DEMAND in machine.handle(seen(1, "a"), now):
            submissions += 1
            submitted(machine, "b", now=now)
            gone = {JobId("a"): JobListed("running"), JobId("b"): JobListed("ended", state="FAILED")}
            assert faults(machine.handle(JobsListed(gone), now)) == ["ended before its node joined"]
        now += 1.0

    assert submissions < 12
    assert "job b ended before its node joined" in machine.out_of_order


def test_jobs_that_fail_together_are_one_failure() -> None:
    machine = autoscaler(most=8)
    machine.handle(waiting(5), 0.0)
    submitted(machine, *"abcde", now=0.0)

    ended = {JobId(name): JobListed("ended", state="PREEMPTED") for name in "abcde"}
    effects = machine.handle(JobsListed(ended), 1.0)

    assert len(faults(effects)) == 5
    assert machine.can_start == OFFER
    assert machine.handle(waiting(5), 1.0 + FIRST_PAUSE_S) == [ON_DEMAND]
    assert submitted(machine, "f", now=10.0) == []
