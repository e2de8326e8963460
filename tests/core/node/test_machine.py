import pytest
from msgspec.structs import replace

from handoff_actors.core.node.clients import REMEMBERED_RUNS
from handoff_actors.core.node.events import (
    Advertise,
    DiscardValue,
    FetchInput,
    ForgetRun,
    InputFetched,
    InputMissing,
    KeepValue,
    KillWorker,
    Leave,
    LeaveCompleted,
    MembersCounted,
    PeerConnected,
    PeerLost,
    Reply,
    ReportProtocolError,
    SpawnWorker,
    SpillValue,
    WorkerDone,
    WorkerRecalled,
    WorkerUp,
)
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.node_drain import CLOSE_WITHIN_S
from handoff_actors.ids import PeerId, RunId, WorkerId
from handoff_actors.wire.messages.jobs import (
    Assembled,
    Call,
    Job,
    OwnModules,
    Ref,
    Template,
    TemplateEnvironment,
    Ticket,
)
from handoff_actors.wire.messages.members import (
    Beat,
    Goodbye,
    ListRuns,
    Redeclare,
    Redeclared,
    Runs,
    ServedRun,
)
from handoff_actors.wire.messages.runs import Assign, Close, Closed, Completed, Failed, Recall, Recalled
from tests.core.builders import (
    APP,
    FIRST_WORKER,
    LEASE_S,
    RUN,
    SECOND_WORKER,
    assign,
    done,
    exited,
    gives,
    job,
    rejection,
    replies,
    said,
    started_node,
    template,
    worker_done,
    worker_failed,
)

LATER_APP = PeerId(b"the same app, connected anew")


# --- Work -------------------------------------------------------------------------------------------------------


def test_job_goes_to_a_free_worker_and_its_value_to_whoever_sent_it() -> None:
    node = started_node()

    held = gives(node.handle(said(assign([job(0)])), 1.0))
    reported = replies(node.handle(worker_done(done(0)), 1.5))

    assert held == [(FIRST_WORKER, [0])]
    assert reported == [Completed(RUN, [done(0)], {})]


def test_attempt_that_was_seen_before_changes_nothing() -> None:
    node = started_node()
    node.handle(said(assign([job(0, attempt=2)])), 1.0)

    effects = node.handle(said(assign([job(0, attempt=2), job(0, attempt=1)])), 1.01)

    assert effects == []


def test_result_of_another_attempt_is_discarded() -> None:
    node = started_node()
    node.handle(said(assign([job(0, attempt=2)])), 1.0)

    effects = node.handle(worker_done(done(0, attempt=1, value=100)), 1.01)

    assert effects == [DiscardValue(RUN, 0, 1)]


def test_stored_result_is_kept_and_known_by_its_size() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)

    effects = node.handle(worker_done(done(0, value=100)), 1.01)

    assert effects[0] == KeepValue(RUN, 0, 1)
    assert node.size_of(RUN, 0) == 100
    assert node.size_of(RunId(8), 0) is None


def test_words_of_a_worker_that_is_not_there_change_nothing() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    nobody = WorkerId(99)

    effects = [
        *node.handle(WorkerDone(nobody, RUN, [done(0)]), 1.01),
        *node.handle(worker_failed(0, worker=nobody), 1.01),
        *node.handle(WorkerRecalled(nobody, [(RUN, Ticket(0, 1))]), 1.01),
    ]

    assert effects == []


def test_template_that_was_never_sent_is_the_senders_fault() -> None:
    node = started_node()

    effects = node.handle(said(assign([job(0, number=5)])), 1.0)

    assert "template 5 was never sent" in rejection(effects)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (assign([job(0), job(1, number=5)]), "function 1: template 5 was never sent"),
        (assign([job(0, args=[b"", Call(5, [], None)])]), "function 0: template 5 was never sent"),
        (
            assign([job(0, args=[Call(0, [Call(5, [], None)], None)])]),
            "function 0: template 5 was never sent",
        ),
        (assign([Job(0, 1, 0, [], None, (job(0),))]), "function 0 can't be the first of a fused group"),
        (
            assign([Job(0, 1, 0, [], None, (job(1, args=[Call(5, [], None)]),))]),
            "function 1: template 5 was never sent",
        ),
        (assign([job(0)], [template(cost={"cpu": -1.0})]), "template 0 costs -1.0 of 'cpu'"),
    ],
)
def test_message_that_is_not_in_the_protocol_is_rejected_whole(message: Assign, reason: str) -> None:
    node = started_node()

    effects = node.handle(said(message), 1.0)

    assert reason in rejection(effects)
    assert node.is_idle
    assert "template 0 was never sent" in rejection(node.handle(said(assign([job(0)], [])), 1.01))


