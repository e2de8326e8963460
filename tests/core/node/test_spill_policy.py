from collections.abc import Sequence

from handoff_actors.core.node.events import (
    Advertise,
    DiscardValue,
    ForgetRun,
    InputFetched,
    InputMissing,
    KeepValue,
    NodeEffect,
    Reply,
    SpillFailed,
    SpillValue,
    ValueSpilled,
)
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.spill_policy import RETRY_S, SpillPolicy
from handoff_actors.ids import RunId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.runs import Close, Completed, Failed
from tests.core.builders import (
    APP,
    CLOSED,
    FIRST_WORKER,
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

MB = 1_000_000
OTHER_RUN = RunId(RUN + 1)
LIMITS = Limits(memory_factor=0, store_nbytes=100 * MB)


def _node(count: int) -> NodeMachine:
    """One worker, and so many functions, which it runs one after the other."""
    node = started_node(limits=LIMITS)
    node.handle(said(assign([job(index) for index in range(count)], [template(timeout=60.0)])), 1.0)
    return node


def _made(node: NodeMachine, index: int, now: float, mb: int = 40) -> list[NodeEffect]:
    return node.handle(worker_done(done(index, value=mb * MB)), now)


def _spilled(effects: Sequence[NodeEffect]) -> list[int]:
    return [effect.index for effect in effects if isinstance(effect, SpillValue)]


def test_values_spill_one_after_the_other_from_the_least_recently_used() -> None:
    node = _node(6)
    within = _made(node, 0, 1.1) + _made(node, 1, 1.2)
    node.handle(said(assign([job(9, args=[Ref(0, 40 * MB, [""])])], [])), 1.3)

    first = _made(node, 2, 1.4)
    second = node.handle(ValueSpilled(RUN, 1), 1.5)
    third = _made(node, 3, 1.6)

    assert _spilled(within) == []
    assert [_spilled(effects) for effects in (first, second, third)] == [[1], [], [0]]


def test_nothing_starts_while_values_are_written_out() -> None:
    node = _node(6)
    _made(node, 0, 1.1)
    _made(node, 1, 1.2)

    crowded = _made(node, 2, 1.3)
    relieved = node.handle(ValueSpilled(RUN, 0), 1.4)

    assert gives(crowded) == []
    assert gives(relieved) == [(FIRST_WORKER, [3])]
    node.check()


def test_value_that_is_larger_than_the_limit_is_spilled_at_once() -> None:
    node = _node(2)

    assert _spilled(_made(node, 0, 1.1, mb=500)) == [0]
    assert gives(node.handle(ValueSpilled(RUN, 0), 1.2)) == [(FIRST_WORKER, [1])]


def test_results_beyond_the_limit_are_refused_with_sizes_while_the_disk_is_full() -> None:
    node = _node(6)
    _made(node, 0, 1.1, mb=60)
    _made(node, 1, 1.2, mb=60)
    resumed = node.handle(SpillFailed(RUN, 0, "there is no room"), 1.3)

    effects = _made(node, 2, 1.4, mb=60)

    assert gives(resumed) == [(FIRST_WORKER, [2])]
    (failed,) = replies(effects)
    assert isinstance(failed, Failed)
    assert (failed.index, failed.kind) == (2, "store")
    assert failed.reason == (
        "its result of 60.0 MB can't be stored: 120.0 MB are in memory, 100.0 MB may be, "
        "and the disk takes no more: there is no room"
    )
    assert DiscardValue(RUN, 2, 1) in effects
    assert gives(effects) == [(FIRST_WORKER, [3])]
    node.check()


def test_disk_that_refused_what_is_gone_meanwhile_is_tried_with_the_next() -> None:
    spill_policy = SpillPolicy(limit_nbytes=100)
    spill_policy.put((RUN, 0), 80)
    spill_policy.put((OTHER_RUN, 1), 80)
    spill_policy.put((OTHER_RUN, 2), 80)
    assert spill_policy.next_to_leave(1.0) == (RUN, 0)
    spill_policy.forget(RUN)

    spill_policy.refused((RUN, 0), "there is no room", 1.1)

    assert spill_policy.next_to_leave(1.1) == (OTHER_RUN, 1)
    spill_policy.check()


def test_small_results_go_on_while_the_disk_is_full() -> None:
    node = _node(6)
    _made(node, 0, 1.1, mb=60)
    _made(node, 1, 1.2, mb=60)
    node.handle(SpillFailed(RUN, 0, "there is no room"), 1.3)

    (reported,) = replies(node.handle(worker_done(done(2)), 1.4))

    assert isinstance(reported, Completed)


def test_disk_is_tried_again_after_a_while_and_results_are_taken_once_it_has_room() -> None:
    node = _node(6)
    _made(node, 0, 1.1, mb=60)
    _made(node, 1, 1.2, mb=60)
    node.handle(SpillFailed(RUN, 0, "there is no room"), 1.3)
    assert node.wake_at is not None
    early = node.wake(1.3 + RETRY_S / 2)

    again = node.wake(1.3 + RETRY_S)
    node.handle(ValueSpilled(RUN, 0), 2.5)

    assert (_spilled(early), _spilled(again)) == ([], [0])
    assert KeepValue(RUN, 2, 1) in _made(node, 2, 2.6, mb=30)


def test_full_disk_is_forgotten_with_the_run_that_filled_the_store() -> None:
    node = _node(2)
    _made(node, 0, 1.1, mb=160)
    node.handle(SpillFailed(RUN, 0, "there is no room"), 1.2)
    _made(node, 1, 1.3, mb=1)

    effects = node.handle(said(Close(RUN)), 1.4)

    assert [effect for effect in effects if not isinstance(effect, SpillValue)][:2] == [
        ForgetRun(RUN),
        Reply(APP, CLOSED),
    ]
    late = node.handle(ValueSpilled(RUN, 0), 1.5)
    assert [effect for effect in late if not isinstance(effect, Advertise)] == []
    assert node.handle(SpillFailed(RUN, 0, "gone"), 1.5) == []
    node.handle(said(assign([job(0, attempt=1)], [template()], run=RUN)), 1.6)
    node.check()


def test_fetched_values_count_too() -> None:
    node = started_node(limits=LIMITS)
    node.handle(said(assign([job(0, args=[Ref(5, 150 * MB, ["elsewhere"])])], [template()])), 1.0)

    effects = node.handle(InputFetched(RUN, 5, 150 * MB), 1.1)

    assert _spilled(effects) == [5]
    assert gives(effects) == []
    assert gives(node.handle(ValueSpilled(RUN, 5), 1.2)) == [(FIRST_WORKER, [0])]


def test_input_that_there_is_no_room_for_fails_its_function_and_is_not_lost() -> None:
    node = started_node()
    node.handle(said(assign([job(0, args=[Ref(5, 150 * MB, ["elsewhere"])])], [template()])), 1.0)

    (failed,) = replies(node.handle(InputMissing(RUN, 5, "no room", kind="store"), 1.1))

    assert isinstance(failed, Failed)
    assert (failed.kind, failed.lost) == ("store", None)


def test_value_on_disk_can_be_used_without_coming_back() -> None:
    node = _node(1)
    _made(node, 0, 1.1, mb=500)
    node.handle(ValueSpilled(RUN, 0), 1.2)

    effects = node.handle(said(assign([job(9, args=[Ref(0, 500 * MB, [""])])], [])), 1.3)

    assert gives(effects) == [(FIRST_WORKER, [9])]
    assert _spilled(effects) == []
