"""Stages of streams on a node: their workers are none of the usual ones, and rows pass between them and their app."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from handoff_actors.core.node.events import (
    DiscardValue,
    FetchInput,
    InputFetched,
    InputMissing,
    KeepValue,
    KillWorker,
    Leave,
    NestedWaitBegan,
    NestedWaitEnded,
    NodeEffect,
    PeerConnected,
    Reply,
    SpawnWorker,
    SpillValue,
    WorkersSampled,
    WorkerUp,
)
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.stage_events import DiscardItems, PassRows, StageAnswered
from handoff_actors.ids import Attempt, Index, PeerId, Resources, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Job, Ref, Template, Ticket, ValueKey
from handoff_actors.wire.messages.runs import CancelJobs, Close, Drop, Stop
from handoff_actors.wire.messages.stages import StageInput, StageInputLost, StageOutput, StoredItem
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
    rejection,
    replies,
    said,
    started_node,
    template,
    worker_done,
)

LARGE = 100_000
HOLDER = "address of another"
OTHER_RUN = RunId(8)
STAGE = Index(5)


def stage_template(cost: Resources | None = None) -> Template:
    return replace(template(0, cost), is_stage=True)


def node_with_a_stage(limits: Limits | None = None) -> NodeMachine:
    node = started_node(limits=limits) if limits else started_node()
    node.handle(said(assign([job(STAGE)], [stage_template()])), 1.0)
    node.check()
    return node


def rows(content: bytes, *needs: Ref, attempt: int = 1, run: RunId = RUN) -> StageInput:
    return StageInput(run, STAGE, Attempt(attempt), content, list(needs))


def ref(index: int, version: int = 0) -> Ref:
    return Ref(Index(index), LARGE, [HOLDER], version)


def passed(effects: Sequence[NodeEffect]) -> list[bytes]:
    return [effect.content for effect in effects if isinstance(effect, PassRows)]


def fetched(effects: Sequence[NodeEffect]) -> list[int]:
    return [effect.index for effect in effects if isinstance(effect, FetchInput)]


def spawned(effects: Sequence[NodeEffect]) -> int:
    return sum(isinstance(effect, SpawnWorker) for effect in effects)


def answer(*stored: int, attempt: int = 1, worker: WorkerId = FIRST_WORKER) -> StageAnswered:
    items = [StoredItem(Index(index), LARGE) for index in stored]
    return StageAnswered(worker, RUN, STAGE, Attempt(attempt), b"answers", items)


# --- Workers ----------------------------------------------------------------------------------------------------


def test_worker_of_a_stage_is_replaced_and_counts_as_none() -> None:
    node = started_node()

    effects = node.handle(said(assign([job(STAGE)], [stage_template()])), 1.0)
    node.check()

    assert gives(effects) == [(FIRST_WORKER, [STAGE])]
    assert spawned(effects) == 1
    assert node.advertisement().busy == 0
    assert node.advertisement().running == 1


def test_stages_that_claim_nothing_get_a_worker_each_and_functions_go_on_beside_them() -> None:
    node = started_node()

    effects = node.handle(said(assign([job(index) for index in range(5)], [stage_template()])), 1.0)
    # Three wait for workers, and one is started in the place of the usual one.
    given = gives(effects)
    up = 2
    while len(given) < 5:
        given += gives(node.handle(WorkerUp(WorkerId(up), 1000 + up), 1.1))
        up += 1
    node.check()
    node.handle(WorkerUp(WorkerId(6), 1006), 1.2)
    ordinary = node.handle(said(assign([job(9, number=1)], [template(1)])), 1.3)
    node.check()

    assert [indices for _, indices in given] == [[0], [1], [2], [3], [4]]
    assert gives(ordinary) == [(WorkerId(6), [9])]
    assert node.advertisement().busy == 1


def test_worker_that_is_started_for_a_stage_goes_to_none_of_the_functions_that_wait() -> None:
    node = started_node()
    node.handle(said(assign([job(1), job(2)], [template()], OTHER_RUN)), 1.0)

    waits = node.handle(said(assign([job(STAGE)], [stage_template()])), 1.1)
    given = node.handle(WorkerUp(SECOND_WORKER, 1002), 1.2)
    node.check()

    assert (gives(waits), spawned(waits)) == ([], 1)
    assert gives(given) == [(SECOND_WORKER, [STAGE])]


def test_stage_keeps_its_claim_and_others_wait_for_it() -> None:
    node = started_node({"cpu": 2.0})
    node.handle(said(assign([job(STAGE)], [stage_template({"cpu": 2.0})])), 1.0)

    waits = node.handle(said(assign([job(1, number=1)], [template(1, {"cpu": 1.0})])), 1.1)
    ended = node.handle(worker_done(done(STAGE)), 9.0)
    node.check()

    assert gives(waits) == []
    assert gives(ended) == [(FIRST_WORKER, [1])]


def test_function_that_only_stages_keep_waiting_holds_up_no_others() -> None:
    node = started_node({"cpu": 4.0}, workers=2)
    node.handle(said(assign([job(STAGE)], [stage_template({"cpu": 3.0})])), 1.0)
    node.handle(WorkerUp(WorkerId(3), 1003), 1.0)
    node.handle(said(assign([job(1, number=1)], [template(1, {"cpu": 2.0})])), 1.1)

    # Too large for what the stage leaves, for ever so long.
    given = node.handle(said(assign([job(2, number=2)], [template(2, {"cpu": 1.0})])), 9.0)
    node.check()

    assert gives(given) == [(SECOND_WORKER, [2])]


def test_nothing_is_put_behind_a_stage_nor_a_stage_behind_another() -> None:
    node = started_node(most_workers=1)
    node.handle(said(assign([job(1)], [template()])), 1.0)
    # Brief functions are held ahead.
    node.handle(worker_done(done(1, ran_s=1e-6)), 1.1)

    first = node.handle(said(assign([job(STAGE, number=1)], [replace(stage_template(), number=1)])), 1.2)
    behind = node.handle(said(assign([job(6, number=1), job(7)])), 1.3)
    node.check()

    assert gives(first) == [(FIRST_WORKER, [STAGE])]
    assert gives(behind) == []


def test_worker_is_a_usual_one_again_when_its_stage_ends() -> None:
    node = node_with_a_stage()
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)

    node.handle(worker_done(done(STAGE)), 2.0)
    node.check()
    # There are two where one is usual: the other ends when it has been idle for a while.
    killed = node.wake(20.0)
    node.check()

    assert KillWorker(SECOND_WORKER) in killed or KillWorker(FIRST_WORKER) in killed


def test_death_of_a_worker_is_told_and_replaces_none_of_the_usual_ones() -> None:
    node = node_with_a_stage()
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)

    effects = node.handle(exited(), 2.0)
    node.check()

    [failed] = [message for message in replies(effects) if hasattr(message, "kind")]
    assert failed.kind == "worker"
    assert DiscardItems(RUN, STAGE, Attempt(1)) in effects
    assert spawned(effects) == 0


@pytest.mark.parametrize("message", [Close(RUN), Stop(RUN)])
def test_stage_ends_with_its_run(message: Close | Stop) -> None:
    node = node_with_a_stage()
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)

    effects = node.handle(said(message), 2.0)
    node.check()
    late = node.handle(worker_done(done(STAGE)), 2.05)
    node.check()
    node.handle(exited(), 2.1)
    node.check()

    assert KillWorker(FIRST_WORKER) in effects
    assert gives(late) == []


def test_stage_is_cancelled_as_functions_are() -> None:
    node = node_with_a_stage()

    node.handle(said(CancelJobs(RUN, [Ticket(STAGE, Attempt(1))])), 2.0)
    killed = node.wake(3.0)
    node.check()

    assert KillWorker(FIRST_WORKER) in killed


def test_next_attempt_runs_while_the_worker_of_the_last_one_is_ending() -> None:
    node = node_with_a_stage()
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.1)
    node.handle(said(CancelJobs(RUN, [Ticket(STAGE, Attempt(1))])), 2.0)

    again = node.handle(said(assign([job(STAGE, attempt=2)], [stage_template()])), 2.1)
    node.check()
    node.wake(3.0)
    node.handle(exited(), 3.1)
    node.check()

    assert gives(again) == [(SECOND_WORKER, [STAGE])]
    assert node.stages.worker_for(APP, rows(b"x", attempt=2)) == SECOND_WORKER
    assert node.stages.worker_for(APP, rows(b"x")) is None


def test_nested_run_of_a_stage_lends_no_slot() -> None:
    node = started_node({"cpu": 1.0})
    node.handle(said(assign([job(STAGE)], [stage_template({"cpu": 1.0})])), 1.0)

    node.handle(NestedWaitBegan(RUN, STAGE, Attempt(1)), 1.1)
    node.check()
    assert node.ledger.spare() == {"cpu": 1.0}
    node.handle(NestedWaitEnded(RUN, STAGE, Attempt(1)), 1.2)
    node.check()

    assert node.ledger.spare() == {"cpu": 0.0}


def test_no_worker_is_started_for_a_stage_while_workers_fail_to_start() -> None:
    node = started_node()
    node.handle(said(assign([job(1)], [template()], OTHER_RUN)), 1.0)
    node.handle(said(assign([job(STAGE)], [stage_template()])), 1.1)

    effects = node.handle(exited(SECOND_WORKER), 1.2)
    node.check()

    assert spawned(effects) == 0
    assert spawned(node.wake(5.0)) == 1


def test_stage_waits_while_a_starved_function_goes_first() -> None:
    node = started_node({"cpu": 2.0}, workers=2)
    node.handle(said(assign([job(1), job(2)], [template(0, {"cpu": 1.0})], OTHER_RUN)), 1.0)
    node.handle(said(assign([job(3, number=1)], [template(1, {"cpu": 2.0})], OTHER_RUN)), 1.1)

    one_ended = node.handle(worker_done(done(1), run=OTHER_RUN), 5.0)
    waits = node.handle(said(assign([job(STAGE)], [stage_template({"cpu": 1.0})])), 5.1)
    node.check()

    assert (gives(one_ended), gives(waits)) == ([], [])


def test_stage_whose_worker_is_killed_for_its_memory_is_lost() -> None:
    node = started_node({"cpu": 1.0, "memory": 100.0}, limits=Limits(memory_factor=1.5))
    node.handle(said(assign([job(STAGE)], [stage_template({"memory": 10.0})])), 1.0)

    killed = node.handle(WorkersSampled(2.0, {FIRST_WORKER: 10**9}, 10**9, 10**10), 2.0)
    lost = node.handle(exited(), 2.1)
    node.check()

    assert KillWorker(FIRST_WORKER) in killed
    assert any(getattr(message, "kind", None) == "memory" for message in replies(lost))


@pytest.mark.parametrize("changed", [{"is_async": True}, {"timeout": 1.0}])
def test_stages_are_sync_and_have_no_timeout(changed: dict[str, object]) -> None:
    node = started_node()

    effects = node.handle(said(assign([job(STAGE)], [replace(stage_template(), **changed)])), 1.0)

    assert "is of stages that are async, or have a timeout" in rejection(effects)


def test_stages_are_not_fused() -> None:
    node = started_node()
    group = Job(STAGE, Attempt(1), 0, [], None, then=(job(6),))

    effects = node.handle(said(assign([group], [stage_template()])), 1.0)

    assert "can't be the first of a fused group" in rejection(effects)


# --- Rows for stages --------------------------------------------------------------------------------------------


def test_rows_without_needs_pass_without_the_machine() -> None:
    node = node_with_a_stage()

    assert node.stages.worker_for(APP, rows(b"x")) == FIRST_WORKER
    assert passed(node.handle(said(rows(b"x")), 2.0)) == [b"x"]
    node.check()


@pytest.mark.parametrize(
    ("peer", "message"),
    [
        (PeerId(b"other"), rows(b"x")),
        (APP, rows(b"x", attempt=2)),
        (APP, rows(b"x", run=OTHER_RUN)),
        (APP, replace(rows(b"x"), index=Index(6))),
    ],
)
def test_rows_for_what_does_not_run_here_are_ignored(peer: PeerId, message: StageInput) -> None:
    node = node_with_a_stage()
    node.handle(PeerConnected(PeerId(b"other")), 1.0)

    assert node.stages.worker_for(peer, message) is None
    effects = node.handle(said(message, peer), 2.0)
    node.check()

    assert passed(effects) == []
    assert replies(effects) == []


def test_rows_for_a_plain_function_are_ignored() -> None:
    node = started_node()
    node.handle(said(assign([job(STAGE)])), 1.0)

    assert node.stages.worker_for(APP, rows(b"x")) is None
    assert passed(node.handle(said(rows(b"x")), 2.0)) == []


def test_rows_wait_in_order_for_values_that_are_fetched() -> None:
    node = node_with_a_stage()

    first = node.handle(said(rows(b"1", ref(20), ref(21))), 2.0)
    node.check()
    second = node.handle(said(rows(b"2")), 2.1)
    third = node.handle(said(rows(b"3", ref(21), ref(22))), 2.2)
    assert node.stages.worker_for(APP, rows(b"4")) is None
    some = node.handle(InputFetched(RUN, Index(20), LARGE), 2.3)
    two = node.handle(InputFetched(RUN, Index(21), LARGE), 2.4)
    node.check()
    assert node.stages.worker_for(APP, rows(b"4")) is None
    all_here = node.handle(InputFetched(RUN, Index(22), LARGE), 2.5)
    node.check()

    assert (fetched(first), fetched(second), fetched(third)) == ([20, 21], [], [22])
    assert (passed(first), passed(second), passed(third), passed(some)) == ([], [], [], [])
    assert passed(two) == [b"1", b"2"]
    assert passed(all_here) == [b"3"]
    assert node.stages.worker_for(APP, rows(b"4", ref(20))) == FIRST_WORKER
    assert node.stages.worker_for(APP, rows(b"4", ref(20, 3))) is None


def test_fetches_for_rows_are_not_reported_with_a_function() -> None:
    node = node_with_a_stage()
    node.handle(said(rows(b"1", ref(20))), 2.0)
    node.handle(InputFetched(RUN, Index(20), LARGE), 2.3)

    [completed] = replies(node.handle(worker_done(done(STAGE)), 3.0))

    assert completed.fetched == []  # type: ignore[union-attr]


def test_rows_that_need_what_cannot_be_had_are_dropped_with_all_behind_them() -> None:
    node = node_with_a_stage()
    node.handle(said(rows(b"1", ref(20))), 2.0)
    node.handle(said(rows(b"2")), 2.1)

    effects = node.handle(InputMissing(RUN, Index(20), "it is gone"), 2.2)
    node.check()

    assert passed(effects) == []
    assert replies(effects) == [StageInputLost(RUN, STAGE, Attempt(1), Index(20), "it is gone")]
    assert node.stages.worker_for(APP, rows(b"3")) == FIRST_WORKER


@pytest.mark.parametrize(
    "event",
    [
        said(Drop(RUN, [ValueKey(Index(20))])),
        # The function of that index is to make another value.
        said(assign([job(20, attempt=2, number=1)], [template(1)])),
    ],
)
def test_rows_are_dropped_if_the_run_gives_up_what_they_need(event: NodeEffect) -> None:
    node = node_with_a_stage()
    node.handle(said(rows(b"1", ref(20))), 2.0)

    effects = node.handle(event, 2.2)  # type: ignore[arg-type]
    node.check()

    [lost] = [message for message in replies(effects) if isinstance(message, StageInputLost)]
    assert lost.lost == 20


def test_value_of_another_version_is_not_what_rows_need() -> None:
    node = node_with_a_stage()
    node.handle(said(rows(b"1", ref(20, 3))), 2.0)
    again = node.handle(said(rows(b"2", ref(20, 4))), 2.1)

    effects = node.handle(InputFetched(RUN, Index(20), LARGE), 2.2)
    node.check()

    assert fetched(again) == [20]
    assert [type(message) for message in replies(effects)] == [StageInputLost]


@pytest.mark.parametrize("end", [exited(), said(Close(RUN)), said(Stop(RUN)), worker_done(done(STAGE))])
def test_rows_that_wait_are_dropped_with_their_attempt(end: NodeEffect) -> None:
    node = node_with_a_stage()
    node.handle(said(rows(b"1", ref(20))), 2.0)

    node.handle(end, 2.1)  # type: ignore[arg-type]
    node.check()
    effects = node.handle(InputFetched(RUN, Index(20), LARGE), 2.2)
    node.check()

    assert passed(effects) == []
    assert not any(isinstance(message, StageInputLost) for message in replies(effects))


def test_rows_of_one_run_do_not_wait_for_the_values_of_another() -> None:
    node = started_node()
    node.handle(said(assign([job(STAGE)], [stage_template()])), 1.0)
    node.handle(WorkerUp(SECOND_WORKER, 1002), 1.0)
    node.handle(said(assign([job(STAGE)], [stage_template()], OTHER_RUN)), 1.0)
    node.handle(said(rows(b"1", ref(20))), 2.0)

    effects = node.handle(said(rows(b"2", ref(20), run=OTHER_RUN)), 2.1)
    missing = node.handle(InputMissing(OTHER_RUN, Index(20), "gone"), 2.2)
    node.check()

    assert fetched(effects) == [20]
    assert replies(missing) == [StageInputLost(OTHER_RUN, STAGE, Attempt(1), Index(20), "gone")]


# --- Rows from stages -------------------------------------------------------------------------------------------


def test_rows_of_a_stage_go_to_the_peer_of_its_run() -> None:
    node = node_with_a_stage()

    assert node.stages.reader_of(FIRST_WORKER, RUN, STAGE, Attempt(1)) == APP
    assert node.stages.reader_of(FIRST_WORKER, RUN, STAGE, Attempt(2)) is None
    assert node.stages.reader_of(SECOND_WORKER, RUN, STAGE, Attempt(1)) is None
    assert node.stages.reader_of(FIRST_WORKER, OTHER_RUN, STAGE, Attempt(1)) is None


def test_stored_values_are_kept_and_served_until_they_are_dropped() -> None:
    node = node_with_a_stage()

    effects = node.handle(answer(20, 21), 2.0)
    node.check()

    output = StageOutput(
        RUN, STAGE, Attempt(1), b"answers", [StoredItem(Index(20), LARGE), StoredItem(Index(21), LARGE)]
    )
    assert effects[:3] == [
        KeepValue(RUN, Index(20), Attempt(1)),
        KeepValue(RUN, Index(21), Attempt(1)),
        Reply(APP, output),
    ]
    assert node.has_version(RUN, Index(20), 1)
    assert node.advertisement().stored == 2 * LARGE
    node.handle(said(Drop(RUN, [ValueKey(Index(20), 1)])), 2.1)
    node.check()
    assert node.size_of(RUN, Index(20)) is None
    assert node.size_of(RUN, Index(21)) == LARGE


def test_stored_values_of_a_stage_spill() -> None:
    node = node_with_a_stage(Limits(store_nbytes=LARGE + 1))

    effects = node.handle(answer(20, 21), 2.0)

    assert SpillValue(RUN, Index(20)) in effects


@pytest.mark.parametrize("late", [answer(20, attempt=2), answer(20, worker=SECOND_WORKER)])
def test_what_a_stage_that_has_ended_stored_is_removed(late: StageAnswered) -> None:
    node = node_with_a_stage()

    effects = node.handle(late, 2.0)
    node.check()

    assert DiscardValue(RUN, Index(20), late.attempt) in effects
    assert replies(effects) == []


def test_node_that_leaves_lets_stages_go_on() -> None:
    node = node_with_a_stage()

    node.handle(Leave(), 2.0)
    node.check()

    assert node.stages.worker_for(APP, rows(b"x")) == FIRST_WORKER
