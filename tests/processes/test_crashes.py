"""Tests that a bug of ours ends its run or its node, whole and at once, and leaves neither jobs nor processes behind."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import handoff_actors as handoff
from handoff_actors.actors.node.actor import NodeActor
from handoff_actors.client.hub import Hub
from handoff_actors.core.node.events import WorkerDone
from handoff_actors.core.node.machine import NodeMachine
from handoff_actors.core.run.endings.retries import MAX_NODE_CRASHES
from handoff_actors.core.run.events import MessageFromNode, RunEffect
from handoff_actors.core.run.grow import RunMachineEvent
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import RemoteProtocolError
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.jobs import NO_TRACES
from handoff_actors.wire.messages.runs import Assign, Completed
from tests.daemons import Daemon, Daemons
from tests.faults import functions
from tests.faults.observing import Observer, Prefers, until
from tests.processes.app import descendants, single
from tests.processes.faulty import POISON

pytestmark = pytest.mark.processes

FAULTY = "tests.processes.faulty"
ALLOCATION_S = 0.5


@pytest.fixture
def ambient() -> set[psutil.Process]:
    """Processes that were there before, such as the tracker that multiprocessing starts once, for an earlier test."""
    return set(descendants())


@pytest.fixture
async def session(ambient: set[psutil.Process]) -> AsyncIterator[handoff.Session]:
    """A session whose own node has two cores, and starts with the first run. Afterwards no process is left."""
    async with handoff.Session(seeds=(), local_node={"cpu": 2.0}, name="own") as opened:
        yield opened
    assert set(descendants()) <= ambient


def node_of(session: handoff.Session) -> NodeActor:
    node = session._hub.node
    assert node is not None
    return node


def raising(
    machine: type[Any], over: Callable[[Any], bool], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> list[object]:
    """Have a machine raise over the first event of a kind, once it has done half of what that asks for."""
    handle = machine.handle
    raised: list[object] = []

    def faulty(self: Any, event: Any, now: float) -> Any:
        effects = handle(self, event, now)
        if not raised and over(event):
            raised.append(event)
            raise error
        return effects

    monkeypatch.setattr(machine, "handle", faulty)
    return raised


def is_report(event: Any) -> bool:
    return isinstance(event, MessageFromNode) and isinstance(event.message, Completed)


# --- Runs -------------------------------------------------------------------------------------------------------


async def until_idle(session: handoff.Session) -> None:
    async with asyncio.timeout(10):
        await until(session, lambda: not session._hub.runs.all() and node_of(session).is_idle)


async def test_policy_that_raises_ends_its_run_and_no_other(session: handoff.Session) -> None:
    class Faulty:
        def choose(self, need: handoff.Need, nodes: Any) -> Any:
            raise ZeroDivisionError

    with pytest.raises(
        handoff.HandoffError, match="raised ZeroDivisionError when asked for the node of function 'only'"
    ):
        await session.execute_distributed(single(int, cost={"cpu": 1}), allocation_strategy=Faulty())

    assert (await session.execute_distributed(single(int))).results == {"only": 0}
    await until_idle(session)


async def test_run_whose_machine_raised_ends_once_its_nodes_have_closed_it(
    session: handoff.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = single(int)
    dag.add_function(handoff.Function("endless", [], functions.hold, extra_args=[600.0]))
    raised = raising(RunMachine, is_report, monkeypatch, KeyError("a bug"))

    with pytest.raises(handoff.HandoffError, match="the run can't go on: KeyError: 'a bug'"):
        await session.execute_distributed(dag)

    assert raised
    assert session._hub.runs.all() == []
    assert node_of(session).is_idle


async def test_run_whose_effects_are_lost_ends_too(
    session: handoff.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is over is among what is lost."""
    send = Hub.send

    def faulty(self: Hub, name: str, message: ToNode) -> None:
        if isinstance(message, Assign):
            raise KeyError("a bug")
        send(self, name, message)

    monkeypatch.setattr(Hub, "send", faulty)

    with pytest.raises(handoff.HandoffError, match="the run can't go on: KeyError: 'a bug'"):
        await session.execute_distributed(single(int))

    await until_idle(session)


