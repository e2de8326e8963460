"""A run that has failed is stopped: its functions end, and its values stay until it is closed."""

from handoff_actors.core.node.events import (
    DiscardValue,
    FetchInput,
    ForgetRun,
    InputFetched,
    KillWorker,
    PeerConnected,
    PeerLost,
    Reply,
    SpillFailed,
    SpillValue,
)
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import PeerId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.members import ListRuns, Runs
from handoff_actors.wire.messages.runs import Close, Closed, Stop, Stopped
from tests.core.builders import (
    APP,
    FIRST_WORKER,
    LEASE_S,
    RUN,
    assign,
    done,
    exited,
    gives,
    job,
    replies,
    said,
    started_node,
    worker_done,
)

LATER_APP = PeerId(b"later")
LARGE = 100_000


def holding() -> NodeMachine:
    """A node that has the value of one function, and runs another one."""
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(worker_done(done(0, value=LARGE)), 1.1)
    node.handle(said(assign([job(1)])), 1.2)
    return node


def stopped() -> NodeMachine:
    node = holding()
    node.handle(said(Stop(RUN)), 1.3)
    node.handle(exited(), 1.4)
    return node


def test_functions_of_a_stopped_run_end_and_its_values_stay() -> None:
    node = holding()

    at_once = node.handle(said(Stop(RUN)), 1.3)
    in_the_end = node.handle(exited(), 1.4)
    node.check()

    assert KillWorker(FIRST_WORKER) in at_once
    assert replies(at_once) == []
    assert replies(in_the_end) == [Stopped(RUN)]
    assert node.size_of(RUN, 0) == LARGE
    assert not any(node.ledger.claimed.values())


def test_run_without_values_is_stopped_all_the_same() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)

    node.handle(said(Stop(RUN)), 1.1)

    assert replies(node.handle(exited(), 1.2)) == [Stopped(RUN)]


def test_closing_a_stopped_run_drops_its_values() -> None:
    node = stopped()

    effects = node.handle(said(Close(RUN)), 2.0)
    node.check()

    assert [effect for effect in effects if isinstance(effect, ForgetRun | Reply)] == [
        ForgetRun(RUN),
        Reply(APP, Closed(RUN)),
    ]
    assert node.is_idle


def test_closing_a_run_that_is_being_stopped_ends_it_as_a_whole() -> None:
    node = holding()
    node.handle(said(Stop(RUN)), 1.3)

    at_once = node.handle(said(Close(RUN)), 1.31)
    in_the_end = node.handle(exited(), 1.4)

    assert replies(at_once) == []
    assert replies(in_the_end) == [Closed(RUN)]
    assert node.is_idle


def test_run_that_is_stopped_takes_no_function_and_no_late_result() -> None:
    node = holding()
    node.handle(said(Stop(RUN)), 1.3)

    late = node.handle(worker_done(done(1, value=LARGE)), 1.31)
    refused = node.handle(said(assign([job(2)])), 1.5)
    node.check()

    assert DiscardValue(RUN, 1, 1) in late
    assert replies(late) == [Stopped(RUN)]
    assert gives(refused) == []


def test_job_that_waits_for_an_input_ends_with_its_run_and_the_input_stays() -> None:
    node = started_node()
    (fetch, *_) = node.handle(said(assign([job(1, args=[Ref(0, LARGE, ["elsewhere"])])])), 1.0)
    assert isinstance(fetch, FetchInput)

    effects = node.handle(said(Stop(RUN)), 1.1)
    node.handle(InputFetched(RUN, 0, LARGE), 1.2)
    node.check()

    assert replies(effects) == [Stopped(RUN)]
    assert node.size_of(RUN, 0) == LARGE
    node.handle(said(Close(RUN)), 1.3)
    assert node.is_idle


def test_values_of_a_stopped_run_go_with_its_peer() -> None:
    node = stopped()

    node.handle(PeerLost(APP), 1.6)
    node.check()

    assert node.is_idle


def test_run_that_is_being_stopped_ends_as_a_whole_if_its_peer_goes() -> None:
    node = holding()
    node.handle(said(Stop(RUN)), 1.3)

    node.handle(PeerLost(APP), 1.31)
    node.handle(exited(), 1.4)
    node.check()

    assert node.is_idle


def test_values_of_a_stopped_run_go_with_the_lease_of_its_peer() -> None:
    node = stopped()

    node.wake(1.5 + LEASE_S)

    assert node.is_idle


def test_values_of_a_stopped_run_make_room_when_the_disk_takes_no_more() -> None:
    node = started_node(limits=Limits(store_nbytes=LARGE // 2))
    node.handle(said(assign([job(0)])), 1.0)
    assert SpillValue(RUN, 0) in node.handle(worker_done(done(0, value=LARGE)), 1.1)
    node.handle(said(Stop(RUN)), 1.3)

    effects = node.handle(SpillFailed(RUN, 0, "the disk is full"), 1.4)
    node.check()

    assert [effect for effect in effects if isinstance(effect, ForgetRun | Reply)] == [
        ForgetRun(RUN),
        Reply(APP, Closed(RUN)),
    ]
    assert node.is_idle


def test_stopping_an_unknown_run_or_one_of_an_older_connection_closes_it() -> None:
    unknown = started_node()
    assert replies(unknown.handle(said(Stop(RUN)), 1.0)) == [Closed(RUN)]

    node = holding()
    node.handle(PeerConnected(LATER_APP), 1.3)
    node.handle(said(Stop(RUN), LATER_APP), 1.4)
    effects = node.handle(exited(), 1.5)

    assert [effect for effect in effects if isinstance(effect, Reply)] == [Reply(LATER_APP, Closed(RUN))]


def test_stopped_run_is_not_listed_as_closing() -> None:
    node = stopped()

    (listed,) = replies(node.handle(said(ListRuns()), 2.0))

    assert isinstance(listed, Runs)
    assert [(run.run, run.closing, run.stored) for run in listed.runs] == [(RUN, False, LARGE)]