def test_template_of_a_number_that_is_taken_is_the_senders_fault() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)

    again = node.handle(said(assign([job(1)])), 1.001)
    other = node.handle(said(assign([job(2)], [template(timeout=1.0)])), 1.002)

    assert again == []
    assert "template 0 was sent again, and differs" in rejection(other)


def test_job_that_is_named_twice_runs_once() -> None:
    node = started_node()

    held = gives(node.handle(said(assign([job(0), job(0)])), 1.0))
    freed = gives(node.handle(worker_done(done(0)), 1.1))

    assert (held, freed) == ([(FIRST_WORKER, [0])], [])
    assert node.handle(said(ListRuns()), 1.11) == [
        Reply(APP, Runs([ServedRun(RUN, "", running=0, queued=0, stored=0, closing=False)]))
    ]


def test_rejected_message_that_no_run_waits_for_is_reported_alone() -> None:
    node = started_node()

    effects = node.handle(said(Redeclare({"cpu": -1.0})), 0.01)

    assert effects == [ReportProtocolError(APP, "capability -1.0 of 'cpu'")]
    assert node.capabilities == {"cpu": 1.0}


def test_messages_of_strangers_change_nothing() -> None:
    node = started_node()

    assert node.handle(said(assign([job(0)]), PeerId(b"stranger")), 0.01) == []
    assert node.handle(PeerLost(PeerId(b"stranger")), 0.01) == []


def test_run_of_somebody_else_is_left_alone() -> None:
    node = started_node()
    node.handle(PeerConnected(LATER_APP), 0.0)
    node.handle(said(assign([job(0)]), LATER_APP), 1.0)

    assert node.handle(said(assign([job(1)])), 1.01) == []
    assert node.handle(said(Close(RUN)), 1.01) == []


def test_failure_is_told_once_with_the_users_exception() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)

    reported = replies(node.handle(worker_failed(0), 1.1))

    assert reported == [Failed(RUN, 0, 1, "exception", b"error", "reason", None, None, None, 0.1)]
    assert replies(node.handle(worker_failed(0), 1.1)) == []


def test_claims_of_other_runs_are_told_with_results() -> None:
    node = started_node({"cpu": 2.0}, workers=2)
    node.handle(said(assign([job(0)], [template(cost={"cpu": 0.5})])), 1.0)
    node.handle(said(assign([job(0)], [template(cost={"cpu": 1.5})], run=RunId(8))), 1.0)

    reported = replies(node.handle(worker_done(done(0)), 1.1))

    assert reported == [Completed(RUN, [done(0)], {"cpu": 1.5})]


# --- Inputs -----------------------------------------------------------------------------------------------------


def test_job_waits_until_all_that_it_needs_is_here_also_within_calls() -> None:
    node = started_node()
    refs = [Ref(3, 10, ["x"]), Ref(4, 20, ["y"])]

    effects = node.handle(said(assign([job(0, args=[refs[0], Call(0, [refs[1]], None)])])), 1.0)
    after_one = node.handle(InputFetched(RUN, 4, 20), 1.01)
    after_both = node.handle(InputFetched(RUN, 3, 10), 1.02)

    assert [effect for effect in effects if isinstance(effect, FetchInput)] == [
        FetchInput(APP, RUN, 3, 10, ("x",)),
        FetchInput(APP, RUN, 4, 20, ("y",)),
    ]
    assert gives(after_one) == []
    assert gives(after_both) == [(FIRST_WORKER, [0])]


@pytest.mark.parametrize("is_within_call", [False, True])
def test_job_waits_for_all_parts_of_its_constants(*, is_within_call: bool) -> None:
    node = started_node()
    constants = Assembled(Ref(5, 30, ["x"]), [Ref(3, 10, ["x"]), Ref(4, 20, ["x"])])
    waiting = Job(0, 1, 0, [], constants)
    if is_within_call:
        waiting = Job(0, 1, 0, [Call(0, [], constants)], None)

    node.handle(said(assign([waiting])), 1.0)
    after = [gives(node.handle(InputFetched(RUN, index, 10), 1.1)) for index in (3, 4, 5)]

    assert after == [[], [], [(FIRST_WORKER, [0])]]


