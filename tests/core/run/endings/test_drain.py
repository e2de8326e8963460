"""Nodes that leave, and what becomes of the values on them."""

from handoff_actors.core.node.events import (
    FetchInput,
    ForgetPeer,
    ForgetRun,
    InputFetched,
    InputMissing,
    Leave,
    LeaveCompleted,
    PeerConnected,
    PeerLost,
)
from handoff_actors.core.nodes import NodeDown
from handoff_actors.core.run.events import (
    Cancel,
    MessageFromNode,
    Release,
    ResultFetched,
    RunEffect,
    SendToNode,
)
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import NodeLost
from handoff_actors.graph import Function
from handoff_actors.ids import Index, PeerId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.members import Goodbye
from handoff_actors.wire.messages.runs import Close, Closed, Copied, Copy
from tests.core.builders import (
    APP,
    RUN,
    assign,
    assigned,
    code,
    completed,
    done,
    ends,
    failed,
    job,
    node_up,
    replies,
    said,
    started,
    started_node,
    worker_done,
)

LARGE = 100
LATER_APP = PeerId(b"the same app, connected anew")


def copied(name: str, *indices: Index, missing: tuple[Index, ...] = ()) -> MessageFromNode:
    return MessageFromNode(name, Copied(RUN, list(indices), list(missing)))


def copies(effects: list[RunEffect]) -> list[tuple[str, list[Index]]]:
    return [
        (effect.name, [ref.index for ref in effect.message.values])
        for effect in effects
        if isinstance(effect, SendToNode) and isinstance(effect.message, Copy)
    ]


def closes(effects: list[RunEffect]) -> list[str]:
    return [
        effect.name
        for effect in effects
        if isinstance(effect, SendToNode) and isinstance(effect.message, Close)
    ]


def value_on_a(**options: object) -> RunMachine:
    """A run with x done and stored on a, and y, which takes it, pinned to b; neither b nor another node is there."""
    run = started(Function("x", [], code), Function("y", ["x"], code, node="b"), **options)
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=LARGE)), 0.2)
    return run


# --- What a run decides -----------------------------------------------------------------------------------------


def test_value_that_only_a_leaving_node_holds_is_copied_and_then_the_run_is_closed_there() -> None:
    run = value_on_a()
    run.handle(node_up("c"), 0.3)

    leaving = run.handle(node_up("a", leaving=True), 0.4)
    moved = run.handle(copied("c", 0), 0.5)
    run.handle(MessageFromNode("a", Closed(RUN)), 0.6)
    run.handle(NodeDown("a", "it has left"), 0.7)

    assert leaving == [SendToNode("c", Copy(RUN, [Ref(0, LARGE, ["address of a"])]))]
    assert closes(moved) == ["a"]
    assert run.state.stored[0].holders == ["c"]
    assert assigned(run.handle(node_up("b"), 0.8)) == [("b", [1])]
    run.check()


def test_value_that_another_node_holds_too_is_not_copied() -> None:
    run = started(Function("x", [], code, node="a"), Function("y", ["x"], code, node="b"))
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("b"), 0.1)
    run.handle(completed("a", done(0, value=LARGE)), 0.2)
    run.handle(completed("b", done(1, value=LARGE)), 0.3)

    effects = run.handle(node_up("a", leaving=True), 0.4)

    assert copies(effects) == []
    assert closes(effects) == ["a"]


def test_leaving_node_is_kept_until_what_it_runs_has_ended_and_that_value_has_moved_too() -> None:
    run = started(Function("x", [], code), Function("y", ["x"], code))
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("c", {}), 0.2)

    leaving = run.handle(node_up("a", leaving=True), 0.3)
    made = run.handle(completed("a", done(0, value=LARGE)), 0.4)
    moved = run.handle(copied("c", 0), 0.5)

    assert (copies(leaving), closes(leaving)) == ([], [])
    assert (copies(made), closes(made)) == ([("c", [0])], [])
    assert closes(moved) == ["a"]


def test_values_are_shared_out_among_the_nodes_that_stay() -> None:
    run = started(*(Function(number, [], code) for number in range(2)), Function("z", [0, 1], code, node="z"))
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=LARGE), done(1, value=LARGE)), 0.2)
    run.handle(node_up("b"), 0.3)
    run.handle(node_up("c"), 0.3)

    effects = run.handle(node_up("a", leaving=True), 0.4)

    assert copies(effects) == [("b", [0]), ("c", [1])]