async def test_run_that_can_not_even_tell_its_nodes_is_over(
    session: handoff.Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = RunMachine.handle

    def faulty(self: RunMachine, event: RunMachineEvent, now: float) -> list[RunEffect]:
        effects = handle(self, event, now)
        if is_report(event):
            raise KeyError("a bug")
        return effects

    perform_send = Hub.send
    failures = [KeyError("another")]

    def send(self: Hub, name: str, message: ToNode) -> None:
        if failures and not isinstance(message, Assign):
            raise failures.pop()
        perform_send(self, name, message)

    monkeypatch.setattr(RunMachine, "handle", faulty)
    monkeypatch.setattr(Hub, "send", send)

    with pytest.raises(handoff.HandoffError, match="the run can't go on"):
        await session.execute_distributed(single(int))

    assert failures == []
    assert [
        record.message.split(" has")[1] for record in caplog.records if record.levelno == logging.ERROR
    ] == [" failed"] * 2
    await until_idle(session)


async def test_crash_after_the_end_of_a_run_lets_go_of_its_values(
    session: handoff.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await session.execute_distributed(single(os.urandom, 3_000_000), fetch=())
    raising(RunMachine, lambda event: True, monkeypatch, KeyError("a bug"))

    await run.release()

    await until_idle(session)


async def test_rejected_message_ends_its_run_and_no_other(
    session: handoff.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Hub.send

    def forgetful(self: Hub, name: str, message: ToNode) -> None:
        if isinstance(message, Assign):
            message = Assign(message.run, [], message.jobs)
        send(self, name, message)

    with monkeypatch.context() as patch:
        patch.setattr(Hub, "send", forgetful)
        with pytest.raises(RemoteProtocolError, match=r"node 'own' rejected .* template 0 was never sent"):
            await session.execute_distributed(single(int))

    assert (await session.execute_distributed(single(int))).results == {"only": 0}
    await until_idle(session)


# --- Nodes in the app's process ---------------------------------------------------------------------------------


async def test_node_whose_machine_raised_is_gone_at_once_and_the_next_run_has_another(
    session: handoff.Session,
    ambient: set[psutil.Process],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await session.execute_distributed(single(int))
    first, processes = node_of(session), set(descendants()) - ambient
    raised = raising(NodeMachine, lambda event: isinstance(event, WorkerDone), monkeypatch, KeyError("a bug"))

    with pytest.raises(handoff.AllocationError):
        await session.execute_distributed(single(int), allocation_timeout=ALLOCATION_S)

    assert raised
    assert first._ending is not None
    async with asyncio.timeout(10):
        await first._ending
    assert not first._store.directory.exists()
    assert set(descendants()).isdisjoint(processes)
    assert [record.levelname for record in caplog.records if "a bug of its own" in record.message] == [
        "CRITICAL"
    ]
    run = await session.execute_distributed(single(os.getpid))
    assert run.allocations == {"only": "own"}
    assert node_of(session) is not first


async def test_worker_that_reports_in_an_unknown_way_is_ended_and_its_function_runs_again(
    session: handoff.Session, tmp_path: Path
) -> None:
    seen = Observer()
    dag = single(functions.wait_for, str(tmp_path / "gate"))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(dag, on_event=seen))
        await seen.until("started", "only")
        node = node_of(session)
        (run,) = session._hub.runs.all()
        [worker] = [state.worker for state in node._machine._scheduler.roster.workers.values() if state.held]
        node._listener.worker_failed(worker, run.run, 0, 1, "exceptiom", b"", "", 0.0, NO_TRACES)
        await seen.until("lost", "only")
        (tmp_path / "gate").touch()

    assert running.result().report["only"].attempts == 2


# --- Daemons ----------------------------------------------------------------------------------------------------


def cluster(daemons: Daemons, size: int) -> list[Daemon]:
    made: list[Daemon] = []
    for number in range(size):
        join = ("--join", made[0].address) if made else ()
        made.append(
            daemons.start(
                *("--name", f"n{number}", "--cpu", "1", "--resource", f"{POISON}=1", *join),
                variables={"PYTHONPATH": os.pathsep.join(sys.path)},
                module=FAULTY,
            )
        )
    return made


async def test_run_ends_a_few_daemons_and_no_more_and_those_leave_nothing(
    daemons: Daemons, tmp_path: Path
) -> None:
    nodes = cluster(daemons, MAX_NODE_CRASHES + 1)
    for node in nodes:
        node.wait_for_workers(1)
    seen = Observer()
    innocent = single(functions.wait_for, str(tmp_path / "gate"))
    async with handoff.Session(seeds=[nodes[0].address]) as session, asyncio.TaskGroup() as tasks:
        await until(session, lambda: len(session._hub._connections.ups()) == len(nodes))
        running = tasks.create_task(
            session.execute_distributed(innocent, allocation_strategy=Prefers("n0"), on_event=seen)
        )
        await seen.until("started", "only")
        with pytest.raises(handoff.NodeLost, match=f"the last of {MAX_NODE_CRASHES} nodes .* poisoned"):
            await session.execute_distributed(
                single(int, cost={POISON: 1}), allocation_strategy=InOrder(), fetch=()
            )
        (tmp_path / "gate").touch()
        run = await running

    ended = nodes[:-1]
    assert [await asyncio.to_thread(node.wait) for node in ended] == [1] * MAX_NODE_CRASHES
    assert [node.leftovers() for node in ended] == [[]] * MAX_NODE_CRASHES
    for node in ended:
        assert "CRITICAL node" in node.log()
        assert "A daemon has to be started again" in node.log()
        assert "AssertionError: poisoned" in node.log()
    assert run.allocations == {"only": nodes[-1].name}
    assert nodes[-1].terminate() == 0


class InOrder:
    """Takes the first node there is, by name."""

    def choose(self, need: handoff.Need, nodes: Any) -> Any:
        return min(nodes, key=lambda node: node.name)