def in_directory(number: int, index: int) -> Template:
    package = Ref(index, 0, [""])
    return replace(template(number), environment=TemplateEnvironment({}, b"/%d" % index, package))


def test_directory_of_each_job_of_a_fused_group_is_asked_for_before_it_starts() -> None:
    node = started_node()
    fused_group = replace(job(0), then=(job(1, number=1), job(2, number=2)))
    templates = [in_directory(0, 8), in_directory(1, 9), template(2)]

    effects = node.handle(said(assign([fused_group], templates)), 1.0)
    after_one = node.handle(InputFetched(RUN, 8, 0), 1.1)
    after_both = node.handle(InputFetched(RUN, 9, 500), 1.2)
    later = node.handle(said(assign([job(3)])), 1.3)

    assert [effect for effect in effects if isinstance(effect, FetchInput)] == [
        FetchInput(APP, RUN, 8, 0, ("",), b"/8"),
        FetchInput(APP, RUN, 9, 0, ("",), b"/9"),
    ]
    assert gives(after_one) == []
    assert gives(after_both) == [(FIRST_WORKER, [0])]
    assert not any(isinstance(effect, FetchInput) for effect in later)
    assert node.size_of(RUN, 8) == 0


def test_directory_that_was_there_already_is_nothing_to_write_to_disk() -> None:
    node = started_node(limits=Limits(store_nbytes=10))
    node.handle(said(assign([job(0)], [in_directory(0, 8)])), 1.0)
    node.handle(InputFetched(RUN, 8, 0), 1.1)

    effects = node.handle(worker_done(done(0, value=500)), 1.2)

    assert [effect for effect in effects if isinstance(effect, SpillValue)] == [SpillValue(RUN, 0)]
    assert Completed(RUN, [done(0, value=500)], {}) in replies(effects)


def with_modules(number: int, index: int) -> Template:
    modules = OwnModules(b"key", {"app": b"digest"}, Ref(index, 0, [""]))
    return replace(template(number), modules=modules)


def test_modules_of_the_app_are_asked_for_once_and_before_the_jobs_that_need_them() -> None:
    node = started_node()
    wanted = with_modules(0, 8)

    effects = node.handle(said(assign([job(0)], [wanted])), 1.0)
    meanwhile = node.handle(said(assign([job(1)])), 1.1)
    after = node.handle(InputFetched(RUN, 8, 0), 1.2)
    later = node.handle(said(assign([job(2, number=1)], [with_modules(1, 8)])), 1.3)

    assert [effect for effect in effects if isinstance(effect, FetchInput)] == [
        FetchInput(APP, RUN, 8, 0, ("",), modules=wanted.modules)
    ]
    assert gives(effects) == gives(meanwhile) == []
    assert gives(after)
    assert not any(isinstance(effect, FetchInput) for effect in (*meanwhile, *later))


def test_modules_that_workers_import_are_not_looked_at_for_each_run() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [with_modules(0, 8)])), 1.0)
    node.handle(InputFetched(RUN, 8, 0, is_importable=True), 1.0)

    soon = node.handle(said(assign([job(0)], [with_modules(0, 8)], run=RunId(9))), 1.05)
    later = node.handle(said(assign([job(1, number=1)], [with_modules(1, 9)], run=RunId(9))), 1.2)

    assert not any(isinstance(effect, FetchInput) for effect in soon)
    assert [effect.index for effect in later if isinstance(effect, FetchInput)] == [9]


def test_job_waits_for_directory_and_modules() -> None:
    node = started_node()
    both = replace(with_modules(0, 9), environment=in_directory(0, 8).environment)

    node.handle(said(assign([job(0)], [both])), 1.0)
    after = [gives(node.handle(InputFetched(RUN, index, 0), 1.1)) for index in (9, 8)]

    assert after == [[], [(FIRST_WORKER, [0])]]


def test_coroutine_with_an_environment_of_its_own_has_a_worker_of_its_own() -> None:
    node = started_node()
    own = replace(template(0, is_async=True), environment=TemplateEnvironment({b"A": b"1"}))

    effects = node.handle(said(assign([job(0)], [own])), 1.0)

    assert gives(effects) == [(FIRST_WORKER, [0])]


