"""Properties that hold for any graph, costs and cluster."""

from collections.abc import Iterable

from hypothesis import given, settings, strategies as st

from handoff_actors.core.node.events import MessageFromPeer, NodeEffect, RunJobs
from handoff_actors.core.node.scheduling.fair_queue import FairQueue
from handoff_actors.core.resources import TOLERANCE, Claim, ResourceLedger
from handoff_actors.ids import PeerId, RunId
from handoff_actors.wire.messages.runs import Assign
from tests.core.builders import done, job, started_node, template, worker_done
from tests.simulation.worlds import run_world

amounts = st.dictionaries(st.sampled_from(["cpu", "memory", "gpu"]), st.sampled_from([0.1, 0.5, 1, 2, 3]))


@settings(max_examples=200)
@given(amounts, st.lists(st.tuples(amounts, st.booleans()), max_size=30))
def test_claims_never_exceed_totals_and_all_can_be_released(
    totals: dict[str, float], steps: list[tuple[dict[str, float], bool]]
) -> None:
    ledger = ResourceLedger(totals)
    claims: list[Claim] = []
    for cost, is_release in steps:
        if is_release and claims:
            ledger.release(claims.pop(0))
        elif ledger.fits(cost):
            claims.append(ledger.claim(cost))
        ledger.check()
        assert all(ledger.claimed[name] <= totals[name] + TOLERANCE for name in totals)
    for claim in claims:
        ledger.release(claim)
    assert ledger.spare() == totals


@settings(max_examples=25, deadline=None)
@given(st.integers(10**6, 2 * 10**6))
def test_every_run_of_any_world_ends_with_each_function_after_its_inputs_and_everything_released(
    seed: int,
) -> None:
    run_world(seed)


@settings(max_examples=100)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5))
def test_runs_take_turns_so_that_none_gets_two_ahead(lengths: list[int]) -> None:
    queue = FairQueue()
    left = {}
    for run, length in enumerate(lengths):
        lane = queue.lane(RunId(run), template(0))
        left[RunId(run)] = length
        for index in range(length):
            queue.add(lane, [job(index)])
    served = dict.fromkeys(left, 0)

    while len(queue):
        run = queue.turns()[0]
        (lane,) = queue.lanes(run)
        lane.jobs.popleft()
        queue.had_its_turn(lane)
        served[run] += 1
        waiting = [served[other] for other in left if served[other] < left[other]]
        assert not waiting or max(waiting) - min(waiting) <= 1

    assert served == left


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([{}, {"cpu": 1.0}, {"cpu": 0.5}])), max_size=25))
def test_every_job_of_every_run_is_given_out_once(jobs: list[tuple[int, dict[str, float]]]) -> None:
    node = started_node({"cpu": 2.0}, workers=2, most_workers=2)
    pending: list[RunJobs] = []
    ran: list[tuple[RunId, int]] = []
    for index, (run, cost) in enumerate(jobs):
        sent = Assign(RunId(run), [template(index, cost)], [job(index, number=index)])
        pending += _gives(node.handle(MessageFromPeer(PeerId(b"app"), sent), 0.0))
    while pending:
        give = pending.pop(0)
        for entry in give.jobs:
            ran.append((give.run, entry.index))
            finished = worker_done(done(entry.index), worker=give.worker, run=give.run)
            pending += _gives(node.handle(finished, 0.1))
        node.check()

    assert sorted(ran) == sorted((RunId(run), index) for index, (run, _) in enumerate(jobs))
    assert len(node.ledger) == 0


def _gives(effects: Iterable[NodeEffect]) -> list[RunJobs]:
    return [effect for effect in effects if isinstance(effect, RunJobs)]
