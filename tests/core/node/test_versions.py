"""The index of a function that is gone is used again, and nothing takes the old function's value for the new one's."""

from collections.abc import Sequence

from handoff_actors.core.node.events import (
    DiscardValue,
    FetchInput,
    ForgetValues,
    InputFetched,
    InputMissing,
    KeepValue,
    NodeEffect,
)
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Ref, Ticket
from handoff_actors.wire.messages.runs import Copied, Copy, Failed, Recall
from tests.core.builders import RUN, assign, done, gives, job, replies, said, started_node, worker_done

LARGE = 100_000
HOLDER = "address of another"


def ref(index: int, version: int = 0) -> Ref:
    return Ref(index, LARGE, [HOLDER], version)


def fetches(effects: Sequence[NodeEffect]) -> list[tuple[int, int]]:
    return [(effect.index, effect.version) for effect in effects if isinstance(effect, FetchInput)]


def failures(effects: Sequence[NodeEffect]) -> list[tuple[int, str, int | None, str]]:
    return [
        (message.index, message.kind, message.lost, message.reason)
        for message in replies(effects)
        if isinstance(message, Failed)
    ]


def node_with_a_copy(version: int) -> NodeMachine:
    """A node that has run function 6, for which it has fetched this version of value 5."""
    node = started_node()
    node.handle(said(assign([job(6, args=[ref(5, version)])])), 1.0)
    node.handle(InputFetched(RUN, Index(5), LARGE), 1.1)
    node.handle(worker_done(done(6)), 1.2)
    assert node.has_version(RUN, Index(5), version)
    return node


def test_copy_that_the_run_does_not_know_of_is_replaced_by_the_version_that_is_wanted() -> None:
    node = node_with_a_copy(3)

    effects = node.handle(said(assign([job(8, args=[ref(5, 7)])], [])), 2.0)
    arrived = node.handle(InputFetched(RUN, Index(5), 2 * LARGE), 2.1)
    node.check()

    assert fetches(effects) == [(5, 7)]
    assert gives(effects) == []
    assert gives(arrived) == [(1, [8])]
    assert node.has_version(RUN, Index(5), 7)
    assert node.advertisement().stored == 2 * LARGE


def test_copy_is_replaced_by_what_a_later_attempt_makes_here() -> None:
    node = node_with_a_copy(3)
    node.handle(said(assign([job(5, attempt=7)], [])), 2.0)

    effects = node.handle(worker_done(done(5, attempt=7, value=2 * LARGE)), 2.1)
    used = node.handle(said(assign([job(8, args=[ref(5, 7)])], [])), 2.2)
    node.check()

    assert KeepValue(RUN, Index(5), 7) in effects
    assert (fetches(used), gives(used)) == ([], [(1, [8])])


def test_value_of_an_earlier_attempt_does_not_replace_a_later_ones() -> None:
    node = started_node()
    node.handle(said(assign([job(5, attempt=3)])), 1.0)
    node.handle(said(assign([job(8, args=[ref(5, 7)])], [])), 1.1)
    node.handle(InputFetched(RUN, Index(5), LARGE), 1.2)

    effects = node.handle(worker_done(done(5, attempt=3, value=2 * LARGE)), 2.0)
    node.check()

    assert DiscardValue(RUN, Index(5), 3) in effects
    assert node.has_version(RUN, Index(5), 7)


def test_fetch_of_what_is_made_anew_here_is_given_up() -> None:
    """Landing after the new value it would take its place."""
    node = started_node()
    node.handle(said(assign([job(6, args=[ref(5, 3)])])), 1.0)
    node.handle(said(Recall(RUN, [Ticket(6, 1)], 1)), 1.1)

    effects = node.handle(said(assign([job(5, attempt=7)], [])), 2.0)
    node.handle(worker_done(done(5, attempt=7, value=2 * LARGE)), 2.1)
    node.handle(InputFetched(RUN, Index(5), LARGE), 2.2)
    node.check()

    assert ForgetValues(RUN, [], [5]) in effects
    assert failures(effects) == []
    assert node.has_version(RUN, Index(5), 7)
    assert node.size_of(RUN, Index(5)) == 2 * LARGE


def test_function_that_waits_for_what_is_made_anew_here_fails_for_want_of_it() -> None:
    node = started_node()
    node.handle(said(assign([job(6, args=[ref(5, 3)]), job(9, args=[ref(10, 1)])])), 1.0)
    node.handle(said(Copy(RUN, [ref(5, 3)])), 1.1)

    effects = node.handle(said(assign([job(5, attempt=7)], [])), 2.0)
    node.check()

    assert failures(effects) == [(6, "input", 5, "it is made anew")]
    assert Copied(RUN, [], [5]) in replies(effects)


def test_functions_that_want_different_versions_each_get_their_own_or_none() -> None:
    node = started_node()
    node.handle(said(assign([job(6, args=[ref(5, 3)]), job(7, args=[ref(5)])])), 1.0)

    effects = node.handle(said(assign([job(8, args=[ref(5, 7)])], [])), 1.1)
    arrived = node.handle(InputFetched(RUN, Index(5), LARGE), 1.2)
    node.check()

    assert fetches(effects) == [(5, 7)]
    assert gives(arrived) == [(1, [7])]
    assert failures(arrived) == [(6, "input", 5, "its node was asked for another version of it")]


def test_value_that_is_lost_fails_no_other_function_of_an_index_that_waited_for_it() -> None:
    node = started_node()
    node.handle(said(assign([job(6, args=[ref(5, 3)])])), 1.0)
    node.handle(said(Recall(RUN, [Ticket(6, 1)], 1)), 1.1)
    node.handle(said(assign([job(6, attempt=2, args=[ref(9, 4)])], [])), 1.2)

    effects = node.handle(InputMissing(RUN, Index(5), "nobody has it"), 2.0)
    arrived = node.handle(InputFetched(RUN, Index(9), LARGE), 2.1)
    node.check()

    assert failures(effects) == []
    assert gives(arrived) == [(1, [6])]


def test_value_that_nobody_waits_for_any_more_changes_nothing_when_it_comes() -> None:
    node = node_with_a_copy(3)

    effects = node.handle(InputFetched(RUN, Index(99), LARGE), 2.0)
    node.check()

    assert effects == []
    assert node.size_of(RUN, Index(99)) is None