def test_value_is_fetched_once_for_all_who_wait_for_it() -> None:
    node = started_node()
    ref = Ref(3, 10, ["x"])

    effects = node.handle(said(assign([job(0, args=[ref]), job(1, args=[ref])])), 1.0)
    reported = replies(node.handle(InputMissing(RUN, 3, "gone"), 1.1))

    assert len([effect for effect in effects if isinstance(effect, FetchInput)]) == 1
    assert reported == [Failed(RUN, index, 1, "input", b"", "gone", 3, None, None, 0.0) for index in (0, 1)]


def test_copy_of_another_version_will_not_do() -> None:
    node = started_node()
    node.handle(said(assign([job(0, args=[Ref(3, 10, ["x"], 1)])])), 1.0)
    node.handle(InputFetched(RUN, 3, 10), 1.1)
    node.handle(worker_done(done(0)), 1.15)

    newer = node.handle(said(assign([job(0, attempt=2, args=[Ref(3, 10, ["y"], 2)])])), 1.2)
    any_will_do = node.handle(said(assign([job(1, args=[Ref(3, 10, ["y"])])])), 1.3)

    assert [effect for effect in newer if isinstance(effect, FetchInput)] == [
        FetchInput(APP, RUN, 3, 10, ("y",), version=2)
    ]
    assert gives(any_will_do) == [(FIRST_WORKER, [1])]


def test_another_version_is_fetched_in_place_of_the_one_that_is_on_its_way() -> None:
    node = started_node()
    node.handle(said(assign([job(0, args=[Ref(3, 10, ["x"], 1)])])), 1.0)

    newer = node.handle(said(assign([job(0, attempt=2, args=[Ref(3, 10, ["y"], 2)])])), 1.1)
    same = node.handle(said(assign([job(1, args=[Ref(3, 10, ["y"], 2)])])), 1.2)

    assert [effect for effect in newer if isinstance(effect, FetchInput)] == [
        FetchInput(APP, RUN, 3, 10, ("y",), version=2)
    ]
    assert [effect for effect in same if isinstance(effect, FetchInput)] == []


def test_own_result_is_the_version_of_its_attempt() -> None:
    node = started_node()
    node.handle(said(assign([job(3, attempt=2)])), 1.0)
    node.handle(worker_done(done(3, attempt=2, value=10)), 1.1)

    effects = node.handle(said(assign([job(0, args=[Ref(3, 10, ["x"], 2)])])), 1.2)

    assert gives(effects) == [(FIRST_WORKER, [0])]
    assert [node.has_version(RUN, 3, version) for version in (0, 1, 2)] == [True, False, True]
    assert not node.has_version(RUN, 4, 0)
    assert not node.has_version(RunId(99), 3, 0)


def test_recalled_job_no_longer_waits_for_its_input() -> None:
    node = started_node()
    node.handle(said(assign([job(0, args=[Ref(3, 10, ["x"])])])), 1.0)

    reported = replies(node.handle(said(Recall(RUN, [Ticket(0, 1)], room=4)), 1.01))
    later = node.handle(InputFetched(RUN, 3, 10), 1.02)

    assert reported == [Recalled(RUN, [Ticket(0, 1)])]
    assert gives(later) == []


def test_values_that_arrive_after_the_end_of_a_run_change_nothing() -> None:
    node = started_node()
    node.handle(said(assign([job(0, args=[Ref(3, 10, ["x"])])])), 1.0)
    node.handle(said(Close(RUN)), 1.01)

    assert node.handle(InputFetched(RUN, 3, 10), 1.02) == []
    assert node.handle(InputMissing(RUN, 3, "gone"), 1.02) == []


# --- The end of runs --------------------------------------------------------------------------------------------


def test_close_is_answered_once_no_worker_holds_anything_of_the_run() -> None:
    node = started_node()
    node.handle(said(assign([job(0), job(1)])), 1.0)

    at_once = node.handle(said(Close(RUN)), 1.001)
    again = node.handle(said(Close(RUN)), 1.002)
    runs_meanwhile = node.runs
    in_the_end = node.handle(exited(), 1.003)

    assert at_once == [KillWorker(FIRST_WORKER), SpawnWorker(SECOND_WORKER, False)]
    assert again == []
    assert in_the_end == [ForgetRun(RUN), Reply(APP, Closed(RUN))]
    assert (runs_meanwhile, node.runs) == (1, 0)
    assert node.is_idle


