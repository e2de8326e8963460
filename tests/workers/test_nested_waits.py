"""What workers tell their node of functions that wait for runs of their own."""

import os

import pytest

from handoff_actors.ids import Attempt, Index, RunId
from handoff_actors.workers.child.surroundings import surroundings, tell_of_wait
from handoff_actors.workers.nested_waits import WaitChanged
from tests.workers.pool_harness import RUN, SYNC, PoolHarness, job, template


def wait_in_a_fork_too(index: int) -> bool:
    began = WaitChanged((RUN, Index(index), Attempt(1)), has_begun=True, may_hold_up_loop=False)
    tell_of_wait(began)
    pid = os.fork()
    if not pid:
        tell_of_wait(began._replace(may_hold_up_loop=True))
        os._exit(0)
    os.waitpid(pid, 0)
    # Questions go the same way.
    is_unknown = surroundings() is None
    tell_of_wait(began._replace(has_begun=False))
    return is_unknown


@pytest.mark.processes
async def test_node_hears_of_waits_in_order_from_a_worker_and_its_forks(harness: PoolHarness) -> None:
    harness.pool.give(SYNC, RUN, {0: template(wait_in_a_fork_too)}, [job(3, 3)], None)

    await harness.until(lambda: len(harness.waits) == 3 and 3 in harness.done)

    key = (RUN, 3, 1)
    assert harness.waits == [
        WaitChanged(key, has_begun=True, may_hold_up_loop=False),
        WaitChanged(key, has_begun=True, may_hold_up_loop=True),
        WaitChanged(key, has_begun=False, may_hold_up_loop=False),
    ]
    assert harness.result(3) is True


def test_what_is_told_is_what_is_heard() -> None:
    change = WaitChanged((RunId(1 << 61), Index(1 << 40), Attempt(7)), has_begun=True, may_hold_up_loop=True)

    assert WaitChanged.parse(change.packet()) == change


def test_outside_of_workers_nobody_is_told() -> None:
    tell_of_wait(WaitChanged((RunId(1), Index(1), Attempt(1)), has_begun=True, may_hold_up_loop=False))
