import pytest

from handoff_actors.core.node.events import KillWorker, NodeEffect, WorkerExited, WorkersSampled, WorkerUp
from handoff_actors.core.node.limits import NO_LIMITS, Limits
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.scheduling.memory_guard import SLACK_NBYTES
from handoff_actors.ids import Resources, WorkerId
from handoff_actors.wire.messages.jobs import Traces
from handoff_actors.wire.messages.runs import Failed
from tests.core.builders import (
    FIRST_WORKER,
    RUN,
    SECOND_WORKER,
    assign,
    done,
    exited,
    gives,
    job,
    replies,
    said,
    started_node,
    template,
    worker_done,
)

MB = 1_000_000
TOTAL_MB = 10_000
MACHINE: Resources = {"cpu": 2.0, "memory": 8000.0}


def _node(*claims_mb: float, is_async: bool = False, limits: Limits = Limits()) -> NodeMachine:  # noqa: B008 - it is frozen
    """A node that runs one function for each claim; 0 claims no memory."""
    node = started_node(MACHINE, workers=2, limits=limits)
    for index, claim in enumerate(claims_mb):
        cost: Resources = {"cpu": 1.0} | ({"memory": claim} if claim else {})
        node.handle(said(assign([job(index, number=index)], [template(index, cost, is_async=is_async)])), 1.0)
    return node


def _sample(*used_mb: float, available_mb: float = 5000, began_at: float = 2.0) -> WorkersSampled:
    used = {WorkerId(number): int(mb * MB) for number, mb in enumerate(used_mb, start=1)}
    return WorkersSampled(began_at, used, int(available_mb * MB), TOTAL_MB * MB)


def _killed(effects: list[NodeEffect]) -> list[WorkerId]:
    return [effect.worker for effect in effects if isinstance(effect, KillWorker)]


def _failed(effects: list[NodeEffect]) -> Failed:
    (reply,) = replies(effects)
    assert isinstance(reply, Failed)
    return reply


def _worker_of(node: NodeMachine, index: int) -> WorkerId:
    workers = node._scheduler.roster.workers.values()
    return next(state.worker for state in workers if (RUN, index) in state.held)


def test_worker_that_outgrows_its_claim_is_ended_and_its_function_told_so() -> None:
    node = _node(1000)
    worker = _worker_of(node, 0)
    used = [1501 if number == worker else 0 for number in (1, 2)]

    assert _killed(node.handle(_sample(*used), 2.1)) == [worker]
    failed = _failed(node.handle(WorkerExited(worker, 9, None, Traces(peak_nbytes=1501 * MB)), 2.2))

    assert (failed.kind, failed.signal, failed.traces.peak_nbytes) == ("memory", 9, 1501 * MB)
    assert failed.reason == (
        "it claims 1000 MB of memory and its worker had 1501 MB, "
        "which is more than 1.5 times as much, and was ended"
    )
    node.check()


@pytest.mark.parametrize(
    ("claim", "used", "limits", "is_ended"),
    [
        (1000, 1500, Limits(), False),
        (1000, 1501, Limits(), True),
        (1000, 1501, Limits(memory_factor=2), False),
        (1000, 9000, NO_LIMITS, False),
        (1, 1 + SLACK_NBYTES / MB, Limits(), False),
        (1, 2 + SLACK_NBYTES / MB, Limits(), True),
        (0, 9000, Limits(), False),
    ],
    ids=["within", "beyond", "another factor", "off", "slack", "beyond the slack", "no claim"],
)
def test_claim_and_factor_say_who_is_ended(claim: float, used: float, limits: Limits, is_ended: bool) -> None:
    node = _node(claim, limits=limits)
    worker = _worker_of(node, 0)

    effects = node.handle(_sample(*[used if number == worker else 0 for number in (1, 2)]), 2.1)

    assert _killed(effects) == [worker] * is_ended


def test_what_an_earlier_function_left_behind_is_not_held_against_the_next() -> None:
    node = _node(4000)
    worker = _worker_of(node, 0)
    huge = [4500 if number == worker else 0 for number in (1, 2)]
    node.handle(_sample(*huge, began_at=2.0), 2.1)
    node.handle(worker_done(done(0), worker=worker), 2.2)
    node.handle(said(assign([job(1, number=1)], [template(1, {"memory": 100.0})])), 2.3)
    assert _worker_of(node, 1) == worker

    kept = node.handle(_sample(*huge, began_at=2.4), 2.5)

    assert _killed(kept) == []


def test_sample_that_began_before_a_function_did_is_not_held_against_it() -> None:
    node = _node(100)
    worker = _worker_of(node, 0)
    huge = [4500 if number == worker else 0 for number in (1, 2)]

    assert _killed(node.handle(_sample(*huge, began_at=0.9), 1.1)) == []
    assert _killed(node.handle(_sample(*huge, began_at=1.2), 1.3)) == []
    assert _killed(node.handle(_sample(*[2 * mb for mb in huge], began_at=1.4), 1.5)) == [worker]


def test_largest_worker_is_ended_when_the_machine_runs_short() -> None:
    node = _node(0, 0)

    effects = node.handle(_sample(300, 200, available_mb=400), 2.1)
    failed = _failed(node.handle(exited(FIRST_WORKER), 2.2))

    assert _killed(effects) == [FIRST_WORKER]
    assert failed.kind == "memory"
    assert failed.reason == (
        "the machine or container ran short of memory, 400 MB of 10000 MB were left, "
        "and its worker had the most, 300 MB, and was ended"
    )


def test_only_one_is_ended_at_a_time_for_the_machines_sake() -> None:
    node = _node(0, 0)
    node.handle(_sample(300, 200, available_mb=400), 2.1)

    assert _killed(node.handle(_sample(300, 200, available_mb=400), 2.3)) == []
    node.handle(exited(FIRST_WORKER), 2.4)
    assert _killed(node.handle(_sample(0, 200, available_mb=400), 2.5)) == [SECOND_WORKER]


def test_small_workers_are_left_alone_when_others_have_used_up_the_machine() -> None:
    node = _node(0, 0)

    assert _killed(node.handle(_sample(50, 40, available_mb=10), 2.1)) == []
    assert _killed(started_node(MACHINE).handle(_sample(500, available_mb=10), 2.1)) == []


def test_coroutines_share_what_they_claim_together() -> None:
    node = _node(1000, 1000, is_async=True)
    third = WorkerId(3)
    node.handle(WorkerUp(third, 1003), 1.1)

    assert _killed(node.handle(_sample(0, 0, 3000), 2.1)) == []
    assert _killed(node.handle(_sample(0, 0, 3001), 2.3)) == [third]
    again = node.handle(WorkerExited(third, 9, None), 2.4)

    assert sorted(index for _, held in gives(again) for index in held) == [0, 1]
    node.check()


def test_coroutines_of_which_one_claims_no_memory_are_let_be() -> None:
    node = _node(1000, 0, is_async=True)
    node.handle(WorkerUp(WorkerId(3), 1003), 1.1)

    assert _killed(node.handle(_sample(0, 0, 9000), 2.1)) == []