def test_job_that_comes_after_the_close_of_its_run_changes_nothing() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(worker_done(done(0)), 1.0)
    node.handle(said(Close(RUN)), 1.01)

    assert node.handle(said(assign([job(1)])), 1.02) == []


def test_close_of_an_unknown_run_is_answered_and_remembered_but_not_for_ever() -> None:
    node = started_node()

    reported = replies(node.handle(said(Close(RUN)), 1.0))
    for number in range(REMEMBERED_RUNS):
        node.handle(said(Close(RunId(100 + number))), 1.0)

    assert reported == [Closed(RUN)]
    assert gives(node.handle(said(assign([job(0)])), 1.0)) == [(FIRST_WORKER, [0])]


def test_to_close_an_unknown_run_again_does_not_have_it_remembered_for_longer() -> None:
    node = started_node()

    reported = [replies(node.handle(said(Close(RUN)), 1.0)) for _ in range(2)]
    for number in range(REMEMBERED_RUNS - 1):
        node.handle(said(Close(RunId(100 + number))), 1.0)
    remembered = gives(node.handle(said(assign([job(0)])), 1.0))
    node.handle(said(Close(RUN)), 1.0)
    node.handle(said(Close(RunId(99))), 1.0)

    assert reported == [[Closed(RUN)], [Closed(RUN)]]
    assert remembered == []
    assert gives(node.handle(said(assign([job(0)])), 1.0)) == [(FIRST_WORKER, [0])]


def test_result_that_comes_while_its_run_is_closed_is_discarded() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(said(Close(RUN)), 1.01)

    effects = node.handle(worker_done(done(0, value=100)), 1.02)

    assert effects[0] == DiscardValue(RUN, 0, 1)
    assert replies(effects) == [Closed(RUN)]


def test_runs_end_with_the_lease_of_their_peer_unless_it_beats() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(said(Beat()), 3.0)

    assert KillWorker(FIRST_WORKER) not in node.wake(1.0 + LEASE_S)
    assert KillWorker(FIRST_WORKER) in node.wake(3.0 + LEASE_S)


@pytest.mark.parametrize("event", [said(Goodbye()), PeerLost(APP)])
def test_runs_end_at_once_when_their_peer_leaves(event: PeerLost) -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)

    assert node.handle(event, 1.01) == [KillWorker(FIRST_WORKER), SpawnWorker(SECOND_WORKER, False)]
    assert node.handle(PeerLost(APP), 1.02) == []


# --- The same app over a new connection -------------------------------------------------------------------------


def test_run_of_a_lost_connection_makes_way_for_the_same_run_over_a_new_one() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(PeerConnected(LATER_APP), 1.0)

    refused = node.handle(said(assign([job(0, attempt=2)]), LATER_APP), 1.01)
    node.handle(exited(), 1.02)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.03)
    repeated = node.handle(said(assign([job(0, attempt=2)]), LATER_APP), 1.04)
    accepted = node.handle(said(assign([job(0, attempt=3)]), LATER_APP), 1.04)

    assert refused[0] == KillWorker(FIRST_WORKER)
    assert replies(refused) == [Recalled(RUN, [Ticket(0, 2)])]
    assert gives(repeated) == []
    assert gives(accepted) == [(SECOND_WORKER, [0])]


def test_close_over_a_new_connection_is_answered_there() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(PeerConnected(LATER_APP), 1.0)
    node.handle(said(assign([job(0, attempt=2)]), LATER_APP), 1.01)
    node.handle(PeerLost(APP), 1.01)

    node.handle(said(Close(RUN), LATER_APP), 1.02)
    effects = node.handle(exited(), 1.03)

    assert [effect.peer for effect in effects if hasattr(effect, "peer")] == [LATER_APP]
    node.check()


# --- What is offered --------------------------------------------------------------------------------------------


def test_what_can_never_start_after_a_redeclaration_is_given_back() -> None:
    node = started_node({"cpu": 2.0}, workers=2)
    costly = template(cost={"cpu": 2})
    node.handle(said(assign([job(0), job(1)], [costly])), 1.0)

    reported = replies(node.handle(said(Redeclare({"cpu": 1.0})), 1.1))

    assert reported == [Redeclared(), Recalled(RUN, [Ticket(1, 1)])]


