"""Attempts that a run cancels while it goes on: they really stop, whatever they do, and the others don't notice."""

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from handoff_actors.ids import RunId
from handoff_actors.wire.messages.directions import FromNode
from handoff_actors.wire.messages.jobs import Job, Template, Ticket
from handoff_actors.wire.messages.members import ListRuns, Refused, Runs
from handoff_actors.wire.messages.runs import Assign, CancelJobs, Close, Closed, Completed, Failed, Rejected
from handoff_actors.wire.payload import decode, encode_call
from tests.daemons import Daemon, Daemons
from tests.processes import functions as stubborn, nested
from tests.processes.raw_peer import HELLO, RawPeer, connected_to
from tests.workers import functions
from tests.workers.announcement import Announcement

pytestmark = pytest.mark.processes

RUN = RunId(7)
SEED = 20261130
#: Half a second is what a function gets to clean up.
STOPS_WITHIN_S = 3.0
CPU = {"cpu": 1.0}

STUBBORN: list[Callable[..., Any]] = [
    stubborn.loop_for_ever,
    stubborn.sleep_in_c,
    stubborn.ignore_signals_in_c,
    functions.wait_forever,
    functions.start_process_and_wait,
    stubborn.catch_cancellation,
    stubborn.block_the_loop,
]
SLEEP_IN_C = {stubborn.sleep_in_c, stubborn.ignore_signals_in_c}


def template(code: Callable[..., Any], number: int = 0, cost: dict[str, float] | None = None) -> Template:
    reference = f"{code.__module__}:{code.__qualname__}".encode()
    is_async = asyncio.iscoroutinefunction(code)
    return Template(
        number, reference[-32:], by_reference=True, code=reference, is_async=is_async, as_list=False, cost=cost or {}, timeout=None
    )  # fmt: skip


def job(index: int, *args: object, number: int = 0) -> Job:
    return Job(index, 1, number, [], encode_call(args, {}).to_bytes())


def cancel(*indices: int) -> CancelJobs:
    return CancelJobs(RUN, [Ticket(index, 1) for index in indices])


