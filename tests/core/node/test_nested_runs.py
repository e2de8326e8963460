import pytest

from handoff_actors.core.node.events import PeerConnected, Reply, WorkerUp
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.nested_runs import MAX_REPORTED
from handoff_actors.core.node.scheduling.lending import MOST_LENT
from handoff_actors.ids import PeerId, RunId, WorkerId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.members import Goodbye
from handoff_actors.wire.messages.nested import (
    Ancestor,
    Holding,
    Identified,
    Identify,
    Probe,
    Probed,
    WaitingRun,
    Want,
)
from handoff_actors.wire.messages.runs import Assign, Close
from tests.core.builders import (
    APP,
    RUN,
    assign,
    done,
    gives,
    job,
    rejection,
    replies,
    said,
    started_node,
    template,
    worker_done,
)

NESTED = RunId(70)
OTHER = RunId(80)
SESSION = PeerId(b"session in a function")
PARENT = Ancestor(RUN, 0, 1)
CPU = Want({"cpu": 1.0}, is_async=False)


def node_with_a_parent() -> NodeMachine:
    """A node of 2 cpus on which function 0 of the app's run holds one, and a session of that function is connected."""
    node = started_node({"cpu": 2.0, "gpu": 1.0}, workers=2)
    node.handle(PeerConnected(SESSION), 0.0)
    node.handle(said(assign([job(0)], [template(cost={"cpu": 1.0})])), 0.0)
    return node


def probe(
    node: NodeMachine,
    *ancestors: Ancestor,
    run: RunId = NESTED,
    wants: tuple[Want, ...] = (CPU,),
    number: int = 1,
) -> Probed:
    effects = node.handle(said(Probe(run, number, list(ancestors), list(wants)), SESSION), 1.0)
    (answer,) = [message for message in replies(effects) if isinstance(message, Probed)]
    return answer


def held(*, label: str = "", cost: float = 1.0) -> Holding:
    return Holding(PARENT, label, {"cpu": cost}, [], has_worker=True)


def test_nested_run_learns_what_its_ancestor_holds() -> None:
    node = node_with_a_parent()

    answer = probe(node, PARENT, number=3)

    assert answer == Probed(
        NESTED,
        3,
        is_active=False,
        capabilities={"cpu": 2.0, "gpu": 1.0},
        workers=2 + MOST_LENT,
        most_workers=4 + MOST_LENT,
        ancestors=[],
        waiting=[WaitingRun(NESTED, [CPU], [held()])],
    )


def test_others_learn_of_a_run_that_waits() -> None:
    node = node_with_a_parent()
    probe(node, PARENT)

    answer = probe(node, run=OTHER)

    assert answer.waiting == [WaitingRun(NESTED, [CPU], [held()])]


def test_run_whose_ancestors_hold_nothing_here_is_of_no_interest() -> None:
    node = node_with_a_parent()

    gone = Ancestor(RUN, 0, 2), Ancestor(RUN, 5, 1), Ancestor(RunId(1), 0, 1)

    assert probe(node, *gone).waiting == []
    assert probe(node, run=OTHER).waiting == []


def test_coroutine_without_a_claim_holds_nothing() -> None:
    node = node_with_a_parent()
    node.handle(said(assign([job(1, number=1)], [template(1, is_async=True)])), 0.0)
    node.handle(WorkerUp(WorkerId(3), 1003), 0.0)

    assert probe(node, Ancestor(RUN, 1, 1)).waiting == []


def test_coroutine_with_a_claim_holds_that_and_no_worker() -> None:
    node = node_with_a_parent()
    node.handle(said(assign([job(1, number=1)], [template(1, {"gpu": 1.0}, is_async=True)])), 0.0)
    node.handle(WorkerUp(WorkerId(3), 1003), 0.0)
    ancestor = Ancestor(RUN, 1, 1)

    (waiting,) = probe(node, ancestor).waiting

    assert waiting.holdings == [Holding(ancestor, "", {"gpu": 1.0}, [0], has_worker=False)]


def test_function_that_claims_nothing_holds_its_worker() -> None:
    node = started_node()
    node.handle(PeerConnected(SESSION), 0.0)
    node.handle(said(assign([job(0)])), 0.0)

    (waiting,) = probe(node, PARENT).waiting

    assert waiting.holdings == [Holding(PARENT, "", {}, [], has_worker=True)]


@pytest.mark.parametrize("end", ["it moves", "it ends", "its session leaves", "its ancestor ends"])
def test_run_that_waits_no_more_is_forgotten(end: str) -> None:
    node = node_with_a_parent()
    probe(node, PARENT)

    match end:
        case "it moves":
            assert probe(node, wants=()).waiting == []
        case "it ends":
            node.handle(said(assign([job(0)], run=NESTED), SESSION), 1.0)
            node.handle(said(Close(NESTED), SESSION), 1.0)
        case "its session leaves":
            node.handle(said(Goodbye(), SESSION), 1.0)
            node.handle(PeerConnected(SESSION), 1.0)
        case _:
            node.handle(worker_done(done(0)), 1.0)

    assert probe(node, run=OTHER).waiting == []
    node.check()


