"""Items of a megabyte, between stages on two nodes: they stay there, and nothing grows with their number."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import aclosing

import psutil
import pytest

import handoff_actors as handoff
from tests.client.streaming import stages
from tests.daemons import Daemon
from tests.processes.pair import pair

pytestmark = pytest.mark.processes

MEGABYTE = 1_000_000
ITEMS = 2_000
#: Fewer where the machine has other work.
ENOUGH_S = 10.0
#: Items before the first look, so that all has its usual size by then.
FIRST = 200
IN_FLIGHT = 16
#: Memory varies by so much with the garbage of a moment.
SLACK = 32 * MEGABYTE


def through_two_nodes() -> handoff.DAG:
    """Three stages that hand over a megabyte each, from one node to the other and back, and give a number."""
    dag = handoff.DAG()
    number = dag.call(None, type="input", id="in")
    made = dag.call(stages.megabyte, number, node="n1")
    turned = dag.call(stages.turned, made, id="turned", node="n2")
    dag.call(stages.first_of_megabyte, turned, id="first", node="n1")
    return dag


def memory(daemons: Sequence[Daemon]) -> list[int]:
    """The bytes that the app, and each node with its workers, have for themselves."""
    members = [
        [psutil.Process()],
        *([psutil.Process(each.process.pid), *each.family()] for each in daemons),
    ]
    return [sum(map(own_nbytes, processes)) for processes in members]


def own_nbytes(process: psutil.Process) -> int:
    used = process.memory_info()
    return int(used.rss - used.shared)


def stored(daemons: Sequence[Daemon]) -> int:
    """The number of values in shared memory."""
    return sum(len(each.stored()) for each in daemons)


async def test_items_of_a_megabyte_stay_on_the_nodes_and_memory_stays_flat() -> None:
    with pair() as daemons:
        async with (
            handoff.Session(seeds=[each.address for each in daemons]) as session,
            session.stream(through_two_nodes(), in_flight=IN_FLIGHT) as pipeline,
            aclosing(pipeline.map(range(ITEMS))) as results,
        ):
            before: list[int] = []
            most, taken, began_at = 0, 0, time.monotonic()
            async for item in results:
                assert item == taken % 256
                taken += 1
                if taken == FIRST:
                    before = memory(daemons)
                if taken % 100 == 0:
                    most = max(most, stored(daemons))
                    if taken >= 3 * FIRST and time.monotonic() - began_at > ENOUGH_S:
                        break
            after = memory(daemons)

            # Each item in flight has two values at most, and each of these one copy.
            assert most <= 4 * IN_FLIGHT
            assert all(now < then + SLACK for then, now in zip(before, after, strict=True))
            assert session.received_bytes() < MEGABYTE


@pytest.mark.parametrize(("in_flight", "in_flight_mb"), [(IN_FLIGHT, 512), (100, IN_FLIGHT)])
async def test_nothing_grows_while_results_are_not_taken_and_all_goes_on_when_they_are(
    in_flight: int, in_flight_mb: int
) -> None:
    dag = through_two_nodes()
    dag.add_function(handoff.Function("result", ["turned"], stages.turned, node="n1"))
    with pair() as daemons:
        async with (
            handoff.Session(seeds=[each.address for each in daemons]) as session,
            session.stream(dag, in_flight=in_flight, in_flight_mb=in_flight_mb) as pipeline,
            aclosing(pipeline.map(itertools.count())) as results,
        ):
            await anext(results)
            await until_all_wait(pipeline)
            # A result is kept with the values that it is made of, two of which have copies.
            assert stored(daemons) <= 5 * IN_FLIGHT
            before = memory(daemons)
            for number in range(1, 4 * IN_FLIGHT):
                item = await anext(results)
                assert item["first"] == number
                assert item["result"] == stages.megabyte(number)
            await until_all_wait(pipeline)
            assert stored(daemons) <= 5 * IN_FLIGHT
            assert all(now < then + SLACK for then, now in zip(before, memory(daemons), strict=True))


async def until_all_wait(pipeline: handoff.Pipeline) -> None:
    """Wait until no stage goes on."""
    before = None
    while (now := [stage.items for stage in pipeline.report.stages.values()]) != before:
        before = now
        await asyncio.sleep(0.5)