def test_copy_that_fails_is_tried_elsewhere_and_in_the_end_the_value_is_made_again() -> None:
    run = value_on_a()
    run.handle(node_up("c"), 0.3)
    run.handle(node_up("d"), 0.3)
    run.handle(node_up("a", leaving=True), 0.4)

    elsewhere = run.handle(copied("c", missing=(0,)), 0.5)
    given_up = run.handle(copied("d", missing=(0,)), 0.6)

    assert copies(elsewhere) == [("d", [0])]
    assert closes(given_up) == ["a"]
    assert assigned(given_up) == [("c", [0])]


def test_value_waits_on_the_leaving_node_until_somebody_joins_who_can_take_it() -> None:
    run = value_on_a()

    alone = run.handle(node_up("a", leaving=True), 0.3)
    joined = run.handle(node_up("c"), 0.4)

    assert alone == []
    assert copies(joined) == [("c", [0])]


def test_copy_goes_elsewhere_when_the_node_that_was_to_take_it_goes_or_leaves_too() -> None:
    run = value_on_a()
    run.handle(node_up("c"), 0.3)
    run.handle(node_up("d"), 0.3)
    run.handle(node_up("e"), 0.3)
    run.handle(node_up("a", leaving=True), 0.4)

    after_loss = run.handle(NodeDown("c", "gone"), 0.5)
    after_leave = run.handle(node_up("d", leaving=True), 0.6)
    late = run.handle(copied("d", 0, missing=(0,)), 0.7)

    assert copies(after_loss) == [("d", [0])]
    assert copies(after_leave) == [("e", [0])]
    assert (copies(late), run.state.stored[0].holders) == ([], ["a"])


def test_copy_of_a_value_that_was_lost_meanwhile_does_not_count() -> None:
    run = value_on_a()
    run.handle(node_up("c"), 0.3)
    run.handle(node_up("a", leaving=True), 0.4)

    lost = run.handle(NodeDown("a", "killed while it left"), 0.5)
    run.handle(copied("c", 0), 0.6)

    assert assigned(lost) == [("c", [0])]
    assert 0 not in run.state.stored
    run.check()


def test_function_that_knows_only_of_the_old_place_is_sent_again_and_the_value_is_not_made_again() -> None:
    run = started(Function("x", [], code, node="a"), Function("y", ["x"], code, node="b"))
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("b"), 0.1)
    run.handle(node_up("c"), 0.1)
    run.handle(completed("a", done(0, value=LARGE)), 0.2)
    run.handle(node_up("a", leaving=True), 0.3)
    run.handle(copied("b", 0), 0.4)

    again = run.handle(failed("b", 1, "input", lost=0), 0.5)
    unknown = run.handle(failed("b", 1, "input", attempt=2, lost=None), 0.6)
    run.handle(failed("b", 1, "input", attempt=3, lost=0), 0.7)

    assert assigned(again) == [("b", [1])]
    assert assigned(unknown) == [("b", [1])]
    assert 0 not in run.state.stored, "the third attempt knew the new place, where the value is not"


def test_leaving_node_is_kept_until_the_app_has_what_it_wants() -> None:
    run = started(Function("x", [], code), Function("y", [], code, node="b"), wanted=[0])
    run.handle(node_up("a"), 0.1)
    run.handle(completed("a", done(0, value=LARGE)), 0.2)
    run.handle(node_up("c"), 0.3)
    run.handle(node_up("a", leaving=True), 0.4)

    moved = run.handle(copied("c", 0), 0.5)
    in_app = run.handle(ResultFetched(0), 0.6)

    assert closes(moved) == []
    assert closes(in_app) == ["a"]


def test_values_of_a_run_that_went_well_are_handed_over_until_the_app_lets_go() -> None:
    run = started(Function("x", [], code))
    run.handle(node_up("a"), 0.1)
    run.handle(node_up("c", {}), 0.1)
    end = ends(run.handle(completed("a", done(0, value=LARGE)), 0.2))

    leaving = run.handle(node_up("a", leaving=True), 0.3)
    moved = run.handle(copied("c", 0), 0.4)
    let_go = run.handle(Release(), 0.5)

    assert [entry.error for entry in end] == [None]
    assert (copies(leaving), closes(leaving)) == ([("c", [0])], [])
    assert closes(moved) == ["a"]
    assert closes(let_go) == ["c"]


