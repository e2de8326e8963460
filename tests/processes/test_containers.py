"""Nodes in containers: within limits of memory, and with little of what other machines have."""

import asyncio
import operator
import subprocess
from pathlib import Path

import pytest

import handoff_actors as handoff
from tests.control_groups import container
from tests.daemons import Daemon, Daemons
from tests.docs.quotes import check_quoted

pytestmark = pytest.mark.processes

VALUE_NBYTES = 40_000_000


def oom_score_of(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def oom_score() -> tuple[int, int]:
    childs = subprocess.run(["cat", "/proc/self/oom_score_adj"], capture_output=True, check=True).stdout
    return oom_score_of("self"), int(childs)


async def oom_score_among_coroutines() -> tuple[int, int]:
    return oom_score()


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
        # In less time than the node takes to look; and by a function that the node has, as definitions need memory, too.
        dag.call(operator.mul, b"x", 400_000_000, id="large")

        with pytest.raises(handoff.HandoffError) as caught:
            await run_on(node, dag)

        assert isinstance(caught.value, handoff.WorkerDied), f"{caught.value}\n{node.log()}"
        assert caught.value.memory_was_short
        assert node.process.poll() is None
        node.kill()

    check_quoted("troubleshooting.md", "function 'large' failed", str(caught.value))


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


#: 64 MB of shared memory, as Docker gives by default, a root that can't be written to, and a user whom nobody knows.
BARE = (
    "unshare",
    "--mount",
    "/bin/sh",
    "-c",
    (
        "mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm && mount -o remount,ro,bind / && for place in /tmp /var/tmp; "
        'do ! mountpoint -q $place || mount -o remount,ro,bind $place || exit 1; done; cd / && unset HOME TMPDIR; exec "$@"'
    ),
    "sh",
    # Without a capability, as in a container.
    *("setpriv", "--bounding-set=-all", "--inh-caps=-all"),
)


async def test_a_node_with_little_shared_memory_and_no_disk_works_and_says_how_to_give_it_one(
    daemons: Daemons,
) -> None:
    if not await asyncio.to_thread(is_bare_possible):
        pytest.skip("may not change mounts")
    key = handoff.ClusterKey.generate()
    node = daemons.start("--cpu", "1", prefix=BARE, variables={"HANDOFF_KEY": key.text()})
    dag = handoff.new()
    large = [dag.call(bytes, 20_000_000, id=f"v{number}") for number in range(4)]
    dag.call(lambda *values: len(values), *large, id="all")
    small = handoff.new()
    small.call(len, "abc", id="only")

    async with handoff.Session([node.address], key=key) as session:
        run = await session.execute_distributed(small)
        with pytest.raises(handoff.FunctionFailed, match="--spill-dir") as caught:
            await session.execute_distributed(dag)

    assert (run.results["only"], caught.value.kind) == (3, "store")
    check_quoted("troubleshooting.md", "WARNING values can't be spilled to disk", node.log())
    assert node.terminate() == 0


def is_bare_possible() -> bool:
    return subprocess.run([*BARE, "true"], capture_output=True, check=False).returncode == 0