def test_job_whose_input_comes_after_a_redeclaration_is_given_back() -> None:
    node = started_node({"cpu": 2.0}, workers=2)
    node.handle(said(assign([job(0, args=[Ref(3, 10, ["x"])])], [template(cost={"cpu": 2})])), 1.0)
    node.handle(said(Redeclare({"cpu": 1.0})), 1.1)

    reported = replies(node.handle(InputFetched(RUN, 3, 10), 1.2))

    assert reported == [Recalled(RUN, [Ticket(0, 1)])]


def test_redeclaration_is_advertised_even_if_as_much_is_spare_as_before() -> None:
    node = started_node({"cpu": 1.0})
    node.handle(said(assign([job(0)], [template(cost={"cpu": 1})])), 1.0)
    node.wake(1.1)

    effects = node.handle(said(Redeclare({"cpu": 0.5})), 1.3)

    assert [advert.capabilities for advert in effects if isinstance(advert, Advertise)] == [{"cpu": 0.5}]


def test_leaving_node_gives_back_what_waits_and_leaves_after_what_runs() -> None:
    node = started_node()
    node.handle(said(assign([job(0), job(1), job(2, args=[Ref(9, 10, ["x"])])])), 1.0)

    at_once = node.handle(Leave(), 1.1)
    later = node.handle(said(assign([job(3)])), 1.11)
    reported = node.handle(worker_done(done(0)), 1.5)
    in_the_end = node.handle(said(Close(RUN)), 1.55)

    assert replies(at_once) == [Recalled(RUN, [Ticket(1, 1), Ticket(2, 1)])]
    assert LeaveCompleted() not in at_once
    assert replies(later) == [Recalled(RUN, [Ticket(3, 1)])]
    # The run has yet to read that: the word that the node has left might overtake it.
    assert LeaveCompleted() not in reported
    assert LeaveCompleted() in in_the_end
    assert LeaveCompleted() not in node.handle(said(Beat()), 1.6)


def test_leaving_node_does_not_wait_for_long_for_runs_that_do_not_close_themselves() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(Leave(), 1.1)

    reported = node.handle(worker_done(done(0)), 1.5)
    before = node.wake(1.5 + CLOSE_WITHIN_S - 0.01)
    after = node.wake(1.5 + CLOSE_WITHIN_S)

    assert node.wake_at is not None
    assert LeaveCompleted() not in [*reported, *before]
    assert LeaveCompleted() in after
    assert LeaveCompleted() not in node.wake(20.0)


def test_adverts_keep_their_distance_and_their_period() -> None:
    node = started_node()

    times = []
    now = 0.0
    while now < 3.0:
        assert node.wake_at is not None
        now = max(now, node.wake_at)
        times += [now] if any(isinstance(effect, Advertise) for effect in node.wake(now)) else []

    assert times == pytest.approx([1.0, 2.0, 3.0], abs=0.06)


def test_among_many_members_adverts_are_further_apart() -> None:
    node = started_node()
    node.handle(MembersCounted(300), 0.0)
    node.wake(1.0)

    node.handle(said(assign([job(0)], [template(cost={"cpu": 1.0})])), 1.01)

    assert node.wake_at == pytest.approx(1.3)


def test_peer_without_a_lease_keeps_its_runs_in_silence() -> None:
    node = started_node()
    embedded = PeerId(b"embedded")
    node.handle(PeerConnected(embedded, has_lease=False), 0.0)
    node.handle(said(assign([job(0)]), embedded), 0.0)

    effects = node.wake(1000.0)

    assert not any(isinstance(effect, KillWorker) for effect in effects)


def test_a_peer_that_says_hello_twice_keeps_its_runs() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)

    node.handle(PeerConnected(APP), 1.1)

    node.check()
    assert not node.is_idle


def test_value_that_could_not_be_reached_is_not_reported_as_gone() -> None:
    node = started_node()
    node.handle(said(assign([job(0, args=[Ref(3, 10, ["x"])])])), 1.0)

    reported = replies(node.handle(InputMissing(RUN, 3, "no answer", "unreachable"), 1.1))

    assert reported == [Failed(RUN, 0, 1, "unreachable", b"", "no answer", 3, None, None, 0.0)]
