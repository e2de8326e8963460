from handoff_actors.core.node.events import NestedWaitBegan, PeerConnected, PeerLost, WorkerUp
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import PeerId, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.members import (
    Backlog,
    Beat,
    ListMembers,
    ListRuns,
    RunProgress,
    Runs,
    ServedRun,
)
from handoff_actors.wire.messages.runs import Assign, Close
from tests.core.builders import (
    RUN,
    assign,
    done,
    gives,
    job,
    replies,
    said,
    started_node,
    template,
    worker_done,
)

ONLOOKER = PeerId(b"somebody who looks")
NEIGHBOUR = PeerId(b"another app")
NEIGHBOURS_RUN = RunId(8)


def served(node: NodeMachine) -> list[ServedRun]:
    node.handle(PeerConnected(ONLOOKER), 1.0)
    [answer] = replies(node.handle(said(ListRuns(), ONLOOKER), 1.0))
    assert isinstance(answer, Runs)
    return answer.runs


def test_a_node_without_runs_says_so() -> None:
    assert served(started_node()) == []


def test_a_run_has_what_runs_what_waits_and_what_is_stored() -> None:
    node = started_node({"cpu": 1.0})
    node.handle(said(assign([job(0), job(1), job(2)], [template(cost={"cpu": 1})])), 1.0)
    node.handle(worker_done(done(0, value=1000)), 1.0)
    node.handle(said(assign([job(3, args=[Ref(9, 10, ["x"])])], [])), 1.0)

    assert served(node) == [ServedRun(RUN, "", running=1, queued=2, stored=1000, closing=False)]


def test_functions_that_wait_for_runs_of_their_own_are_counted() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(NestedWaitBegan(RUN, 0, 1), 1.0)

    assert served(node) == [ServedRun(RUN, "", running=1, queued=0, stored=0, closing=False, waiting=1)]


def test_what_a_worker_holds_beyond_the_first_waits() -> None:
    node = started_node()
    node.handle(said(assign([job(0), job(1), job(2)])), 1.0)
    # That was short, so the worker is given the others together.
    effects = node.handle(worker_done(done(0, ran_s=0.00001)), 1.0)

    assert [held for _, held in gives(effects)] == [[1, 2]]
    assert served(node) == [ServedRun(RUN, "", running=1, queued=1, stored=0, closing=False)]


def test_coroutines_run_together() -> None:
    node = started_node()
    node.handle(said(assign([job(0), job(1)], [template(is_async=True)])), 1.0)
    node.handle(WorkerUp(WorkerId(2), 1002), 1.0)

    assert served(node) == [ServedRun(RUN, "", running=2, queued=0, stored=0, closing=False)]


def test_runs_bear_the_names_of_those_who_asked_for_them() -> None:
    node = started_node()
    node.handle(PeerConnected(NEIGHBOUR, name="neighbour"), 1.0)
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(said(assign([job(0)], run=NEIGHBOURS_RUN), NEIGHBOUR), 1.0)

    assert [(entry.run, entry.owner) for entry in served(node)] == [(RUN, ""), (NEIGHBOURS_RUN, "neighbour")]


def test_runs_have_the_names_of_their_dags() -> None:
    node = started_node()
    node.handle(said(Assign(RUN, [template()], [job(0)], dag_name="nightly")), 1.0)
    node.handle(said(assign([job(1)], [])), 1.0)

    assert [(entry.dag_name, entry.progress) for entry in served(node)] == [("nightly", None)]


def test_progress_is_what_the_runs_own_client_has_told_last() -> None:
    first, second, foreign = (RunProgress(RUN, "nightly", 9, done, 1, 0) for done in (1, 2, 9))
    node = started_node()
    node.handle(PeerConnected(NEIGHBOUR, name="neighbour"), 1.0)
    node.handle(said(assign([job(0)])), 1.0)

    node.handle(said(Beat([first])), 1.0)
    node.handle(said(Beat([RunProgress(NEIGHBOURS_RUN, "unknown", 1, 1, 0, 0), second])), 2.0)
    node.handle(said(Beat([foreign]), NEIGHBOUR), 3.0)

    assert [(entry.dag_name, entry.progress) for entry in served(node)] == [("nightly", second)]


def test_a_run_that_is_being_cleared_away_is_still_there() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(said(Close(RUN)), 1.0)

    assert [entry.closing for entry in served(node)] == [True]


def test_messages_to_the_shell_are_none_of_the_machines() -> None:
    node = started_node()

    assert replies(node.handle(said(ListMembers()), 1.0)) == []
    assert served(node) == []


def test_what_waits_is_what_each_client_that_is_there_has_told_last() -> None:
    node = started_node()
    node.handle(PeerConnected(NEIGHBOUR, name="neighbour"), 1.0)
    first, second, third = (Backlog(count, {"cpu": 1.0}) for count in (1, 2, 3))
    node.handle(said(Beat(backlogs=[first])), 1.0)
    node.handle(said(Beat(backlogs=[second])), 2.0)
    node.handle(said(Beat(backlogs=[third]), NEIGHBOUR), 2.0)
    assert node.backlogs == [second, third]

    node.handle(PeerLost(NEIGHBOUR), 3.0)
    node.handle(said(Beat()), 3.0)

    assert node.backlogs == []
