"""Sessions on workers of other clusters: an engine of threads in this process stands for one of machines."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import handoff_actors as handoff
from handoff_actors.errors import HandoffError, VersionMismatch
from handoff_actors.integrations.engines.lending import LentNodes, session_on
from handoff_actors.integrations.engines.worker_node import NodeOrder, WorkerNode, where_to_listen
from handoff_actors.transport.keys import ClusterKey

pytestmark = pytest.mark.processes

WITHIN_S = 30.0
ONE_CORE = {"cpu": 1.0, "memory": 500.0}


class ThreadEngine:
    """Workers that are names, whose nodes are children of this process."""

    name = "Thread"
    hint = "their threads are busy"

    def __init__(self, workers: Sequence[str], refusals: Sequence[HandoffError] = ()) -> None:
        self._workers = list(workers)
        self._refusals = refusals
        self.pids: list[int] = []
        self._running: dict[str, WorkerNode] = {}
        self._nodes: LentNodes
        self.is_over = False

    async def lend(self, nodes: LentNodes) -> None:
        self._nodes = nodes
        try:
            for worker in self._workers:
                nodes.expect(worker)
            for worker, error in zip(self._workers, self._refusals, strict=False):
                nodes.failed(worker, error)
            if not self._refusals:
                async with asyncio.TaskGroup() as tasks:
                    for worker in self._workers:
                        tasks.create_task(self.add(worker))
            await asyncio.Event().wait()
        finally:
            for node in self._running.values():
                await asyncio.to_thread(node.end)
            self.is_over = True

    async def add(self, worker: str) -> None:
        order = self._nodes.order(worker, worker, ONE_CORE, "")
        node = self._running[worker] = await asyncio.to_thread(WorkerNode, order)
        self.pids.append(node.pid)
        await self._nodes.serves(worker, await asyncio.to_thread(node.wait_until_ready))

    async def lose(self, worker: str) -> None:
        await asyncio.to_thread(self._running.pop(worker).end)
        self._nodes.gone(worker)


def double(number: int) -> int:
    return 2 * number


def graph(size: int) -> handoff.DAG:
    dag = handoff.new()
    for number in range(size):
        dag.call(double, number, id=number)
    return dag


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_runs_use_the_nodes_of_all_workers_and_the_end_of_the_block_ends_them() -> None:
    engine = ThreadEngine(["a", "b"])

    async with session_on(engine, WITHIN_S) as session:
        names = sorted(await session.discover_nodes())
        run = await session.execute_distributed(graph(4), fetch="all")

    assert [name.rsplit("-", 1)[0] for name in names] == ["thread-a", "thread-b"]
    assert run.results[3] == 6
    assert engine.is_over
    assert not any(map(is_there, engine.pids))


async def test_an_error_in_the_block_is_raised_as_it_is_and_ends_the_nodes() -> None:
    engine = ThreadEngine(["a"])

    with pytest.raises(ZeroDivisionError):
        async with session_on(engine, WITHIN_S):
            _ = 1 // 0

    assert not any(map(is_there, engine.pids))


async def test_cancelling_the_block_ends_the_nodes() -> None:
    engine = ThreadEngine(["a"])
    is_entered = asyncio.Event()

    async def use() -> None:
        async with session_on(engine, WITHIN_S):
            is_entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(use())
    await is_entered.wait()
    task.cancel()
    await asyncio.wait((task,))

    assert task.cancelled()
    assert not any(map(is_there, engine.pids))


async def test_a_worker_that_comes_later_joins_the_others_even_if_the_first_have_gone() -> None:
    engine = ThreadEngine(["a"])

    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(session_on(engine, WITHIN_S))
        await engine.add("b")
        await engine.lose("a")
        async with asyncio.timeout(10):
            while [name[:8] for name in await session.discover_nodes()] != ["thread-b"]:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.05)
        await engine.lose("b")
        await engine.add("c")
        run = await session.execute_distributed(graph(1))

    assert run.results[0] == 0
    assert not any(map(is_there, engine.pids))


async def test_a_worker_that_can_not_have_a_node_is_an_error_of_its_own_kind() -> None:
    engine = ThreadEngine(["a", "b"], [VersionMismatch("a runs another version")])

    with pytest.raises(VersionMismatch, match="a runs another version"):
        async with session_on(engine, WITHIN_S):
            pass

    assert engine.is_over


async def test_several_workers_that_can_not_have_nodes_are_all_named() -> None:
    engine = ThreadEngine(["a", "b"], [HandoffError("a: no"), HandoffError("b: no")])

    with pytest.raises(HandoffError, match="a: no; b: no"):
        async with session_on(engine, WITHIN_S):
            pass


async def test_without_workers_the_error_says_so_in_time() -> None:
    engine = ThreadEngine([])

    with pytest.raises(
        HandoffError, match=r"no node serves on a Thread worker after 0.1 s: there is no worker"
    ):
        async with session_on(engine, 0.1):
            pass

    assert engine.is_over


async def test_the_error_says_why_workers_have_to_wait() -> None:
    class BusyEngine(ThreadEngine):
        async def lend(self, nodes: LentNodes) -> None:
            for worker in ("a", "b"):
                nodes.expect(worker)
            nodes.postpone("b", "its cores are in use")
            await asyncio.Event().wait()

    with pytest.raises(
        HandoffError,
        match=r"0.1 s: b: its cores are in use; a did not start one; their threads are busy$",
    ):
        async with session_on(BusyEngine([]), 0.1):
            pass


async def test_a_session_is_entered_without_a_worker_that_has_to_wait() -> None:
    class HalfBusyEngine(ThreadEngine):
        async def lend(self, nodes: LentNodes) -> None:
            nodes.expect("busy")
            nodes.postpone("busy", "its cores are in use")
            await super().lend(nodes)

    async with asyncio.timeout(WITHIN_S / 5), session_on(HalfBusyEngine(["a"]), WITHIN_S) as session:
        assert len(await session.discover_nodes()) == 1


def test_an_order_does_not_show_its_key() -> None:
    key = ClusterKey.generate().text()

    assert key not in repr(NodeOrder("a", ONE_CORE, key))
    assert key not in str((NodeOrder("a", ONE_CORE, key),))


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("", {"listen": "tcp://127.0.0.1:0"}),
        ("127.0.0.1", {"listen": "tcp://127.0.0.1:0"}),
        ("::1", {"listen": "tcp://[::1]:0"}),
        # No machine has one of these.
        ("203.0.113.7", {"listen": "tcp://0.0.0.0:0", "advertise": "203.0.113.7"}),
        ("2001:db8::7", {"listen": "tcp://[::]:0", "advertise": "2001:db8::7"}),
        ("worker7.example.org", {"listen": "tcp://0.0.0.0:0", "advertise": "worker7.example.org"}),
    ],
)
def test_a_node_listens_where_others_reach_its_machine(host: str, options: dict[str, str]) -> None:
    assert where_to_listen(host) == options


async def test_a_node_that_the_app_can_not_reach_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("handoff_actors.actors.joining.CONNECT_S", 0.2)
    monkeypatch.setattr("handoff_actors.integrations.engines.lending._REACH_S", 0.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        engine = UnreachableEngine(address)

        with pytest.raises(
            HandoffError, match=f"Thread worker a serves at {address}, and this process can't"
        ):
            async with session_on(engine, WITHIN_S):
                pass

    assert engine.is_usable is False


class UnreachableEngine:
    """One worker, whose node serves where the app can't connect to it."""

    name = "Thread"
    hint = "their threads are busy"

    def __init__(self, address: str) -> None:
        self._address = address
        self.is_usable: bool | None = None

    async def lend(self, nodes: LentNodes) -> None:
        nodes.expect("a")
        self.is_usable = await nodes.serves("a", self._address)
        await asyncio.Event().wait()
