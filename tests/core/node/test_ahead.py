"""Tests of jobs given ahead: brief functions that no other worker could start are at a worker before it needs them."""

import pytest

from handoff_actors.core.node.events import RecallWorker, WorkerRecalled
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.wire.messages.jobs import Template, Ticket
from tests.core.builders import (
    FIRST_WORKER,
    RUN,
    SECOND_WORKER,
    assign,
    done,
    gives,
    job,
    said,
    started_node,
    template,
    worker_done,
)

#: Seconds that one takes: too long to be given in batches, and brief.
BRIEF_S = 0.05


def node_with(jobs: int, workers: int, of: Template | None = None) -> NodeMachine:
    """A node that has so many jobs, each of which claims a core, and has run job 0."""
    node = started_node({"cpu": float(workers)}, workers=workers)
    node.handle(said(assign([job(index) for index in range(jobs)], [of or template(cost={"cpu": 1.0})])), 1.0)
    return node


def test_worker_gets_the_next_brief_function_ahead() -> None:
    node = node_with(4, workers=1)

    after_first = gives(node.handle(worker_done(done(0, ran_s=BRIEF_S)), 1.05))
    after_second = gives(node.handle(worker_done(done(1, ran_s=BRIEF_S)), 1.1))

    assert after_first == [(FIRST_WORKER, [1]), (FIRST_WORKER, [2])]
    assert after_second == [(FIRST_WORKER, [3])]


@pytest.mark.parametrize(
    ("ran_s", "of"), [(1.0, template(cost={"cpu": 1.0})), (BRIEF_S, template(cost={"cpu": 1.0}, timeout=9.0))]
)
def test_function_that_is_not_brief_or_has_a_time_limit_is_given_alone(ran_s: float, of: Template) -> None:
    node = node_with(4, workers=1, of=of)

    assert gives(node.handle(worker_done(done(0, ran_s=ran_s)), 2.0)) == [(FIRST_WORKER, [1])]


def test_nothing_is_given_ahead_where_functions_of_another_kind_wait_too() -> None:
    node = started_node({"cpu": 1.0})
    kinds = [template(0, {"cpu": 1.0}), template(1, {"cpu": 0.5})]
    node.handle(said(assign([job(0), job(1), job(2), job(3, number=1)], kinds)), 1.0)

    assert gives(node.handle(worker_done(done(0, ran_s=BRIEF_S)), 1.05)) == [(FIRST_WORKER, [3])]


def test_silence_is_borne_while_nobody_else_could_start_what_is_held_up() -> None:
    node = node_with(3, workers=1)
    node.handle(worker_done(done(0, ran_s=BRIEF_S)), 1.05)

    soon, late = node.wake(1.1), node.wake(1.16)

    assert RecallWorker(FIRST_WORKER) not in soon
    assert RecallWorker(FIRST_WORKER) in late


def test_what_was_given_ahead_goes_to_a_worker_that_has_nothing_more_to_do() -> None:
    node = node_with(5, workers=2)
    ahead = gives(node.handle(worker_done(done(0, ran_s=BRIEF_S)), 1.05))
    node.handle(worker_done(done(1, ran_s=BRIEF_S), worker=SECOND_WORKER), 1.05)
    node.handle(worker_done(done(4, ran_s=BRIEF_S), worker=SECOND_WORKER), 1.1)

    recalled = node.wake(1.1)
    moved = gives(node.handle(WorkerRecalled(FIRST_WORKER, [(RUN, Ticket(3, 1))]), 1.101))

    assert ahead == [(FIRST_WORKER, [2]), (FIRST_WORKER, [3]), (SECOND_WORKER, [4])]
    assert RecallWorker(FIRST_WORKER) in recalled
    assert moved == [(SECOND_WORKER, [3])]
