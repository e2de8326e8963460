"""Values that a node keeps beyond their run."""

from collections.abc import Sequence

import pytest

from handoff_actors.core.node.events import (
    FetchInput,
    ForgetRun,
    InputFetched,
    InputMissing,
    Leave,
    LeaveCompleted,
    NodeEffect,
    PeerConnected,
    PeerLost,
    ValueMissing,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.node_drain import CLOSE_WITHIN_S
from handoff_actors.ids import Index, PeerId, RunId
from handoff_actors.wire.messages.jobs import Ref, ValueOf
from handoff_actors.wire.messages.kept import DropKept, FindKept, Keep, KeptAnswer, KeptEntry
from handoff_actors.wire.messages.runs import Close
from tests.core.builders import APP, RUN, assign, done, job, replies, said, started_node, worker_done

LARGE = 100_000
KEPT, LATER = RunId(1001), RunId(1002)
OTHER = PeerId(b"other")
HERE = Ref(0, LARGE, ["address of this one"], 0, ValueOf(RUN, Index(0)))
ELSEWHERE = Ref(0, LARGE, [""], 0, ValueOf(KEPT, Index(0)))


def node_with_a_value() -> NodeMachine:
    node = started_node()
    node.handle(PeerConnected(OTHER), 0.5)
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(worker_done(done(0, value=LARGE)), 2.0)
    return node


def keep(name: str = "x", run: RunId = KEPT, value: Ref = HERE, rank: int = 1, ttl_s: float = 10.0) -> Keep:
    return Keep(5, name, run, value, rank, ttl_s)


def kept(node: NodeMachine, wanted: Keep, now: float = 3.0) -> Sequence[NodeEffect]:
    """Have a node keep a value that it has."""
    [fetch] = [effect for effect in node.handle(said(wanted), now) if isinstance(effect, FetchInput)]
    assert fetch.is_here
    return node.handle(InputFetched(wanted.run, Index(0), LARGE, shared_with=(RUN, Index(0))), now)


def found(node: NodeMachine, name: str, now: float = 4.0) -> KeptAnswer:
    [answer] = replies(node.handle(said(FindKept(9, name), OTHER), now))
    assert isinstance(answer, KeptAnswer)
    node.check()
    return answer


def test_a_value_is_kept_beyond_its_run_and_found_by_others() -> None:
    node = node_with_a_value()

    effects = kept(node, keep())

    assert replies(effects) == [KeptAnswer(5, [KeptEntry("x", KEPT, LARGE, 1, 10.0)])]
    node.handle(said(Close(RUN)), 3.5)
    assert found(node, "x") == KeptAnswer(9, [KeptEntry("x", KEPT, LARGE, 1, 9.0)])
    assert found(node, "").values == found(node, "x").values
    assert node.has_version(KEPT, Index(0), 0)


def test_values_with_names_are_listed_for_the_node_that_is_to_have_them_next() -> None:
    node = node_with_a_value()
    kept(node, keep())
    kept(node, keep("", LATER))

    assert node.kept_values(4.0) == [KeptEntry("x", KEPT, LARGE, 1, 9.0)]


def test_an_unknown_name_is_answered_with_names_that_are_near() -> None:
    node = node_with_a_value()
    kept(node, keep("weights"))

    assert found(node, "weight") == KeptAnswer(9, [], ["weights"])


def test_a_value_is_dropped_when_its_time_is_over() -> None:
    node = node_with_a_value()
    kept(node, keep(ttl_s=0.5))
    assert node.wake_at is not None
    assert node.wake_at <= 3.5

    assert ForgetRun(KEPT) in node.wake(3.5)

    assert found(node, "x").values == []
    assert node.advertisement().stored == LARGE


def test_a_value_is_dropped_by_name() -> None:
    node = node_with_a_value()
    kept(node, keep())

    effects = node.handle(said(DropKept(6, "x", RunId(0)), OTHER), 4.0)

    assert ForgetRun(KEPT) in effects
    assert replies(effects) == [KeptAnswer(6, [KeptEntry("x", KEPT, LARGE, 1, 9.0)])]
    assert replies(node.handle(said(DropKept(7, "x", RunId(0))), 4.0)) == [KeptAnswer(7, [])]
    assert replies(node.handle(said(DropKept(8, "", KEPT)), 4.0)) == [KeptAnswer(8, [])]


def test_those_who_wait_for_a_value_that_is_dropped_are_told() -> None:
    node = node_with_a_value()
    node.handle(said(keep()), 3.0)

    effects = node.handle(said(DropKept(6, "x", RunId(0)), OTHER), 4.0)

    assert KeptAnswer(5, [], ["it was dropped"]) in replies(effects)
    assert found(node, "x").values == []


def test_the_value_that_is_to_stay_is_not_dropped() -> None:
    node = node_with_a_value()
    kept(node, keep())

    node.handle(said(DropKept(6, "x", KEPT)), 4.0)

    assert [entry.run for entry in found(node, "x").values] == [KEPT]


def test_a_later_value_of_a_name_takes_the_place_of_an_earlier_one() -> None:
    node = node_with_a_value()
    kept(node, keep())

    effects = kept(node, keep(run=LATER, rank=2))

    assert ForgetRun(KEPT) in effects
    assert [entry.run for entry in found(node, "x").values] == [LATER]


def test_an_earlier_value_of_a_name_does_not_take_the_place_of_a_later_one() -> None:
    node = node_with_a_value()
    kept(node, keep(run=LATER, rank=2))

    effects = kept(node, keep())

    assert replies(effects) == [KeptAnswer(5, [], ["a later value is kept under this name"])]
    assert [entry.run for entry in found(node, "x").values] == [LATER]


def test_a_value_that_is_elsewhere_is_fetched_and_all_who_asked_hear_of_it() -> None:
    node = node_with_a_value()
    effects = node.handle(said(keep(value=ELSEWHERE)), 3.0)
    [fetch] = [effect for effect in effects if isinstance(effect, FetchInput)]
    assert not fetch.is_here
    assert node.handle(said(keep(value=ELSEWHERE), OTHER), 3.0) == []

    effects = node.handle(InputFetched(KEPT, Index(0), LARGE), 3.0)

    assert len(replies(effects)) == 2
    # Once it is here, it is only named.
    assert replies(node.handle(said(keep(value=ELSEWHERE)), 4.0)) == [
        KeptAnswer(5, [KeptEntry("x", KEPT, LARGE, 1, 9.0)])
    ]
    node.check()


def test_a_value_that_cannot_be_had_is_not_kept() -> None:
    node = node_with_a_value()
    node.handle(said(keep(value=ELSEWHERE)), 3.0)

    effects = node.handle(InputMissing(KEPT, Index(0), "no room", "store"), 3.2)

    assert replies(effects) == [KeptAnswer(5, [], ["no room"])]
    assert found(node, "x").values == []


def test_a_value_that_somebody_has_removed_is_not_found() -> None:
    node = node_with_a_value()
    kept(node, keep())

    node.handle(ValueMissing(KEPT, Index(0)), 3.5)

    assert found(node, "x").values == []


@pytest.mark.parametrize("end", ["drop", "peer"])
def test_a_value_without_a_name_is_for_one_peer_until_it_drops_it_or_is_gone(end: str) -> None:
    node = node_with_a_value()
    effects = kept(node, keep("", ttl_s=0.0))
    assert replies(effects) == [KeptAnswer(5, [KeptEntry("", KEPT, LARGE, 1, 0.0)])]
    assert found(node, "").values == []

    effects = node.handle(said(DropKept(0, "", KEPT)) if end == "drop" else PeerLost(APP), 60.0)

    assert ForgetRun(KEPT) in effects
    assert not node.has_version(KEPT, Index(0), 0)
    node.check()


def test_kept_values_do_not_keep_a_node_from_leaving() -> None:
    node = node_with_a_value()
    kept(node, keep())
    node.handle(said(Close(RUN)), 3.5)

    effects = [*node.handle(Leave(), 4.0), *node.wake(4.0 + CLOSE_WITHIN_S)]

    assert LeaveCompleted() in effects


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (keep("\n"), "is no name"),
        (keep(ttl_s=float("nan")), "a value is to be kept for nan s"),
        (keep(value=Ref(1, LARGE, [])), "with the index 1"),
    ],
)
def test_what_cannot_be_kept_is_a_protocol_error(wanted: Keep, reason: str) -> None:
    effects = node_with_a_value().handle(said(wanted), 3.0)

    assert reason in str(effects)
