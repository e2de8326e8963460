"""The events on a node of which its log is to tell."""

from collections.abc import Sequence

from msgspec.structs import replace

from handoff_actors.core.node.events import (
    KillWorker,
    LogDeath,
    LogEffect,
    LogRunOpened,
    LogSpill,
    NodeEffect,
    PeerConnected,
    SpawnWorker,
    SpillFailed,
    ValueSpilled,
    WorkersSampled,
    WorkerUnfit,
    WorkerUp,
)
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.spill_policy import QUIET_S, RETRY_S
from handoff_actors.ids import PeerId
from handoff_actors.wire.messages.jobs import Ref, Ticket
from handoff_actors.wire.messages.members import Beat
from handoff_actors.wire.messages.runs import Close, Copy, Failed
from tests.core.builders import (
    FIRST_WORKER,
    LEASE_S,
    RUN,
    assign,
    done,
    exited,
    job,
    replies,
    said,
    started_node,
    template,
    worker_done,
)

MB = 1_000_000
LIMITS = Limits(memory_factor=1.5, store_nbytes=100 * MB)
NAMED = PeerId(b"named")


def logged(effects: Sequence[NodeEffect]) -> list[LogEffect]:
    return [effect for effect in effects if isinstance(effect, LogDeath | LogRunOpened | LogSpill)]


# --- Runs -------------------------------------------------------------------------------------------------------


def test_a_run_is_opened_once_with_the_names_of_its_dag_and_its_app() -> None:
    node = started_node()
    node.handle(PeerConnected(NAMED, name="app-h1-7"), 1.0)
    message = replace(assign([job(0)]), dag_name="nightly")

    first = node.handle(said(message, NAMED), 1.1)
    second = node.handle(said(assign([job(1)], []), NAMED), 1.2)

    assert logged(first) == [LogRunOpened(RUN, "nightly", "app-h1-7")]
    assert logged(second) == []


def test_a_run_that_only_sends_values_here_is_opened_too() -> None:
    node = started_node()

    assert logged(node.handle(said(Copy(RUN, [Ref(0, 9, ["n2"])])), 1.0)) == [LogRunOpened(RUN, "", "")]
    assert logged(node.handle(said(Close(RUN)), 1.1)) == []


# --- Workers ----------------------------------------------------------------------------------------------------


def test_a_death_is_told_with_the_function_that_ran_and_for_how_long() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)

    effects = node.handle(exited(), 3.5)

    assert logged(effects) == [LogDeath(exited(), "", [(RUN, Ticket(0, 1))], 2.5)]
    (failed,) = replies(effects)
    assert isinstance(failed, Failed)
    assert failed.ran_s == 2.5


def test_a_function_whose_worker_is_killed_for_its_time_limit_has_run_for_so_long() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [template(timeout=1.0)])), 1.0)
    node.wake(2.0)

    (failed,) = replies(node.handle(exited(), 2.25))

    assert isinstance(failed, Failed)
    assert (failed.kind, failed.ran_s) == ("timeout", 1.25)


def test_a_death_with_several_functions_is_told_once() -> None:
    node = started_node()
    node.handle(said(assign([job(index) for index in range(9)])), 1.0)
    node.handle(worker_done(done(0, ran_s=0.0001)), 1.0)

    (death,) = logged(node.handle(exited(), 1.5))

    assert isinstance(death, LogDeath)
    assert (death.held[0], len(death.held), death.ran_s) == ((RUN, Ticket(1, 1)), 8, 0.5)


def test_an_idle_worker_that_dies_is_told() -> None:
    assert logged(started_node().handle(exited(), 1.0)) == [LogDeath(exited(), "", [], None)]


def test_a_coroutine_is_not_said_to_have_run_for_as_long_as_another() -> None:
    node = started_node()
    effects = node.handle(said(assign([job(0)], [template(is_async=True)])), 1.0)
    (worker,) = [effect.worker for effect in effects if isinstance(effect, SpawnWorker)]
    node.handle(WorkerUp(worker, 1002), 1.1)

    (death,) = logged(node.handle(exited(worker), 2.0))

    assert isinstance(death, LogDeath)
    assert death.ran_s is None


