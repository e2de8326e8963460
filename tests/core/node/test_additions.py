"""Functions that end with a graph, or with a list in parts, as a node sees them."""

from handoff_actors.core.node.events import CheckValue, DiscardValue, KeepValue, NodeEffect
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.wire.messages.jobs import (
    PARTS,
    Additions,
    Assembled,
    Done,
    Expansion,
    Job,
    Listed,
    Ref,
    StoredPart,
    Ticket,
)
from handoff_actors.wire.messages.runs import Completed, Failed, Recalled
from tests.core.builders import RUN, assign, done, replies, said, started_node, template, worker_done
from tests.core.node.test_fused_jobs import fused_group

GRAPH = Expansion(0, [()], [()], [()], [1], [0], [], [-1])
FIRST, SECOND = StoredPart(PARTS + 5, 100), StoredPart(PARTS + 7, 200)


def grown(index: int, *parts: StoredPart, attempt: int = 1, graph: Expansion | None = GRAPH) -> Done:
    return Done(index, attempt, b"", 1001, 0.5, Additions(graph, list(parts)))


def running(*jobs: Job, limits: Limits | None = None) -> NodeMachine:
    node = started_node(limits=limits) if limits else started_node()
    node.handle(said(assign(list(jobs), [template(cost={"cpu": 1.0})])), 1.0)
    return node


def store_effects(effects: list[NodeEffect]) -> list[NodeEffect]:
    return [effect for effect in effects if isinstance(effect, KeepValue | DiscardValue | CheckValue)]


def test_graph_is_reported_and_its_parts_are_kept() -> None:
    node = running(Job(0, 1, 0, [], None))

    effects = node.handle(worker_done(grown(0, FIRST, SECOND)), 1.5)

    assert replies(effects) == [Completed(RUN, [grown(0, FIRST, SECOND)], {}, [])]
    assert store_effects(effects) == [KeepValue(RUN, FIRST.index, 1), KeepValue(RUN, SECOND.index, 1)]
    assert node.size_of(RUN, SECOND.index) == 200
    assert node.ledger.claimed == {"cpu": 0.0}
    node.check()


def test_what_was_to_run_behind_a_graph_is_told_of() -> None:
    node = running(fused_group(0, 1, 2))

    answered = replies(node.handle(worker_done(grown(0)), 1.5))

    assert answered == [
        Recalled(RUN, [Ticket(1, 1), Ticket(2, 1)], is_separated=True),
        Completed(RUN, [grown(0)], {}, []),
    ]
    assert node.ledger.claimed == {"cpu": 0.0}
    node.check()


def test_graphs_and_plain_values_are_reported_together() -> None:
    node = running(Job(0, 1, 0, [], None), fused_group(1, 2), Job(3, 1, 0, [], None))
    node.handle(worker_done(done(0, ran_s=0.0001)), 1.1)
    report = [done(3), grown(1, FIRST), grown(9, SECOND)]

    effects = node.handle(worker_done(*report), 1.5)

    assert replies(effects) == [
        Recalled(RUN, [Ticket(2, 1)], is_separated=True),
        Completed(RUN, [done(3), grown(1, FIRST)], {}, []),
    ]
    assert store_effects(effects) == [KeepValue(RUN, FIRST.index, 1), DiscardValue(RUN, SECOND.index, 1)]
    node.check()


def test_parts_of_an_attempt_that_does_not_count_are_discarded() -> None:
    node = running(Job(0, 2, 0, [], None))

    stale = node.handle(worker_done(grown(0, FIRST, attempt=1)), 1.5)
    unknown = node.handle(worker_done(grown(3, FIRST), worker=99), 1.6)  # type: ignore[arg-type]

    assert replies(stale) == replies(unknown) == []
    assert store_effects(stale) == [DiscardValue(RUN, FIRST.index, 1)]
    assert store_effects(unknown) == [DiscardValue(RUN, FIRST.index, 1)]


def test_parts_for_which_there_is_no_room_fail_their_function() -> None:
    node = running(Job(0, 1, 0, [], None), limits=Limits(store_nbytes=250))
    node._spill_policy.refusal = "the disk is full"

    effects = node.handle(worker_done(grown(0, FIRST, SECOND, graph=None)), 1.5)

    (failed,) = replies(effects)
    assert isinstance(failed, Failed)
    assert (failed.index, failed.kind) == (0, "store")
    assert {type(effect) for effect in store_effects(effects)} == {DiscardValue}
    assert node.size_of(RUN, FIRST.index) is None


def test_parts_of_lists_that_are_taken_whole_are_fetched_and_others_are_not() -> None:
    node = running(Job(0, 1, 0, [], None))
    node.handle(worker_done(done(0)), 1.5)
    here = Ref(FIRST.index, FIRST.nbytes, ["tcp://10.0.0.1:1"])

    whole = Job(1, 1, 0, [Assembled(b"list", [here])], None)
    by_reference = Job(2, 1, 0, [Listed(b"list", [SECOND])], None)
    node.handle(said(assign([whole, by_reference], [])), 1.6)

    assert node.advertisement().queued == 1
    node.check()
