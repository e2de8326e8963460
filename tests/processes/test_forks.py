"""A fork of an app makes sessions of its own; what it has inherited says so, and closing that harms nobody."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemons import environment

pytestmark = pytest.mark.processes

SETUP = """
import asyncio, gc, multiprocessing, os, signal, sys, time
import handoff_actors as handoff
from handoff_actors.integrations.background import BackgroundSession, shared
from handoff_actors.workers.pool.pipe import Pipe
from handoff_actors.workers.pool.zygote_link import ZygoteLink

signal.alarm(15)  # Inherited by nobody: a fork sets its own.

def single(code, *args):
    dag = handoff.new()
    dag.call(code, *args, id="only")
    return dag

def in_fork(act):
    "Run it in a fork, and fail if that does."
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            act()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

def refused(act, what):
    "Raise unless it raises at once an error that says what to do."
    try:
        act()
    except handoff.HandoffError as error:
        assert what in str(error) and "is a fork" in str(error), error
    else:
        raise AssertionError("it was not refused")

def runs(run):
    assert run(single(abs, -3), progress=False).results["only"] == 3
"""

SCRIPTS = {
    "session": """
async def main():
    async with handoff.Session(seeds=(), local_node={"cpu": 2}) as session:
        run = await session.execute_distributed(single(bytes, 100_000))
        large = await session.execute_distributed(single(abs, -5))

        def child():
            for act in (
                lambda: asyncio.run(session.execute_distributed(single(abs, -3))),
                lambda: asyncio.run(session.execute_local(single(abs, -3))),
                lambda: asyncio.run(session.discover_nodes()),
                lambda: asyncio.run(session.connect(["tcp://127.0.0.1:1"])),
                lambda: asyncio.run(session.get_result("x", "only")),
            ):
                refused(act, "session of its own")
            assert large.results["only"] == 5
            asyncio.run(session.close())
            runs(handoff.run_sync)

        in_fork(child)
        assert (await session.execute_distributed(single(abs, -3))).results["only"] == 3
asyncio.run(main())
""",
    "fork that leaves the session's block": """
async def main():
    async with handoff.Session(seeds=(), local_node={"cpu": 2}) as session:
        run = await session.execute_distributed(single(abs, -3))
        running = asyncio.create_task(session.execute_distributed(single(time.sleep, 0.7)))
        await asyncio.sleep(0.3)
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            await session.__aexit__(None, None, None)
            for channel in [*gc.get_objects()]:
                if isinstance(channel, (Pipe, ZygoteLink)):
                    channel.flush() if isinstance(channel, Pipe) else channel.kill(1)
                    channel.drain() if isinstance(channel, Pipe) else channel._read()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        await running
        assert (await session.execute_distributed(single(abs, -3))).results["only"] == 3
asyncio.run(main())
""",
    "default session": """
loop = asyncio.new_event_loop()
assert loop.run_until_complete(handoff.execute(single(abs, -3))).results["only"] == 3

def child():
    refused(lambda: loop.run_until_complete(handoff.execute(single(abs, -3))), "session of its own")
    assert asyncio.run(handoff.execute(single(abs, -3))).results["only"] == 3
    runs(handoff.run_sync)

in_fork(child)
assert loop.run_until_complete(handoff.execute(single(abs, -3))).results["only"] == 3
loop.run_until_complete(handoff.shutdown())
loop.close()
""",
    "executor": """
with handoff.Executor(max_workers=2) as executor:
    assert executor.submit(abs, -3).result() == 3
    later = executor.submit(time.sleep, 0.5)

    def child():
        refused(lambda: executor.submit(abs, -3), "executor of its own")
        refused(lambda: list(executor.map(abs, [-3])), "executor of its own")
        executor.shutdown()
        executor.terminate_workers()
        with handoff.Executor(max_workers=1) as own:
            assert own.submit(abs, -3).result() == 3

    in_fork(child)
    assert later.result() is None
    assert executor.submit(abs, -3).result() == 3
""",
    "executor that the fork starts": """
executor = handoff.Executor(max_workers=1)

def child():
    with executor:
        assert executor.submit(abs, -3).result() == 3

in_fork(child)
assert executor.submit(abs, -3).result() == 3
executor.shutdown()
""",
    "background session": """
with BackgroundSession() as session, handoff.Executor(session=session) as executor:
    runs(session.execute)
    shared()

    def child():
        refused(lambda: session.execute(single(abs, -3)), "session of its own")
        refused(lambda: executor.submit(abs, -3), "executor of its own")
        refused(lambda: handoff.Executor(session=session), "session of its own")
        session.close()
        runs(shared().execute)
        shared().close()

    in_fork(child)
    runs(session.execute)
""",
    "cluster": """
with handoff.LocalCluster(nodes=1) as cluster:
    runs(cluster.run_sync)
    seeds = cluster.seeds

    def child():
        for act in (lambda: cluster.seeds, cluster.session, cluster.add, lambda: runs(cluster.run_sync)):
            refused(act, "Session(seeds)")
        cluster.close()

        async def main():
            async with handoff.Session(seeds) as session:
                assert (await session.execute_distributed(single(abs, -3))).results["only"] == 3

        asyncio.run(main())

    in_fork(child)
    runs(cluster.run_sync)
""",
    "session over sockets, and a fork that ends as programs do": """
with handoff.LocalCluster(nodes=1) as cluster, BackgroundSession(cluster.seeds) as session:
    with handoff.Executor(session=session) as executor:
        runs(session.execute)
        assert executor.submit(abs, -3).result() == 3
        seeds = cluster.seeds
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            refused(lambda: session.execute(single(abs, -3)), "session of its own")
            with BackgroundSession(seeds) as own:
                runs(own.execute)
            gc.collect()
            sys.exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        runs(session.execute)
        assert executor.submit(abs, -3).result() == 3
        assert len(cluster.nodes) == 1
""",
    "multiprocessing": """
def child():
    runs(handoff.run_sync)

runs(handoff.run_sync)
processes = [multiprocessing.get_context("fork").Process(target=child) for _ in range(2)]
for process in processes:
    process.start()
for process in processes:
    process.join()
assert [process.exitcode for process in processes] == [0, 0]
runs(handoff.run_sync)
""",
    "session that only the fork starts": """
session = handoff.Session(seeds=(), local_node={"cpu": 1})

async def use():
    async with session:
        assert (await session.execute_distributed(single(abs, -3))).results["only"] == 3

in_fork(lambda: asyncio.run(use()))
asyncio.run(use())
""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_forks_neither_hang_nor_harm(name: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SETUP + SCRIPTS[name])

    ended = subprocess.run(
        [sys.executable, str(script)],
        env=environment(HANDOFF_PROGRESS="0"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
