"""Nodes that are killed, or frozen, and what that costs a run."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.core.cluster.membership import GONE_S, SUSPECT_S
from tests.cli.command import handoff as command
from tests.daemons import Daemon
from tests.docs.quotes import check_quoted
from tests.faults import functions
from tests.faults.conftest import OpenSession, StartNode
from tests.faults.functions import LARGE
from tests.faults.observing import Observer, Prefers, until, until_empty

pytestmark = pytest.mark.processes

DETECTED_WITHIN_S = 2.0
#: This machine may be slow, and silence is looked at once a second.
SLACK_S = 3.0


def dag_with_values_on_one_node(gate: Path) -> handoff.DAG:
    """made -> extended, both large, wherever the policy likes; the rest waits for a gate on the survivor."""
    dag = handoff.DAG().add_function(handoff.Function("made", [], functions.make))
    dag.add_function(handoff.Function("extended", ["made"], functions.extend))
    waiting: dict[str, Any] = {"extra_args": [str(gate)], "cost": {"cpu": 1}}
    dag.add_function(handoff.Function("there", [], functions.wait_for, **waiting))
    dag.add_function(handoff.Function("gate", [], functions.wait_for, node="survivor", **waiting))
    return dag.add_function(handoff.Function("length", ["extended", "gate"], functions.measure))


async def test_killed_node_is_noticed_at_once_and_what_only_it_held_is_made_again(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path
) -> None:
    survivor = start_node("survivor")
    doomed = start_node("doomed", "--join", survivor.address)
    seen = Observer()
    async with open_session(survivor) as session, asyncio.TaskGroup() as tasks:
        await until(session, lambda: len(session._hub._connections.ups()) == 2)
        dag = dag_with_values_on_one_node(tmp_path / "gate")
        running = tasks.create_task(
            session.execute_distributed(dag, allocation_strategy=Prefers("doomed"), on_event=seen)
        )
        await seen.until("completed", "extended")
        await seen.until("assigned", "there")
        killed_at = asyncio.get_running_loop().time()
        doomed.process.kill()
        noticed_at = await seen.until("lost", "there")
        (tmp_path / "gate").touch()

        run = await running

        assert noticed_at - killed_at < DETECTED_WITHIN_S
        assert run.results["length"] == LARGE + 1
        assert set(run.allocations.values()) == {"survivor"}
        assert {name: run.report[name].attempts for name in ("made", "extended", "gate")} == {
            "made": 2,
            "extended": 2,
            "gate": 1,
        }
        await run.release()
        await until_empty(session, survivor)


async def test_pinned_function_waits_for_its_node_to_come_back_under_its_name(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path
) -> None:
    survivor = start_node("survivor")
    doomed = start_node("doomed", "--join", survivor.address)
    port = doomed.address
    seen = Observer()
    dag = handoff.DAG().add_function(
        handoff.Function("x", [], functions.wait_for, extra_args=[str(tmp_path / "gate")], node="doomed")
    )
    async with open_session(survivor) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(dag, on_event=seen, allocation_timeout=30.0))
        await seen.until("assigned", "x")
        await asyncio.to_thread(doomed.kill)
        await asyncio.to_thread(start_node, "doomed", "--join", survivor.address, "--listen", port)
        await seen.until("assigned", "x", 2)
        (tmp_path / "gate").touch()

        run = await running

        assert run.allocations["x"] == "doomed"
        assert run.report["x"].attempts == 2
        assert sorted(await session.discover_nodes()) == ["doomed", "survivor"]


async def test_pinned_function_waits_no_longer_than_it_may(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path
) -> None:
    survivor = start_node("survivor")
    doomed = start_node("doomed", "--join", survivor.address)
    seen = Observer()
    dag = handoff.DAG().add_function(
        handoff.Function("x", [], functions.wait_for, extra_args=[str(tmp_path / "gate")], node="doomed")
    )
    loop = asyncio.get_running_loop()

    async def kill() -> float:
        await seen.until("assigned", "x")
        await asyncio.to_thread(doomed.kill)
        return await seen.until("lost", "x")

    async with open_session(survivor) as session, asyncio.TaskGroup() as tasks:
        lost = tasks.create_task(kill())
        with pytest.raises(handoff.NodeLost, match="has not come back") as caught:
            await session.execute_distributed(dag, on_event=seen, allocation_timeout=1.5)
        waited_s = loop.time() - await lost

    assert caught.value.node == "doomed"
    assert 1.4 < waited_s < 1.5 + SLACK_S


def suspects(member: Daemon) -> list[str]:
    shown = command("nodes", "--join", member.address, "--json")
    return [node["name"] for node in json.loads(shown.stdout) if node["suspect"]]


async def test_node_that_was_frozen_for_a_while_has_lost_nothing(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path
) -> None:
    survivor = start_node("survivor")
    frozen = start_node("frozen", "--join", survivor.address)
    seen = Observer()
    dag = handoff.DAG().add_function(
        handoff.Function("x", [], functions.wait_for, extra_args=[str(tmp_path / "gate")], node="frozen")
    )
    dag.add_function(handoff.Function("y", ["x"], functions.measure, node="frozen"))
    async with open_session(survivor) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.execute_distributed(dag, on_event=seen))
        await seen.until("assigned", "x")
        frozen.process.send_signal(signal.SIGSTOP)
        await until(session, lambda: session._hub._member.suspects() == ["frozen"])
        shown = await asyncio.to_thread(frozen_is_shown, survivor)
        frozen.process.send_signal(signal.SIGCONT)
        (tmp_path / "gate").touch()

        run = await running

    assert shown
    assert set(seen.kinds()) == {"assigned", "completed"}
    assert {run.report[name].attempts for name in "xy"} == {1}


def frozen_is_shown(member: Daemon) -> bool:
    """The member suspects it about when the app does."""
    member.wait_until(lambda: suspects(member) == ["frozen"])
    check_quoted("troubleshooting.md", "INFO member suspected", member.log())
    return True


@pytest.mark.timeout(90)
async def test_node_that_stays_frozen_is_replaced_and_changes_nothing_when_it_comes_back(
    start_node: StartNode, open_session: OpenSession, tmp_path: Path
) -> None:
    survivor = start_node("survivor")
    frozen = start_node("frozen", "--join", survivor.address)
    seen = Observer()
    hold: dict[str, Any] = {"extra_args": [2.0], "cost": {"cpu": 1}}
    dag = handoff.DAG().add_function(handoff.Function("x", [], functions.hold, **hold))
    dag.add_function(handoff.Function("length", ["x"], functions.measure))
    async with open_session(survivor) as session, asyncio.TaskGroup() as tasks:
        await until(session, lambda: len(session._hub._connections.ups()) == 2)
        running = tasks.create_task(
            session.execute_distributed(dag, allocation_strategy=Prefers("frozen"), on_event=seen)
        )
        frozen_at = await seen.until("assigned", "x")
        frozen.process.send_signal(signal.SIGSTOP)
        lost_at = await seen.until("lost", "x")
        frozen.process.send_signal(signal.SIGCONT)

        run = await running

        assert SUSPECT_S < lost_at - frozen_at < GONE_S + SLACK_S
        assert run.results["length"] == LARGE
        assert seen.kinds()["completed"] == 2, "a result was taken twice"
        await run.release()
        await until(session, lambda: len(session._hub._connections.ups()) == 2)
        await until_empty(session, survivor, frozen)
