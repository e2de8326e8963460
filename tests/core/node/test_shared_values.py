"""A value that functions of several runs take is in a node's store once."""

from handoff_actors.core.node.events import FetchInput, InputFetched, SpillValue, ValueSpilled
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.spill_policy import SpillPolicy
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import Ref, ValueOf
from handoff_actors.wire.messages.runs import Close
from tests.core.builders import APP, RUN, assign, done, gives, job, replies, said, started_node, worker_done

LARGE = 100_000
LATER = RunId(RUN + 1)
VALUE = ValueOf(RUN, Index(0))
REF = Ref(50, LARGE, ["address of another"], 0, VALUE)
FIRST, SECOND, THIRD = (RUN, Index(0)), (LATER, Index(50)), (LATER, Index(51))


def node_with_a_value(limits: Limits | None = None) -> NodeMachine:
    node = started_node(limits=limits) if limits else started_node()
    node.handle(said(assign([job(0)])), 1.0)
    node.handle(worker_done(done(0, value=LARGE)), 2.0)
    return node


def fetches(node: NodeMachine, ref: Ref) -> FetchInput:
    effects = node.handle(said(assign([job(0, args=[ref])], run=LATER)), 3.0)
    [fetch] = [effect for effect in effects if isinstance(effect, FetchInput)]
    return fetch


def test_a_value_that_is_here_under_its_own_name_is_not_fetched() -> None:
    fetch = fetches(node_with_a_value(), REF)

    assert (fetch.peer, fetch.run, fetch.index) == (APP, LATER, 50)
    assert fetch.is_here
    assert fetch.source == VALUE


def test_a_value_of_another_attempt_is_fetched() -> None:
    fetch = fetches(node_with_a_value(), Ref(50, LARGE, ["x"], 0, ValueOf(RUN, Index(0), 2)))

    assert not fetch.is_here


def test_functions_start_once_the_value_is_shared_and_no_transfer_is_reported() -> None:
    node = node_with_a_value()
    fetches(node, REF)

    effects = node.handle(InputFetched(LATER, Index(50), LARGE, shared_with=FIRST), 3.1)

    assert gives(effects) == [(1, [0])]
    [completed] = replies(node.handle(worker_done(done(0), run=LATER), 3.2))
    assert completed.fetched == []  # type: ignore[union-attr]
    node.check()


def test_a_shared_value_stays_when_its_own_run_ends() -> None:
    node = node_with_a_value()
    fetches(node, REF)
    node.handle(InputFetched(LATER, Index(50), LARGE, shared_with=FIRST), 3.1)

    node.handle(said(Close(RUN)), 3.2)

    assert node.size_of(*FIRST) is None
    assert node.size_of(*SECOND) == LARGE
    node.check()


def test_a_shared_value_is_spilled_once() -> None:
    node = node_with_a_value(Limits(0.0, 3 * LARGE // 2))
    fetches(node, REF)

    effects = node.handle(InputFetched(LATER, Index(50), LARGE, shared_with=FIRST), 3.1)

    assert not any(isinstance(effect, SpillValue) for effect in effects)
    node.handle(worker_done(done(0, value=LARGE), run=LATER), 3.2)
    effects = node.handle(ValueSpilled(*FIRST), 3.3)
    assert node.spilled_nbytes == LARGE
    node.check()


def test_a_file_is_counted_once_under_whichever_names_are_left() -> None:
    policy = SpillPolicy(LARGE - 1)
    policy.put(FIRST, LARGE)
    policy.put(SECOND, LARGE, FIRST)
    policy.put(THIRD, LARGE, SECOND)
    assert policy.nbytes == LARGE
    policy.use(SECOND)
    policy.check()

    policy.lose(FIRST)

    assert policy.nbytes == LARGE
    assert policy.next_to_leave(0.0) == SECOND
    assert policy.is_in_memory(THIRD)
    policy.check()
    policy.lose(THIRD)
    policy.check()
    policy.lose(SECOND)
    assert policy.nbytes == 0
    policy.check()


def test_a_file_that_goes_to_disk_goes_under_all_names() -> None:
    policy = SpillPolicy(LARGE - 1)
    policy.put(FIRST, LARGE)
    policy.put(SECOND, LARGE, FIRST)
    policy.next_to_leave(0.0)

    policy.written(FIRST, 1.0)

    assert policy.nbytes == 0
    assert not policy.is_in_memory(SECOND)
    # One that is on disk already takes no memory under another name either.
    policy.put(THIRD, LARGE, SECOND)
    assert policy.nbytes == 0
    policy.check()


def test_all_names_of_a_run_are_forgotten_together() -> None:
    policy = SpillPolicy(None)
    policy.put(SECOND, LARGE)
    policy.put(THIRD, LARGE, SECOND)
    policy.put(FIRST, LARGE, SECOND)

    policy.forget(LATER)

    assert policy.nbytes == LARGE
    assert policy.is_in_memory(FIRST)
    policy.check()
