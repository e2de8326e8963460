"""Values that are removed from a node's store are forgotten, fetched again, and cost no function a retry."""

from handoff_actors.core.node.events import (
    CheckValue,
    FetchInput,
    InputFetched,
    Reply,
    RunJobs,
    StoreLost,
    ValueMissing,
    ValueSpilled,
)
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.lost_values import FELT_S
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Ref, Template, TemplateEnvironment
from handoff_actors.wire.messages.runs import Failed
from tests.core.builders import (
    APP,
    RUN,
    assign,
    done,
    job,
    replies,
    said,
    started_node,
    worker_done,
    worker_failed,
)

LARGE = 100_000
REF = Ref(0, LARGE, ["address of another"])


def node_with_a_value(limits: Limits | None = None) -> NodeMachine:
    node = started_node(limits=limits) if limits else started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(worker_done(done(0, value=LARGE)), 2.0)
    assert node.size_of(RUN, Index(0)) == LARGE
    return node


def test_value_is_fetched_again_after_the_store_was_lost() -> None:
    node = node_with_a_value()

    node.handle(StoreLost(in_memory=True), 3.0)

    assert node.size_of(RUN, Index(0)) is None
    assert node.advertisement().stored == 0
    effects = node.handle(said(assign([job(1, args=[REF])], [])), 3.1)
    assert FetchInput(APP, RUN, Index(0), LARGE, ("address of another",)) in effects
    node.check()


def test_only_spilled_values_are_lost_with_the_directory_on_disk() -> None:
    node = node_with_a_value(Limits(0.0, 10))
    node.handle(ValueSpilled(RUN, Index(0)), 2.5)
    node.handle(said(assign([job(1)], [])), 2.6)
    node.handle(worker_done(done(1, value=LARGE)), 2.7)

    node.handle(StoreLost(in_memory=False), 3.0)

    assert (node.size_of(RUN, Index(0)), node.size_of(RUN, Index(1))) == (None, LARGE)
    node.check()


def test_one_value_that_is_missing_is_forgotten_alone() -> None:
    node = node_with_a_value()

    node.handle(ValueMissing(RUN, Index(0)), 3.0)
    node.handle(ValueMissing(RUN, Index(0)), 3.0)

    assert node.size_of(RUN, Index(0)) is None
    node.check()


def failure_of(node: NodeMachine, kind: str, now: float) -> Failed:
    [failed] = replies(node.handle(worker_failed(1, kind), now))  # type: ignore[arg-type]
    assert isinstance(failed, Failed)
    return failed


def test_failures_for_want_of_the_store_are_no_failures_of_functions_for_a_while() -> None:
    for kind in ("store", "environment", "serialization"):
        node = node_with_a_value()
        node.handle(said(assign([job(1)], [])), 2.5)
        node.handle(StoreLost(in_memory=True), 3.0)

        failed = failure_of(node, kind, 3.1)

        assert (failed.kind, failed.error, failed.lost) == ("input", b"", None)
        assert failed.reason == "the store of its node was removed: reason"


def test_later_failures_and_exceptions_are_those_of_functions() -> None:
    for kind, now in (("store", 3.0 + FELT_S), ("exception", 3.1)):
        node = node_with_a_value()
        node.handle(said(assign([job(1)], [])), 2.5)
        node.handle(StoreLost(in_memory=True), 3.0)

        assert failure_of(node, kind, now).kind == kind


def test_inputs_that_a_worker_could_not_find_are_looked_for() -> None:
    node = node_with_a_value()
    node.handle(said(assign([job(1, args=[REF])], [])), 2.5)

    effects = node.handle(worker_failed(1, "input"), 3.0)

    assert effects[0] == CheckValue(RUN, Index(0))
    assert isinstance(effects[1], Reply)


def test_packages_are_fetched_again() -> None:
    node = started_node()
    package = Ref(7, LARGE, [""])
    packed = Template(
        0, b"", True, b"code", False, False, {}, None, environment=TemplateEnvironment({}, b"/app", package)
    )
    node.handle(said(assign([job(0)], [packed])), 1.0)
    node.handle(InputFetched(RUN, Index(7), LARGE), 1.1)
    node.handle(worker_done(done(0)), 1.2)
    node.handle(StoreLost(in_memory=True), 2.0)

    effects = node.handle(said(assign([job(1)], [])), 2.1)

    assert [effect.index for effect in effects if isinstance(effect, FetchInput)] == [7]
    assert not any(isinstance(effect, RunJobs) for effect in effects)