def test_values_of_a_run_that_is_cancelled_are_not_handed_over() -> None:
    run = value_on_a()
    run.handle(node_up("c"), 0.3)
    run.handle(Cancel(), 0.4)

    assert copies(run.handle(node_up("a", leaving=True), 0.5)) == []


def test_function_pinned_to_a_node_that_leaves_ends_as_such() -> None:
    run = started(Function("x", [], code, node="a"), allocation_timeout_s=3.0)
    run.handle(node_up("a", leaving=True), 0.1)

    (end,) = ends(run.wake(3.1))

    assert isinstance(end.error, NodeLost)
    assert "it leaves" in str(end.error)


# --- What a node decides ----------------------------------------------------------------------------------------


def test_node_fetches_what_it_is_to_hold_and_says_when_it_has_it() -> None:
    node = started_node()
    values = [Ref(3, 10, ["x"]), Ref(4, 20, ["y"])]

    asked = node.handle(said(Copy(RUN, values)), 1.0)
    repeated = node.handle(said(Copy(RUN, values)), 1.0)
    one = node.handle(InputFetched(RUN, 3, 10), 1.01)
    other = node.handle(InputMissing(RUN, 4, "gone"), 1.02)
    later = node.handle(said(Copy(RUN, values[:1])), 1.03)

    assert asked[:2] == [FetchInput(APP, RUN, 3, 10, ("x",)), FetchInput(APP, RUN, 4, 20, ("y",))]
    assert repeated == []
    assert replies(one) == [Copied(RUN, [3], [])]
    assert replies(other) == [Copied(RUN, [], [4])]
    assert replies(later) == [Copied(RUN, [3], [])]
    node.check()


def test_node_that_leaves_takes_no_copies() -> None:
    node = started_node()
    node.handle(Leave(), 1.0)

    reported = replies(node.handle(said(Copy(RUN, [Ref(3, 10, ["x"])])), 1.01))

    assert reported == [Copied(RUN, [], [3])]


def test_node_takes_no_copies_while_the_remains_of_an_earlier_connection_are_there() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(PeerConnected(LATER_APP), 1.0)

    reported = replies(node.handle(said(Copy(RUN, [Ref(3, 10, ["x"])]), LATER_APP), 1.01))

    assert reported == [Copied(RUN, [], [3])]


def test_copy_that_comes_after_the_end_of_its_run_is_told_to_nobody() -> None:
    node = started_node()
    node.handle(said(Copy(RUN, [Ref(3, 10, ["x"])])), 1.0)
    node.handle(said(Goodbye()), 1.01)

    assert node.handle(InputFetched(RUN, 3, 10), 1.02) == []


def test_node_leaves_only_when_its_values_are_wanted_no_more() -> None:
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(Leave(), 1.1)

    done_with_work = node.handle(worker_done(done(0, value=LARGE)), 1.2)
    closed = node.handle(said(Close(RUN)), 1.3)

    assert LeaveCompleted() not in done_with_work
    assert ForgetRun(RUN) in closed
    assert closed[-1] == LeaveCompleted()


def test_peer_is_forgotten_once_it_has_gone_and_all_that_was_its() -> None:
    node = started_node()
    node.handle(PeerConnected(LATER_APP), 0.0)
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(worker_done(done(0)), 1.01)

    idle = node.handle(said(Goodbye(), LATER_APP), 1.02)
    busy = node.handle(said(Goodbye()), 1.03)

    assert idle == [ForgetPeer(LATER_APP, has_left=True)]
    assert busy[0] == ForgetRun(RUN)
    assert busy[-1] == ForgetPeer(APP, has_left=True)


def test_peer_whose_lease_or_connection_ends_has_not_left() -> None:
    node = started_node()
    node.handle(PeerConnected(LATER_APP), 0.0)

    broken = node.handle(PeerLost(LATER_APP), 1.0)
    lapsed = node.wake(1e6)

    assert broken[-1] == ForgetPeer(LATER_APP, has_left=False)
    assert ForgetPeer(APP, has_left=False) in lapsed