def test_node_says_whether_it_runs_functions_of_the_run() -> None:
    node = node_with_a_parent()
    node.handle(said(assign([job(0)], run=NESTED), SESSION), 0.0)

    assert probe(node, wants=()).is_active


def test_node_that_fetches_inputs_of_a_run_is_active() -> None:
    node = node_with_a_parent()
    node.handle(said(assign([job(0, args=[Ref(5, 10, ["elsewhere"])])], run=NESTED), SESSION), 0.0)

    assert probe(node, wants=()).is_active


def test_ancestors_of_ancestors_are_named() -> None:
    node = node_with_a_parent()
    node.handle(said(Assign(NESTED, [template()], [job(3)], parent=PARENT), SESSION), 0.0)

    assert probe(node, Ancestor(NESTED, 3, 1), run=OTHER).ancestors == [PARENT]


def test_run_is_asked_for_the_id_of_a_function_that_waits() -> None:
    node = node_with_a_parent()

    effects = node.handle(said(Probe(NESTED, 1, [PARENT], [CPU]), SESSION), 1.0)
    again = node.handle(said(Probe(NESTED, 2, [PARENT], [CPU]), SESSION), 1.0)
    node.handle(said(Identified(RUN, 0, "'parent'")), 1.0)

    assert Reply(APP, Identify(RUN, 0)) in effects
    assert Reply(APP, Identify(RUN, 0)) not in again
    assert probe(node, PARENT).waiting == [WaitingRun(NESTED, [CPU], [held(label="'parent'")])]


def test_run_is_asked_again_where_another_function_has_the_index() -> None:
    node = node_with_a_parent()
    probe(node, PARENT)
    node.handle(said(Identified(RUN, 0, "'parent'")), 1.0)
    node.handle(worker_done(done(0)), 1.1)
    node.handle(said(assign([job(0, attempt=2)], [])), 1.2)

    effects = node.handle(said(Probe(NESTED, 1, [Ancestor(RUN, 0, 2)], [CPU]), SESSION), 1.3)

    assert Reply(APP, Identify(RUN, 0)) in effects
    [waiting] = probe(node, Ancestor(RUN, 0, 2)).waiting
    assert [holding.label for holding in waiting.holdings] == [""]


def test_ids_that_nobody_asked_for_are_ignored() -> None:
    node = node_with_a_parent()
    node.handle(said(Identified(RUN, 0, "too early")), 1.0)
    probe(node, PARENT)
    node.handle(said(Identified(RUN, 0, "of another"), SESSION), 1.0)
    node.handle(said(Identified(RUN, 1, "of another function")), 1.0)

    assert probe(node, PARENT).waiting == [WaitingRun(NESTED, [CPU], [held()])]


def test_ancestor_whose_run_is_being_closed_is_not_asked_for() -> None:
    node = node_with_a_parent()
    node.handle(said(Close(RUN)), 1.0)

    effects = node.handle(said(Probe(NESTED, 1, [PARENT], [CPU]), SESSION), 1.0)

    assert not any(isinstance(message, Identify) for message in replies(effects))


def test_report_is_bounded_and_has_the_own_run() -> None:
    node = node_with_a_parent()
    for number in range(MAX_REPORTED + 5):
        probe(node, PARENT, run=RunId(1000 + number))

    reported = [waiting.run for waiting in probe(node, PARENT).waiting]

    assert len(reported) == MAX_REPORTED
    assert reported[-1] == NESTED


def test_probe_with_an_impossible_need_is_rejected() -> None:
    node = started_node()

    effects = node.handle(said(Probe(RUN, 1, [], [Want({"cpu": -1.0}, is_async=False)])), 1.0)

    assert "a nested run needs -1.0 of 'cpu'" in rejection(effects)


def test_function_of_a_nested_run_goes_before_one_that_starves() -> None:
    node = node_with_a_parent()
    node.handle(said(assign([job(1, number=1)], [template(1, {"cpu": 2.0})])), 0.1)
    node.handle(said(Assign(NESTED, [template(cost={"cpu": 1.0})], [job(0)], parent=PARENT), SESSION), 0.1)
    node.handle(worker_done(done(0), worker=WorkerId(2), run=NESTED), 1.9)

    effects = node.handle(
        said(Assign(NESTED, [], [job(1)], parent=PARENT), SESSION),
        2.0,
    )

    assert gives(effects) == [(2, [1])]
