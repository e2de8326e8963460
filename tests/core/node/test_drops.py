"""A run has a node forget single values and templates while it goes on, and uses the indices of values again."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from handoff_actors.core.node.events import (
    FetchInput,
    ForgetTemplates,
    ForgetValues,
    InputFetched,
    InputMissing,
    MessageFromPeer,
    NodeEffect,
    PeerConnected,
    Reply,
    SpillValue,
    ValueSpilled,
)
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import Index, PeerId, RunId
from handoff_actors.wire.messages.jobs import (
    Arg,
    Call,
    OwnModules,
    Ref,
    Template,
    TemplateEnvironment,
    Ticket,
    ValueKey,
)
from handoff_actors.wire.messages.runs import Copied, Copy, Drop, Failed, Recall, Recalled, Stop
from tests.core.builders import (
    RUN,
    assign,
    done,
    exited,
    gives,
    job,
    rejection,
    replies,
    said,
    started_node,
    template,
    worker_done,
)

LARGE = 100_000
HOLDER = "address of another"


def drop(index: int, version: int = 0, run: RunId = RUN) -> MessageFromPeer:
    return said(Drop(run, [ValueKey(index, version)]))


def ref(index: int, version: int = 0) -> Ref:
    return Ref(index, LARGE, [HOLDER], version)


def node_with_a_value(*, attempt: int = 3, limits: Limits | None = None) -> NodeMachine:
    node = started_node(limits=limits) if limits else started_node()
    node.handle(said(assign([job(5, attempt=attempt)])), 1.0)
    node.handle(worker_done(done(5, attempt=attempt, value=LARGE)), 1.1)
    return node


def node_that_fetches(version: int) -> NodeMachine:
    """It needs the value of another node for a function."""
    node = started_node()
    node.handle(said(assign([job(6, args=[ref(5, version)])])), 1.0)
    return node


def fetches(effects: Sequence[NodeEffect]) -> list[tuple[int, int]]:
    return [(effect.index, effect.version) for effect in effects if isinstance(effect, FetchInput)]


# --- Values that are here ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 3, 4])
def test_value_is_dropped_by_its_attempt_by_a_later_one_or_by_any(version: int) -> None:
    node = node_with_a_value(attempt=3)

    effects = node.handle(drop(5, version), 2.0)
    node.check()

    assert ForgetValues(RUN, [5], []) in effects
    assert node.size_of(RUN, Index(5)) is None
    assert node.advertisement().stored == 0


def test_value_of_a_later_attempt_stays() -> None:
    node = node_with_a_value(attempt=3)

    effects = node.handle(drop(5, 2), 2.0)

    assert not any(isinstance(effect, ForgetValues) for effect in effects)
    assert node.has_version(RUN, Index(5), 3)


def test_copy_is_dropped_by_the_attempt_that_made_the_original() -> None:
    node = node_that_fetches(3)
    node.handle(InputFetched(RUN, Index(5), LARGE), 1.1)

    kept = node.handle(drop(5, 2), 2.0)
    dropped = node.handle(drop(5, 3), 2.1)
    node.check()

    assert not any(isinstance(effect, ForgetValues) for effect in kept)
    assert ForgetValues(RUN, [5], []) in dropped


def test_what_is_not_here_is_dropped_without_a_word() -> None:
    node = node_with_a_value()

    assert node.handle(drop(9), 2.0) == []
    assert node.handle(drop(5, run=RunId(99)), 2.0) == []


def test_run_of_another_peer_is_left_alone() -> None:
    node = node_with_a_value()
    node.handle(PeerConnected(PeerId(b"other")), 2.0)

    node.handle(MessageFromPeer(PeerId(b"other"), Drop(RUN, [ValueKey(5)])), 2.1)

    assert node.size_of(RUN, Index(5)) == LARGE


def test_value_of_a_run_that_was_stopped_is_dropped() -> None:
    node = node_with_a_value()
    node.handle(said(assign([job(6)], [])), 1.2)
    node.handle(said(Stop(RUN)), 1.3)
    node.handle(exited(), 1.4)

    assert ForgetValues(RUN, [5], []) in node.handle(drop(5), 2.0)


def test_slot_is_used_again() -> None:
    node = node_with_a_value(attempt=3)
    node.handle(drop(5, 3), 2.0)

    node.handle(said(assign([job(5, attempt=4)], [])), 2.1)
    node.handle(worker_done(done(5, attempt=4, value=2 * LARGE)), 2.2)
    node.handle(drop(5, 3), 2.3)
    node.check()

    assert node.size_of(RUN, Index(5)) == 2 * LARGE
    assert node.has_version(RUN, Index(5), 4)


# --- Values on their way to disk, and there -----------------------------------------------------------------------


def test_dropped_value_leaves_room_in_memory() -> None:
    node = node_with_a_value(limits=Limits(0.0, LARGE))
    node.handle(said(assign([job(6)], [])), 1.2)

    node.handle(drop(5), 1.3)
    effects = node.handle(worker_done(done(6, value=LARGE)), 1.4)

    assert not any(isinstance(effect, SpillValue) for effect in effects)


def test_next_value_is_spilled_where_the_one_that_was_being_spilled_is_dropped() -> None:
    node = node_with_a_value(limits=Limits(0.0, 10))
    node.handle(said(assign([job(6, args=[ref(8)])], [])), 1.2)
    node.handle(InputFetched(RUN, Index(8), LARGE), 1.3)

    effects = node.handle(drop(5), 1.4)
    node.check()

    assert effects.index(ForgetValues(RUN, [5], [])) < effects.index(SpillValue(RUN, Index(8)))


def test_spilled_value_is_dropped() -> None:
    node = node_with_a_value(limits=Limits(0.0, 10))
    node.handle(ValueSpilled(RUN, Index(5)), 1.2)

    effects = node.handle(drop(5), 1.3)
    node.check()

    assert ForgetValues(RUN, [5], []) in effects


# --- Values on their way here -------------------------------------------------------------------------------------


def test_fetch_that_a_function_waits_for_is_given_up_and_so_is_the_function() -> None:
    node = node_that_fetches(3)

    effects = node.handle(drop(5, 3), 2.0)
    node.check()

    assert ForgetValues(RUN, [], [5]) in effects
    [failed] = replies(effects)
    assert isinstance(failed, Failed)
    assert (failed.index, failed.kind, failed.lost, failed.reason) == (
        6,
        "input",
        5,
        "its run has dropped it",
    )
    assert node.advertisement().queued == 0


def test_fetch_that_no_function_waits_for_any_more_is_given_up() -> None:
    node = node_that_fetches(3)
    assert Recalled(RUN, [Ticket(6, 1)]) in replies(node.handle(said(Recall(RUN, [Ticket(6, 1)], 1)), 1.1))

    effects = node.handle(drop(5, 3), 2.0)

    assert ForgetValues(RUN, [], [5]) in effects
    assert replies(effects) == []
    assert (5, 3) in fetches(node.handle(said(assign([job(7, args=[ref(5, 3)])], [])), 2.1))


def test_fetch_of_a_later_version_goes_on() -> None:
    node = node_with_a_value(attempt=3)
    assert fetches(node.handle(said(assign([job(6, args=[ref(5, 7)])], [])), 1.2)) == [(5, 7)]

    effects = node.handle(drop(5, 3), 2.0)
    arrived = node.handle(InputFetched(RUN, Index(5), LARGE), 2.1)
    node.check()

    assert ForgetValues(RUN, [5], []) in effects
    assert gives(arrived) == [(1, [6])]
    assert node.has_version(RUN, Index(5), 7)


def test_copy_that_was_asked_for_is_reported_as_missing() -> None:
    node = started_node()
    node.handle(said(Copy(RUN, [ref(5)])), 1.0)

    effects = node.handle(drop(5), 2.0)
    node.check()

    assert replies(effects) == [Copied(RUN, [], [5])]


def test_fetch_that_has_failed_leaves_nothing_to_drop() -> None:
    node = node_that_fetches(3)
    node.handle(InputMissing(RUN, Index(5), "nobody has it"), 1.1)

    effects = node.handle(drop(5), 2.0)

    assert not any(isinstance(effect, ForgetValues | Reply) for effect in effects)


# --- Templates ------------------------------------------------------------------------------------------------------


def drop_templates(*numbers: int) -> MessageFromPeer:
    return said(Drop(RUN, [], list(numbers)))


def forgotten(effects: Sequence[NodeEffect]) -> list[ForgetTemplates]:
    return [effect for effect in effects if isinstance(effect, ForgetTemplates)]


def test_template_that_no_job_uses_is_forgotten_and_may_come_again_with_other_code() -> None:
    node = started_node()
    node.handle(said(assign([job(0), job(1, number=1)], [template(), template(1)])), 1.0)
    node.handle(worker_done(done(0)), 1.1)
    node.handle(worker_done(done(1)), 1.2)

    effects = node.handle(drop_templates(1, 9), 2.0)
    again = node.handle(said(assign([job(2, number=1)], [template(1, {"cpu": 0.5})])), 2.1)

    assert forgotten(effects) == [ForgetTemplates(RUN, [1], [])]
    assert gives(again) == [(1, [2])]
    assert rejection(node.handle(said(assign([job(3)], [template(0, {"cpu": 0.5})])), 2.2))


@pytest.mark.parametrize(
    "args",
    [[], [Ref(5, LARGE, [HOLDER])], [Call(0, [Call(1, [], None)], None)]],
    ids=["queued", "waiting", "called"],
)
def test_template_that_a_job_uses_is_forgotten_with_later_ones(args: list[Arg]) -> None:
    node = started_node()
    number = 0 if args and isinstance(args[0], Call) else 1
    templates = [template(), template(1), template(2)]
    node.handle(said(assign([job(0), job(1, number=number, args=args)], templates)), 1.0)

    early = node.handle(drop_templates(1), 2.0)
    node.handle(worker_done(done(0)), 2.1)
    node.handle(InputFetched(RUN, Index(5), LARGE), 2.2)
    running = node.handle(drop_templates(), 2.3)
    node.handle(worker_done(done(1)), 2.4)
    late = node.handle(drop_templates(2), 2.5)

    assert forgotten(early) == forgotten(running) == []
    assert forgotten(late) == [ForgetTemplates(RUN, [1, 2], [])]


def test_packages_of_forgotten_templates_are_forgotten() -> None:
    node = started_node()
    code_of = [packed(number, package) for number, package in ((0, 7), (1, 8), (2, 8))]
    node.handle(said(assign([job(number, number=number) for number in range(3)], code_of)), 1.0)
    for index in (7, 8, 17, 18):
        node.handle(InputFetched(RUN, Index(index), LARGE), 1.1)
    for number in range(3):
        node.handle(worker_done(done(number)), 1.2)

    first = node.handle(drop_templates(0, 1), 2.0)
    second = node.handle(drop_templates(2), 2.1)
    effects = node.handle(said(assign([job(3, number=3)], [packed(3, 8)])), 2.2)

    assert forgotten(first) == [ForgetTemplates(RUN, [0, 1], [b"key 7"])]
    assert forgotten(second) == [ForgetTemplates(RUN, [2], [b"key 8"])]
    # They are still in the store: the run drops their values.
    assert gives(effects) == [(1, [3])]


def test_package_whose_value_was_dropped_is_fetched_again() -> None:
    node = started_node()
    node.handle(said(assign([job(0)], [packed(0, 7)])), 1.0)
    for index in (7, 17):
        node.handle(InputFetched(RUN, Index(index), LARGE), 1.1)
    node.handle(worker_done(done(0)), 1.2)
    node.handle(drop(7), 2.0)

    effects = node.handle(said(assign([job(1)], [])), 2.1)

    assert fetches(effects) == [(7, 0)]


def packed(number: int, package: int) -> Template:
    """A template with a packed directory, and modules of the app's own."""
    modules = OwnModules(f"key {package}".encode(), {"own": b"digest"}, Ref(package + 10, LARGE, [""]))
    environment = TemplateEnvironment({}, b"/app", Ref(package, LARGE, [""]))
    return replace(template(number), environment=environment, modules=modules)
