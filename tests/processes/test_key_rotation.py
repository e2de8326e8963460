"""The key of a running cluster is replaced, one daemon after the other, while an app has its runs there."""

import asyncio
from pathlib import Path

import pytest

import handoff_actors as handoff
from tests.daemons import Daemon, Daemons

pytestmark = pytest.mark.processes


async def answers(session: handoff.Session, *nodes: str) -> int:
    """The sum of 0 to 5, on these nodes or on any."""
    dag = handoff.new()
    parts = [dag.call(abs, -number, id=f"part {number}") for number in range(6)]
    dag.call(lambda *numbers: sum(numbers), *parts, id="sum")
    return int((await session.execute_distributed(dag, nodes=nodes or None)).results["sum"])


async def test_key_is_replaced_without_a_stop(daemons: Daemons, tmp_path: Path) -> None:
    old, new = handoff.ClusterKey.generate(), handoff.ClusterKey.generate()
    files = {"old": tmp_path / "old.key", "new": tmp_path / "new.key"}
    old.write_to(files["old"])
    new.write_to(files["new"])
    running = await started(daemons, files, "old", None, joining=None)
    running += await started(daemons, files, "old", None, joining=running[0])

    async with handoff.Session([node.address for node in running], key=old.accepting(new)) as session:
        told = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            runs = tasks.create_task(run_until_told(session, told))
            for other in ("old", None):
                for _ in range(2):
                    running += await started(daemons, files, "new", other, joining=running[-1])
                    assert await answers(session, running[-1].name) == 15
                    assert await asyncio.to_thread(running.pop(0).terminate) == 0
                for key in (old, new) if other else (new,):
                    async with handoff.Session([running[0].address], key=key) as other_app:
                        assert await answers(other_app, *(node.name for node in running)) == 15
            told.set()
        assert runs.result() > 0

    with pytest.raises(handoff.AuthenticationError):
        async with handoff.Session([running[0].address], key=old):
            """It is not let in any more."""
    secrets = [key.text().removeprefix("handoff1-") for key in (old, new)]
    assert not any(secret in node.log() for node in running for secret in secrets)


async def started(
    daemons: Daemons, files: dict[str, Path], key: str, other: str | None, *, joining: Daemon | None
) -> list[Daemon]:
    options = ["--cpu", "1", "--key-file", str(files[key])]
    options += [] if other is None else ["--also-accept", str(files[other])]
    options += [] if joining is None else ["--join", joining.address]
    return [await asyncio.to_thread(daemons.start, *options)]


async def run_until_told(session: handoff.Session, told: asyncio.Event) -> int:
    runs = 0
    while not told.is_set():
        assert await answers(session) == 15
        runs += 1
    return runs