def test_a_worker_that_is_killed_for_its_memory_is_told_with_the_reason() -> None:
    node = started_node({"cpu": 1.0, "memory": 100.0}, limits=LIMITS)
    node.handle(said(assign([job(0)], [template(cost={"memory": 10.0})])), 1.0)
    killed = node.handle(WorkersSampled(1.5, {FIRST_WORKER: 1000 * MB}, 10**10, 10**10), 1.6)
    assert KillWorker(FIRST_WORKER) in killed

    (death,) = logged(node.handle(exited(), 2.0))

    assert isinstance(death, LogDeath)
    assert death.reason.startswith("it claims 10 MB of memory")


def test_a_worker_that_the_node_ends_has_not_died() -> None:
    closed = started_node()
    closed.handle(said(assign([job(0)])), 1.0)
    closed.handle(said(Close(RUN)), 1.1)
    retired = started_node()
    retired.handle(WorkerUnfit(FIRST_WORKER, RUN, 0, 1, "it changed the locale"), 1.0)

    assert logged(closed.handle(exited(), 1.2)) == []
    assert logged(retired.handle(exited(signal=None), 1.2)) == []


# --- Values -----------------------------------------------------------------------------------------------------


def spilling_node() -> NodeMachine:
    """A node that has just begun to spill the first of three values."""
    node = started_node(limits=LIMITS)
    node.handle(said(assign([job(index) for index in range(9)], [template(timeout=60.0)])), 1.0)
    for index in range(2):
        assert logged(node.handle(worker_done(done(index, value=40 * MB)), 1.0)) == []
    assert logged(node.handle(worker_done(done(2, value=40 * MB)), 1.1)) == [
        LogSpill("begun", 120 * MB, 100 * MB)
    ]
    return node


def test_spilling_begins_and_ends_once_however_many_values_go() -> None:
    node = spilling_node()
    told = node.handle(ValueSpilled(RUN, 0), 2.0)
    for index in range(3, 9):
        told += node.handle(worker_done(done(index, value=40 * MB)), float(index))
        told += node.handle(ValueSpilled(RUN, index - 2), float(index))
    assert logged(told) == []
    assert node.spilled_nbytes == 7 * 40 * MB

    node.handle(said(Close(RUN)), 9.0)
    node.handle(PeerConnected(NAMED), 9.0)
    ended = [effect for time in (8.0 + QUIET_S, 9.0 + QUIET_S) for effect in logged(node.wake(time))]

    assert ended == [LogSpill("ended", 0, 100 * MB, values=7, nbytes=280 * MB, seconds=6.9)]
    node.check()


def test_spilling_goes_on_while_a_value_is_on_its_way() -> None:
    node = spilling_node()
    while node._clients.wake_at is not None and node._clients.wake_at < 3 * QUIET_S:
        node.handle(said(Beat()), node._clients.wake_at - LEASE_S / 2)

    assert logged(node.wake(2 * QUIET_S)) == []


def test_a_value_whose_run_ends_on_its_way_ends_the_spilling_too() -> None:
    node = spilling_node()
    node.handle(said(Close(RUN)), 2.0)
    node.handle(exited(), 2.1)

    assert node.wake_at is not None
    assert [spill.values for spill in logged(node.wake(2.1 + QUIET_S)) if isinstance(spill, LogSpill)] == [0]


def test_a_disk_that_takes_no_more_is_told_once_until_it_does() -> None:
    node = spilling_node()

    first = node.handle(SpillFailed(RUN, 0, "no room"), 2.0)
    node.wake(2.0 + RETRY_S)
    second = node.handle(SpillFailed(RUN, 0, "no room"), 3.1)
    node.wake(3.1 + RETRY_S)
    node.handle(ValueSpilled(RUN, 0), 4.2)

    assert logged(first) == [LogSpill("refused", 120 * MB, 100 * MB, reason="no room")]
    assert logged(second) == []


def test_a_node_that_spills_nothing_says_nothing() -> None:
    node = started_node(limits=LIMITS)
    node.handle(said(assign([job(0)])), 1.0)

    assert logged(node.handle(worker_done(done(0, value=MB)), 1.0)) == []
    assert node.spilled_nbytes == 0
