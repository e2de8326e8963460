"""Bookkeeping of functions that are done does not grow with their number."""

import gc
import sys

import pytest

from handoff_actors.core.node import clients
from handoff_actors.core.node.events import InputFetched, WorkerRecalled
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.node.scheduling.fair_queue import LANES_KEPT, FairQueue
from handoff_actors.core.node.scheduling.job_deadlines import DEADLINES_KEPT
from handoff_actors.ids import Index
from handoff_actors.wire.messages.jobs import Arg, Ref, Ticket, ValueKey
from handoff_actors.wire.messages.runs import Completed, Drop
from tests.core.builders import (
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

CALLS = 300
LARGE = 100_000


class EndlessRun:
    """A run that takes its functions one after another, with a new template and a new claim each.

    Each function takes what the last one has made, and a value from elsewhere, which it must fetch. The run drops what no
    function will take any more, and uses its indices again.
    """

    def __init__(self, node: NodeMachine) -> None:
        self._node = node
        self._attempt = 0

    def call(self) -> None:
        attempt = self._attempt = self._attempt + 1
        index, former = 10 + attempt % 2, 10 + (attempt - 1) % 2
        node, number = self._node, Index(attempt)
        elsewhere = Ref(Index(5), LARGE, ["elsewhere"], attempt)
        args: list[Arg] = [elsewhere, *([Ref(former, LARGE, [], attempt - 1)] if attempt > 1 else [])]
        templates = [template(number, {"memory": float(attempt)})]
        node.handle(said(assign([job(index, attempt=attempt, number=number, args=args)], templates)), 1.0)
        node.handle(InputFetched(RUN, Index(5), LARGE), 1.0)
        node.handle(worker_done(done(index, attempt=attempt, value=LARGE)), 1.0)
        dropped = [ValueKey(5, attempt), ValueKey(former, attempt - 1)]
        node.handle(said(Drop(RUN, dropped, [number])), 1.0)
        node.check()


def test_nothing_grows_with_the_number_of_functions_that_are_done() -> None:
    node = started_node({"memory": 1e9})
    run = EndlessRun(node)
    # Caches and tables reach their sizes.
    for _ in range(2 * LANES_KEPT):
        run.call()
    gc.collect()
    before = sys.getallocatedblocks()

    for _ in range(CALLS):
        run.call()
    gc.collect()

    assert sys.getallocatedblocks() - before < CALLS / 4
    assert node.advertisement().stored == LARGE


def run_one(node: NodeMachine, attempt: int, number: int = 0) -> None:
    node.handle(said(assign([job(0, attempt=attempt, number=number)], [])), 1.0)
    node.handle(worker_done(done(0, attempt=attempt)), 1.0)


def test_time_limits_of_functions_that_are_done_are_dropped() -> None:
    node = started_node()
    node.handle(said(assign([], [template(timeout=3600.0)])), 1.0)
    for attempt in range(1, 2 * DEADLINES_KEPT):
        run_one(node, attempt)

    assert len(node._scheduler._deadlines._heap) <= DEADLINES_KEPT


def test_time_limits_of_functions_that_run_are_kept() -> None:
    node = started_node({"cpu": 4.0}, workers=2)
    node.handle(said(assign([job(9)], [template(timeout=50.0)])), 1.0)
    for attempt in range(1, 2 * DEADLINES_KEPT):
        run_one(node, attempt)

    assert 51.0 in [deadline[0] for deadline in node._scheduler._deadlines._heap if deadline[3] == 9]


def test_lanes_of_claims_that_nothing_waits_for_are_dropped() -> None:
    queue = FairQueue()
    busy = queue.lane(RUN, template(timeout=1.0))
    queue.add(busy, [job(0)])

    for seconds in range(2, 3 * LANES_KEPT):
        queue.lane(RUN, template(timeout=float(seconds)))

    assert len(queue._lanes[RUN]) == LANES_KEPT
    assert queue.lanes(RUN) == [busy]


def test_functions_that_are_given_back_to_a_lane_that_was_dropped_run() -> None:
    node = started_node()
    templates = [template(number, timeout=1.0 + number) for number in range(LANES_KEPT + 1)]
    node.handle(said(assign([job(0)], templates)), 1.0)
    for template_sent in templates[1:]:
        node._scheduler.queue.lane(RUN, template_sent)

    effects = node.handle(WorkerRecalled(FIRST_WORKER, [(RUN, Ticket(0, 1))]), 1.1)
    node.check()

    assert gives(effects) == [(FIRST_WORKER, [0])]


def test_more_lanes_are_kept_where_functions_wait_in_all() -> None:
    queue = FairQueue()

    for seconds in range(2 * LANES_KEPT):
        queue.add(queue.lane(RUN, template(timeout=1.0 + seconds)), [job(seconds)])

    assert len(queue.lanes(RUN)) == 2 * LANES_KEPT


def test_fetches_that_no_function_has_been_able_to_report_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "MOST_FETCHED", 3)
    node = started_node()
    node.handle(said(assign([job(0)])), 1.0)
    for index in range(10, 20):
        node.handle(said(assign([job(index, args=[Ref(5, 9, ["elsewhere"], index)])], [])), 1.0)
        node.handle(InputFetched(RUN, Index(5), 9), 1.0)

    [completed] = replies(node.handle(worker_done(done(0)), 2.0))

    assert isinstance(completed, Completed)
    assert len(completed.fetched) == 3
