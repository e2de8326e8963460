"""Reports of a node on the values that it has fetched, and the run's records of them."""

from handoff_actors.core.node.events import InputFetched
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.run.events import MessageFromNode, ResultFetched, TransferObserved
from handoff_actors.core.run.facts.state import APP as IN_APP, Transfer
from handoff_actors.graph import Function
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.runs import Completed, Copy, Fetched
from tests.core.builders import (
    FIRST_WORKER,
    RUN,
    assign,
    code,
    completed,
    done,
    gives,
    job,
    node_up,
    replies,
    run_of,
    said,
    started,
    started_node,
    worker_done,
)

ELSEWHERE = Ref(3, 10, ["tcp://elsewhere:7070"])
ELSEWHERE_TOO = Ref(4, 10, ["tcp://elsewhere:7070"])


def reported(node: NodeMachine, index: int, now: float) -> list[Fetched]:
    """The fetches that a node reports when a job is done."""
    (message,) = replies(node.handle(worker_done(done(index)), now))
    assert isinstance(message, Completed)
    return message.fetched


def test_a_node_reports_once_how_long_an_input_took_and_how_long_ago_that_was() -> None:
    node = started_node()
    node.handle(said(assign([job(0, args=[ELSEWHERE]), job(1)])), 1.0)
    node.handle(InputFetched(RUN, 3, 10), 1.25)

    first, second = reported(node, 1, 1.75), reported(node, 0, 2.0)

    assert first == [Fetched(3, 10, 0.25, 0.5)]
    assert second == []


def test_a_value_that_comes_twice_is_reported_once() -> None:
    node = started_node()
    node.handle(said(assign([job(0, args=[ELSEWHERE])])), 1.0)
    node.handle(InputFetched(RUN, 3, 10), 1.25)
    node.handle(InputFetched(RUN, 3, 10), 1.5)

    assert reported(node, 0, 1.75) == [Fetched(3, 10, 0.25, 0.5)]


def test_a_job_waits_until_the_last_of_its_inputs_has_come() -> None:
    node = started_node()
    node.handle(said(assign([job(0, args=[ELSEWHERE, ELSEWHERE_TOO])])), 1.0)
    node.check()

    first = gives(node.handle(InputFetched(RUN, 3, 10), 1.25))
    node.check()
    second = gives(node.handle(InputFetched(RUN, 4, 10), 1.5))

    assert (first, second) == ([], [(FIRST_WORKER, [0])])


def test_a_copy_that_was_requested_by_itself_is_reported_too() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(said(Copy(RUN, [ELSEWHERE])), 1.0)
    node.handle(InputFetched(RUN, 3, 10), 1.5)

    assert reported(node, 0, 1.5) == [Fetched(3, 10, 0.5, 0.0)]


def test_a_run_puts_transfers_on_its_own_clock() -> None:
    run = run_of(Function("a", [], code))
    run.start(10.0, [node_up("n")])

    run.handle(MessageFromNode("n", Completed(RUN, [done(0)], {}, [Fetched(5, 10, 0.25, 0.5)])), 12.0)

    assert run.state.transfers == [Transfer(5, "n", 10, 11.25, 11.5)]


def test_a_run_knows_when_each_attempt_was_sent() -> None:
    run = run_of(Function("a", [], code), Function("b", ["a"], code))
    run.start(10.0)
    run.handle(node_up("n"), 10.5)
    run.handle(MessageFromNode("n", Completed(RUN, [done(0)], {})), 12.0)

    assert list(run.state.sent_at) == [10.5, 12.0]


def test_run_notes_the_transfer_that_brought_a_value_home_and_tells_observers() -> None:
    run = started(Function("x", [], code), wanted=[0], observe=True)
    run.handle(node_up("n"), 10.0)
    run.handle(completed("n", done(0, value=100)), 11.0)
    transfer = Transfer(0, IN_APP, 100, 11.0, 11.5)

    reported = run.handle(ResultFetched(0, transfer), 11.5)

    assert run.state.transfers == [transfer]
    assert TransferObserved(0, IN_APP, 100, 0.5) in reported


def test_run_that_nobody_observes_notes_transfers_all_the_same() -> None:
    run = started(Function("x", [], code), wanted=[0])
    run.handle(node_up("n"), 10.0)
    run.handle(completed("n", done(0, value=100)), 11.0)

    run.handle(ResultFetched(0, Transfer(0, IN_APP, 100, 11.0, 11.5)), 11.5)

    assert len(run.view.transfers) == 1


def test_value_that_is_mapped_in_the_app_was_not_moved() -> None:
    run = started(Function("x", [], code), wanted=[0], observe=True)
    run.handle(node_up("n"), 10.0)
    run.handle(completed("n", done(0, value=100)), 11.0)

    reported = run.handle(ResultFetched(0), 11.5)

    assert run.state.transfers == []
    assert not any(isinstance(effect, TransferObserved) for effect in reported)
