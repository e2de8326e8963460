from handoff_actors.core.node.events import PeerConnected, WorkerUp
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import PeerId, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.members import ListRuns, Runs, ServedRun
from handoff_actors.wire.messages.runs import Close
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


def test_a_run_that_is_being_cleared_away_is_still_there() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(said(Close(RUN)), 1.0)

    assert [entry.closing for entry in served(node)] == [True]
