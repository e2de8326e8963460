"""Functions that are sent along with one another, as a node sees them."""

import pytest

from handoff_actors.core.node.events import (
    DiscardValue,
    FetchInput,
    InputFetched,
    InputMissing,
    NodeEffect,
    PeerConnected,
    RunJobs,
    WorkerRecalled,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import PeerId
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.jobs import Arg, Earlier, Job, Ref, Template, Ticket
from handoff_actors.wire.messages.runs import Assign, Completed, Failed, Recall, Recalled
from tests.core.builders import (
    APP,
    FIRST_WORKER,
    RUN,
    assign,
    done,
    exited,
    gives,
    rejection,
    replies,
    said,
    started_node,
    template,
    worker_done,
    worker_failed,
)

LATER_APP = PeerId(b"the same app, connected anew")


def fused_group(*indices: int, arg: Arg | None = None, template: int = 0) -> Job:
    head, *behind = indices
    then = tuple(Job(index, 1, template, [Earlier(index - 1)], None) for index in behind)
    return Job(head, 1, 0, [] if arg is None else [arg], None, then)


def running(*indices: int, cost: float = 1.0) -> NodeMachine:
    """A node with one worker that has been given a fused group."""
    node = started_node()
    node.handle(said(assign([fused_group(*indices)], [template(cost={"cpu": cost})])), 1.0)
    return node


def separated(*indices: int) -> FromNode:
    return Recalled(RUN, [Ticket(index, 1) for index in indices], is_separated=True)


def given_back(*indices: int) -> WorkerRecalled:
    return WorkerRecalled(FIRST_WORKER, [(RUN, Ticket(index, 1)) for index in indices])


def reported(effects: list[NodeEffect]) -> list[int]:
    return [
        entry.index
        for message in replies(effects)
        if isinstance(message, Completed)
        for entry in message.done
    ]


def test_fused_group_goes_to_one_worker_under_one_claim_until_its_last_member_is_done() -> None:
    node = started_node({"cpu": 2.0}, workers=2)

    effects = node.handle(said(assign([fused_group(0, 1)], [template(cost={"cpu": 1.0})])), 1.0)
    first = node.handle(worker_done(done(0)), 1.1)
    claimed = dict(node.ledger.claimed)
    last = node.handle(worker_done(done(1)), 1.2)

    assert gives(effects) == [(FIRST_WORKER, [0])]
    assert claimed == {"cpu": 1.0}
    assert (reported(first), reported(last)) == ([0], [1])
    assert node.ledger.claimed == {"cpu": 0.0}
    node.check()


def test_what_was_to_run_behind_a_failure_is_told_of() -> None:
    node = running(0, 1, 2)
    node.handle(worker_done(done(0)), 1.1)

    answered = replies(node.handle(worker_failed(1), 1.2))

    assert [type(message) for message in answered] == [Failed, Recalled]
    assert answered[1] == separated(2)
    assert node.ledger.claimed == {"cpu": 0.0}
    node.check()


def test_failure_in_one_fused_group_leaves_another_one_of_the_same_worker_alone() -> None:
    node = running(9)
    node.handle(worker_done(done(9, ran_s=0.0001)), 1.1)
    node.handle(said(assign([fused_group(0, 1), fused_group(2, 3)], [template(cost={"cpu": 1.0})])), 1.2)

    answered = replies(node.handle(worker_failed(0), 1.3))
    later = node.handle(worker_done(done(2), done(3)), 1.4)

    assert answered[1:] == [separated(1)]
    assert reported(later) == [2, 3]
    node.check()


def test_worker_gives_back_what_was_to_run_behind_a_slow_member() -> None:
    node = running(0, 1, 2)

    answered = replies(node.handle(given_back(1, 2), 1.1))

    assert answered == [separated(1, 2)]
    node.check()


def test_fused_group_that_a_worker_gives_back_whole_is_queued_whole() -> None:
    node = started_node()
    node.handle(said(assign([fused_group(9), fused_group(0, 1)], [template(cost={"cpu": 1.0})])), 1.0)
    node.handle(worker_done(done(9, ran_s=0.0001)), 1.1)

    effects = node.handle(given_back(0, 1), 1.2)

    assert replies(effects) == []
    assert [held.then for effect in effects if isinstance(effect, RunJobs) for held in effect.jobs] == [
        fused_group(0, 1).then
    ]
    node.check()


def test_members_of_a_fused_group_whose_worker_died_are_given_back_since_none_of_them_is_surely_to_blame() -> (
    None
):
    node = running(0, 1, 2)
    node.handle(worker_done(done(0)), 1.1)

    effects = node.handle(exited(), 1.2)

    assert sorted(ticket.index for ticket in replies(effects)[0].jobs) == [1, 2]  # type: ignore[union-attr]
    assert {effect.index for effect in effects if isinstance(effect, DiscardValue)} == {1, 2}
    node.check()


def test_last_member_of_a_fused_group_is_to_blame_for_the_death_of_its_worker() -> None:
    node = running(0, 1)
    node.handle(worker_done(done(0)), 1.1)

    (answered,) = replies(node.handle(exited(), 1.2))

    assert isinstance(answered, Failed)
    assert (answered.index, answered.kind) == (1, "worker")


def test_recalled_fused_group_is_named_member_by_member() -> None:
    node = started_node()
    node.handle(said(assign([fused_group(7), fused_group(0, 1)], [template(cost={"cpu": 1.0})])), 1.0)

    answered = replies(node.handle(said(Recall(RUN, [Ticket(0, 1)], room=4)), 1.1))

    assert answered == [Recalled(RUN, [Ticket(0, 1), Ticket(1, 1)])]


def test_fused_group_waits_for_the_inputs_of_all_its_members_and_is_told_of_when_one_is_missing() -> None:
    node = started_node()
    from_afar = Job(0, 1, 0, [], None, (Job(1, 1, 0, [Earlier(0)], _ref()),))

    effects = node.handle(said(assign([from_afar])), 1.0)
    answered = replies(node.handle(InputMissing(RUN, 5, "gone"), 1.1))

    assert [effect.index for effect in effects if isinstance(effect, FetchInput)] == [5]
    assert [type(message) for message in answered] == [Failed, Recalled]
    assert answered[1] == separated(1)
    assert gives(node.handle(InputFetched(RUN, 5, 10), 1.2)) == []


def test_fused_group_that_waits_for_an_input_is_recalled_member_by_member() -> None:
    node = started_node()
    node.handle(said(assign([Job(0, 1, 0, [_ref()], None, (Job(1, 1, 0, [Earlier(0)], None),))])), 1.0)

    answered = replies(node.handle(said(Recall(RUN, [Ticket(0, 1)], room=4)), 1.1))

    assert answered == [Recalled(RUN, [Ticket(0, 1), Ticket(1, 1)])]


def test_fused_group_that_is_refused_over_a_new_connection_is_named_member_by_member() -> None:
    node = running(5)
    node.handle(PeerConnected(LATER_APP), 1.1)

    answered = replies(node.handle(said(assign([fused_group(0, 1)]), LATER_APP), 1.2))

    assert Recalled(RUN, [Ticket(0, 1), Ticket(1, 1)]) in answered


@pytest.mark.parametrize(
    "second",
    [
        template(1, {"cpu": 1.0}),
        template(1, timeout=1.0),
        template(1, is_async=True),
    ],
    ids=["other claim", "time limit", "coroutine"],
)
def test_fused_group_that_a_node_could_not_account_for_is_the_senders_fault(second: Template) -> None:
    node = started_node()

    assert rejection(
        node.handle(said(Assign(RUN, [template(), second], [fused_group(0, 1, template=1)])), 1.0)
    ).startswith("function 0 can't be the first of a fused group")


def test_fused_groups_within_fused_groups_are_the_senders_fault() -> None:
    node = started_node()
    nested = Job(0, 1, 0, [], None, (fused_group(1, 2),))

    effects = node.handle(said(assign([nested]), APP), 1.0)

    assert "function 0 can't be the first of a fused group" in rejection(effects)


def test_member_without_a_template_is_the_senders_fault() -> None:
    node = started_node()

    effects = node.handle(said(assign([fused_group(0, 1, template=4)])), 1.0)

    assert "function 1: template 4 was never sent" in rejection(effects)


def _ref() -> Ref:
    return Ref(5, 10, ["x"])
