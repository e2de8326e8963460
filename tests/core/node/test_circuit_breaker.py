"""A node that fails whatever it is given is out of use for a while; one that does something well is not."""

from typing import get_args

import pytest

from handoff_actors.core.node.circuit_breaker import (
    FAILURES,
    FIRST_PAUSE_S,
    FUNCTIONS,
    LONGEST_PAUSE_S,
    CircuitBreaker,
)
from handoff_actors.core.node.events import (
    Advertise,
    InputMissing,
    NodeEffect,
    SpawnWorker,
    SpillFailed,
    WorkerUp,
)
from handoff_actors.core.node.limits import Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.ids import Index, RunId
from handoff_actors.wire.messages.jobs import Ref
from handoff_actors.wire.messages.members import OutOfUse
from handoff_actors.wire.messages.runs import FailureKind
from tests.core.builders import (
    FIRST_WORKER,
    RUN,
    assign,
    done,
    exited,
    job,
    said,
    started_node,
    worker_done,
    worker_failed,
)


def broken(failures: int = FAILURES, functions: int = FUNCTIONS) -> CircuitBreaker:
    breaker = CircuitBreaker()
    fail(breaker, failures, functions)
    return breaker


def fail(
    breaker: CircuitBreaker,
    failures: int = 1,
    functions: int = 1,
    kind: FailureKind = "exception",
    now: float = 0.0,
) -> None:
    for number in range(failures):
        breaker.failed(RUN, Index(number % functions), kind, "OSError: no disk\nmore", now)


def test_failures_of_several_functions_take_a_node_out_of_use_and_say_why() -> None:
    breaker = broken()

    assert breaker.reason == (
        "its last 5 attempts failed, the latest by exception: OSError: no disk; tried again after 10 s"
    )
    assert breaker.wake_at == FIRST_PAUSE_S


@pytest.mark.parametrize(("failures", "functions"), [(FAILURES - 1, FUNCTIONS), (100, FUNCTIONS - 1)])
def test_few_failures_and_those_of_few_functions_do_not(failures: int, functions: int) -> None:
    assert broken(failures, functions).reason == ""


@pytest.mark.parametrize("kind", ["input", "unreachable", "cancelled", "deadlock"])
def test_failures_that_the_node_has_no_part_in_do_not_count(kind: FailureKind) -> None:
    breaker = CircuitBreaker()

    fail(breaker, 100, 100, kind)

    assert breaker.reason == ""


def test_same_function_of_several_runs_counts_as_several() -> None:
    breaker = CircuitBreaker()

    for run in range(FAILURES):
        breaker.failed(RunId(run), Index(0), "store", "gone", 0.0)

    assert breaker.reason


def test_success_in_between_begins_the_count_anew() -> None:
    breaker = broken(FAILURES - 1)
    breaker.succeeded()

    fail(breaker, FAILURES - 1, FUNCTIONS)

    assert breaker.reason == ""


def test_success_of_what_was_there_already_puts_the_node_back_in_use() -> None:
    breaker = broken()

    breaker.succeeded()

    assert (breaker.reason, breaker.wake_at) == ("", None)


def test_pause_doubles_with_each_failure_after_it_up_to_a_limit() -> None:
    breaker, now, pauses = broken(), 0.0, [FIRST_PAUSE_S]
    for _ in range(6):
        assert breaker.wake_at is not None
        now = breaker.wake_at
        breaker.wake(now - 0.1)
        assert breaker.reason
        breaker.wake(now)
        assert breaker.reason == ""
        fail(breaker, now=now)
        assert breaker.wake_at is not None
        pauses.append(breaker.wake_at - now)

    assert pauses == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, LONGEST_PAUSE_S]


def test_pause_is_short_again_after_a_success() -> None:
    breaker = broken()
    breaker.wake(FIRST_PAUSE_S)
    fail(breaker, now=FIRST_PAUSE_S)
    breaker.succeeded()

    fail(breaker, FAILURES, FUNCTIONS, now=100.0)

    assert breaker.wake_at == 100.0 + FIRST_PAUSE_S


def test_failures_while_it_is_out_of_use_change_nothing() -> None:
    breaker = broken()

    fail(breaker, 100, 100, now=5.0)

    assert breaker.wake_at == FIRST_PAUSE_S


def test_long_reason_fits_into_an_advert() -> None:
    breaker = CircuitBreaker()
    for number in range(FAILURES):
        breaker.failed(RUN, Index(number), "serialization", "x" * 100_000, 0.0)

    _, bound = get_args(OutOfUse)
    assert len(breaker.reason) <= bound.max_length


# --- In a node --------------------------------------------------------------------------------------------------


def out_of_use(effects: list[NodeEffect]) -> list[str]:
    return [effect.out_of_use for effect in effects if isinstance(effect, Advertise)]


def given_jobs(node: NodeMachine, count: int = FAILURES) -> NodeMachine:
    node.handle(said(assign([job(index) for index in range(count)])), 1.0)
    return node


def test_node_advertises_that_it_is_out_of_use_and_again_that_it_is_not() -> None:
    node = given_jobs(started_node())
    for index in range(FAILURES):
        effects = node.handle(worker_failed(index), 2.0 + index)

    [reason] = out_of_use(effects)
    assert reason.startswith("its last 5 attempts failed, the latest by exception: reason")
    opened_at = 1.0 + FAILURES
    assert node.wake_at is not None
    assert out_of_use(node.wake(opened_at + FIRST_PAUSE_S)) == [""]


def test_deaths_of_workers_count() -> None:
    node, worker = given_jobs(started_node()), FIRST_WORKER
    for number in range(FAILURES):
        effects = node.handle(exited(worker), 2.0 + number)
        [worker] = [effect.worker for effect in effects if isinstance(effect, SpawnWorker)]
        node.handle(WorkerUp(worker, 2000 + number), 2.0 + number)

    assert "by worker: the worker that ran it died by signal 9" in node.advertisement().out_of_use


def test_success_closes_it() -> None:
    node = given_jobs(started_node(), FAILURES + 1)
    for index in range(FAILURES):
        node.handle(worker_failed(index), 2.0 + index)

    effects = node.handle(worker_done(done(FAILURES)), 10.0)

    assert out_of_use(effects) == [""]


def test_inputs_for_which_there_is_no_room_count() -> None:
    node = started_node()
    refs = [Ref(100 + number, 9, ["elsewhere"]) for number in range(FAILURES)]
    node.handle(said(assign([job(number, args=[ref]) for number, ref in enumerate(refs)])), 1.0)

    for ref in refs:
        node.handle(InputMissing(RUN, ref.index, "no room", "store"), 2.0)

    assert "store: no room" in node.advertisement().out_of_use


def test_results_for_which_there_is_no_room_count() -> None:
    node = given_jobs(started_node(limits=Limits(0.0, 10)), FAILURES + 1)
    node.handle(worker_done(done(0, value=11)), 2.0)
    node.handle(SpillFailed(RUN, Index(0), "the disk is full"), 2.0)

    for index in range(1, FAILURES + 1):
        node.handle(worker_done(done(index, value=11)), 3.0)

    assert "by store: its result of" in node.advertisement().out_of_use
