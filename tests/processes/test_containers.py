"""Nodes in containers: within limits of memory, and with little of what other machines have."""

import subprocess
from pathlib import Path

import pytest

import handoff_actors as handoff
from tests.control_groups import container
from tests.daemons import Daemon, Daemons

pytestmark = pytest.mark.processes

VALUE_NBYTES = 40_000_000


def oom_score_of(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def oom_score() -> tuple[int, int]:
    childs = subprocess.run(["cat", "/proc/self/oom_score_adj"], capture_output=True, check=True).stdout
    return oom_score_of("self"), int(childs)


async def oom_score_among_coroutines() -> tuple[int, int]:
    return oom_score()


def take(nbytes: int) -> int:
    taken = bytearray(nbytes)
    # Page by page, in less time than the node takes to look.
    return taken.count(b"\1")


async def run_on(node: Daemon, dag: handoff.DAG) -> handoff.Run:
    async with handoff.Session([node.address]) as session:
        return await session.execute_distributed(dag)


async def test_the_kernel_ends_workers_and_their_processes_before_the_node(daemons: Daemons) -> None:
    node = daemons.start("--cpu", "1")
    dag = handoff.new()
    dag.call(oom_score, id="plain")
    dag.call(oom_score_among_coroutines, id="coroutine")

    run = await run_on(node, dag)

    own = oom_score_of(node.process.pid)
    assert own == oom_score_of("self")
    raised = min(own + 500, 1000)
    assert dict(run.results) == {"plain": (raised, raised), "coroutine": (raised, raised)}


async def test_worker_that_the_kernel_kills_for_its_containers_limit_says_so(daemons: Daemons) -> None:
    with container(200) as within:
        node = daemons.start("--cpu", "1", "--memory-factor", "0", prefix=within)
        dag = handoff.new()
        dag.call(take, 400_000_000, id="large")

        with pytest.raises(handoff.WorkerDied, match="container was short of memory") as caught:
            await run_on(node, dag)

        assert caught.value.memory_was_short
        assert node.process.poll() is None
        node.kill()


async def test_values_of_more_than_the_containers_memory_are_spilled(
    daemons: Daemons, tmp_path: Path
) -> None:
    with container(400, cores=0.5) as within:
        node = daemons.start(variables={"TMPDIR": str(tmp_path)}, prefix=within)
        dag = handoff.new()
        values = [dag.call(bytes, VALUE_NBYTES, id=f"v{number}") for number in range(12)]
        for number, value in enumerate(values):
            dag.call(len, value, id=f"l{number}")

        run = await run_on(node, dag)

        assert [run.results[f"l{number}"] for number in range(12)] == [VALUE_NBYTES] * 12
        assert node.process.poll() is None
        node.kill()