@pytest.fixture
def node(daemons: Daemons) -> Iterator[Daemon]:
    """A node with two cores. Afterwards nothing of any run may be left, and nothing may have gone wrong in it."""
    variables = {"HANDOFF_CHECK": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    daemon = daemons.start("--name", "n1", "--cpu", "2", variables=variables)
    yield daemon
    assert daemon.terminate() == 0
    assert "bug" not in daemon.log()
    assert "Traceback" not in daemon.log()
    assert not daemon.store.exists()


class Peer:
    """An app with one run, which hears what becomes of each function."""

    def __init__(self, raw: RawPeer) -> None:
        self._raw = raw
        self._messages = raw.messages()

    def say(self, *messages: Any) -> None:
        self._raw.say(*messages)

    async def outcomes(self, count: int) -> dict[int, Any]:
        """The next so many outcomes of functions: the value, or the kind and the reason of the failure."""
        return await asyncio.to_thread(self._outcomes, count)

    def _outcomes(self, count: int) -> dict[int, Any]:
        outcomes: dict[int, Any] = {}
        while len(outcomes) < count:
            match next(self._messages):
                case Completed(_, entries):
                    outcomes |= {
                        entry.index: decode(entry.value)
                        for entry in entries
                        if isinstance(entry.value, bytes)
                    }
                case Failed(_, index, _, kind, _, reason):
                    outcomes[index] = (kind, reason)
                case message:
                    assert not isinstance(message, Refused | Rejected), message
        return outcomes

    async def ask_for_runs(self) -> Runs:
        self.say(ListRuns())
        runs: Runs = await self.answer(Runs)
        return runs

    async def answer(self, kind: type[FromNode]) -> Any:
        return await asyncio.to_thread(lambda: next(one for one in self._messages if isinstance(one, kind)))


@pytest.fixture
def peer(node: Daemon) -> Iterator[Peer]:
    with connected_to(node) as raw:
        peer = Peer(raw)
        peer.say(HELLO)
        yield peer


CANCELLED = ("cancelled", "cancelled by the app")


async def test_functions_stop_whatever_they_do_and_the_run_goes_on(peer: Peer, tmp_path: Path) -> None:
    codes = [functions.add, *STUBBORN]
    peer.say(Assign(RUN, [template(code, number) for number, code in enumerate(codes)], []))
    for number, code in enumerate(STUBBORN, 1):
        with closing(Announcement(tmp_path / code.__name__)) as announcement:
            peer.say(Assign(RUN, [], [job(number, announcement.path, number=number)]))
            await announcement.text()
            began = time.perf_counter()

            peer.say(cancel(number))
            outcome = await peer.outcomes(1)

            # The signal of a recall may end a sleep in C, and with it the function.
            assert outcome[number] == CANCELLED or code in SLEEP_IN_C, code
            assert time.perf_counter() - began < STOPS_WITHIN_S, code
            peer.say(Assign(RUN, [], [job(100 + number, number, 1)]))
            assert await peer.outcomes(1) == {100 + number: number + 1}
    peer.say(Close(RUN))
    assert await peer.answer(Closed) == Closed(RUN)


async def test_cancelled_coroutine_leaves_its_worker_and_the_other_coroutines_alone(
    peer: Peer, announcement: Announcement
) -> None:
    templates = [template(functions.wait_forever), template(stubborn.process_id_of_coroutine, 1)]
    peer.say(Assign(RUN, templates, [job(0, number=1), job(1, announcement.path)]))
    before = await peer.outcomes(1)
    await announcement.text()

    peer.say(cancel(1), Assign(RUN, [], [job(2, number=1)]))
    outcomes = await peer.outcomes(2)

    assert outcomes == {1: CANCELLED, 2: before[0]}


async def test_functions_that_wait_are_dropped_and_the_others_run(
    peer: Peer, announcement: Announcement
) -> None:
    templates = [
        template(stubborn.loop_for_ever, cost={"cpu": 2.0}),
        template(functions.square, 1, {"cpu": 2.0}),
    ]
    jobs = [job(0, announcement.path), *(job(index, index, number=1) for index in range(1, 5))]
    peer.say(Assign(RUN, templates, jobs))
    await announcement.text()

    peer.say(cancel(2, 4))
    dropped = await peer.outcomes(2)
    peer.say(cancel(0))
    rest = await peer.outcomes(3)

    assert dropped == {2: CANCELLED, 4: CANCELLED}
    assert rest == {0: CANCELLED, 1: 1, 3: 9}


async def test_each_of_many_short_functions_that_are_cancelled_at_random_has_one_outcome(peer: Peer) -> None:
    chance = random.Random(SEED)
    count = 2000
    unlucky = set(chance.sample(range(count), count // 10))
    peer.say(Assign(RUN, [template(functions.square, cost=CPU)], []))
    for first in range(0, count, 20):
        some = range(first, first + 20)
        peer.say(Assign(RUN, [], [job(index, index) for index in some]))
        peer.say(cancel(*(index for index in some if index in unlucky)))

    outcomes = await peer.outcomes(count)

    assert outcomes.keys() == set(range(count))
    assert {index for index, value in outcomes.items() if value != index**2} <= unlucky
    assert CANCELLED in outcomes.values()
    peer.say(Close(RUN))
    assert await peer.answer(Closed) == Closed(RUN)


async def test_nested_run_of_a_cancelled_coroutine_ends_at_once(
    peer: Peer, announcement: Announcement
) -> None:
    peer.say(Assign(RUN, [template(nested.announced_parent)], [job(0, announcement.path)]))
    await announcement.text()

    peer.say(cancel(0))

    assert await peer.outcomes(1) == {0: CANCELLED}
    async with asyncio.timeout(STOPS_WITHIN_S):
        # Each answer takes its time, so this waits.
        while [run.run for run in (await peer.ask_for_runs()).runs] != [RUN]:
            pass
