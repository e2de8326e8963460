import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import get_type_hints

import psutil
import pytest

import handoff_actors as handoff
from handoff_actors.client.execute_options import SessionOptions
from tests.daemons import environment, is_alive

pytestmark = pytest.mark.processes

ENDS_WITHIN_S = 20.0
#: Directories of one node.
IN_MEMORY_AND_ON_DISK = 2


#: Processes that this process had started before the test: the tracker of joblib's files, say.
_others: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def _note_others() -> None:
    _others.clear()
    _others.update(psutil.Process().children(recursive=True))


def family() -> list[psutil.Process]:
    """The processes that this process has started during the test, and their descendants."""
    return [child for child in psutil.Process().children(recursive=True) if child not in _others]


def stores(processes: Iterable[psutil.Process]) -> set[Path]:
    """The directories in which nodes among these processes keep values: they hold them open."""
    found: set[Path] = set()
    for link in (link for process in processes for link in Path(f"/proc/{process.pid}/fd").iterdir()):
        # Processes that are starting close some of their descriptors meanwhile.
        with suppress(FileNotFoundError):
            found.add(link.readlink())
    return {path for path in found if path.name.startswith("handoff-")}


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def there(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return list(filter(is_alive, processes))


def existing(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]


def spread(size: int = 12) -> handoff.DAG:
    dag = handoff.new()
    for number in range(size):
        dag.call(lambda number: number * 2, number, id=number, cost={"cpu": 1})
    return dag


@pytest.fixture
def cluster() -> Iterator[handoff.LocalCluster]:
    with handoff.LocalCluster(nodes=2, cpu=1) as made:
        yield made


def test_session_of_a_cluster_takes_the_options_of_sessions(cluster: handoff.LocalCluster) -> None:
    events: list[handoff.RunEvent] = []

    async def run() -> handoff.Run:
        async with cluster.session(progress=False, on_event=events.append) as session:
            return await session.execute_distributed(spread(2))

    assert list(asyncio.run(run()).results) == [0, 1]
    assert events
    with pytest.raises(
        TypeError, match=r"LocalCluster.session\(\) has no option 'progres'; did you mean progress\?"
    ):
        cluster.session(progres=False)  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError, match=r"LocalCluster.session\(\) has no option 'seeds'"):
        cluster.session(seeds=[])  # type: ignore[call-arg]  # that is the point


def test_options_of_a_clusters_session_are_those_of_sessions() -> None:
    hints = get_type_hints(handoff.Session.__init__)

    are_the_clusters = {"seeds", "join_file", "join_wait", "key", "insecure", "return"}

    assert get_type_hints(SessionOptions) == {
        name: hint for name, hint in hints.items() if name not in are_the_clusters
    }


def test_all_nodes_serve_and_work() -> None:
    with handoff.LocalCluster(nodes=3, cpu=2, memory=500, resources={"licence": 1}) as cluster:
        run = cluster.run_sync(spread(), fetch="all")
        offers = asyncio.run(offered(cluster.session()))

    assert [run.results[number] for number in range(12)] == list(range(0, 24, 2))
    assert set(run.allocations.values()) == {"n1", "n2", "n3"}
    assert list(offers) == ["n1", "n2", "n3"]
    assert offers["n1"] == offers["n2"] == offers["n3"] == {"cpu": 2.0, "memory": 500.0, "licence": 1.0}


async def offered(session: handoff.Session) -> dict[str, dict[str, float]]:
    async with session:
        return await session.discover_nodes()


def test_closing_leaves_nothing_even_while_functions_run(tmp_path: Path) -> None:
    descriptors = open_descriptors()
    with handoff.LocalCluster(nodes=2) as cluster:
        processes = family()
        directories = stores(processes)
        asyncio.run(leave_it_running(cluster, tmp_path))

    assert len(directories) == 2 * IN_MEMORY_AND_ON_DISK
    assert there(processes) == existing(directories) == []
    assert open_descriptors() <= descriptors
    assert (cluster.nodes, cluster.seeds) == ([], [])


async def leave_it_running(cluster: handoff.LocalCluster, directory: Path) -> None:
    """Have a function run that never ends, and go while it does."""
    gate = directory / "gate"
    os.mkfifo(gate)
    dag = handoff.new()
    dag.call(lambda path: open(path).read(), str(gate))  # noqa: PTH123, SIM115 - for the node
    async with asyncio.TaskGroup() as tasks, cluster.session() as session:
        running = tasks.create_task(session.execute_distributed(dag))
        # Returns when the function has opened the other end.
        await asyncio.to_thread(os.close, await asyncio.to_thread(os.open, gate, os.O_WRONLY))
        running.cancel()


def test_nodes_can_be_started_from_a_process_with_many_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    opened: list[int] = []
    try:
        # select() can't wait for descriptors beyond 1023.
        while not opened or opened[-1] < 1100:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        with handoff.LocalCluster(nodes=1) as cluster:
            cluster.nodes[0].kill()
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_the_async_form_does_the_same() -> None:
    async with handoff.LocalCluster(nodes=2) as cluster, cluster.session() as session:
        run = await session.execute_distributed(spread(4))
        processes = family()

    assert run.results[3] == 6
    assert there(processes) == []


async def test_cancelling_the_start_leaves_nothing() -> None:
    async def enter() -> None:
        async with handoff.LocalCluster(nodes=2):
            raise AssertionError("it was cancelled before")

    starting = asyncio.ensure_future(enter())
    while not family():  # noqa: ASYNC110 - nobody tells of a process that has begun
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert there(family()) == []


def test_a_killed_node_is_gone_with_its_workers_and_its_work_is_done_elsewhere(
    cluster: handoff.LocalCluster,
) -> None:
    victim = cluster.nodes[0]
    processes = [psutil.Process(victim.pid), *psutil.Process(victim.pid).children(recursive=True)]
    directories = stores(processes)

    victim.kill()
    run = cluster.run_sync(spread())

    assert len(directories) == IN_MEMORY_AND_ON_DISK
    assert there(processes) == existing(directories) == []
    assert [node.name for node in cluster.nodes] == ["n2"]
    assert set(run.allocations.values()) == {"n2"}


def test_a_node_that_is_stopped_leaves(cluster: handoff.LocalCluster) -> None:
    cluster.nodes[1].stop()

    assert set(cluster.run_sync(spread()).allocations.values()) == {"n1"}


def test_an_added_node_offers_what_the_others_lack(cluster: handoff.LocalCluster) -> None:
    added = cluster.add({"gpu": 1}, name="big")
    dag = handoff.new()
    train = dag.call(lambda: os.environ["CUDA_VISIBLE_DEVICES"], cost={"gpu": 1})

    run = cluster.run_sync(dag)

    assert added.address in cluster.seeds
    assert (run.results[train.id], run.allocations[train.id]) == ("0", "big")


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("HANDOFF_SPILL_DIR", "No such file or directory"),
        ("HANDOFF_STORE_LIMIT", "what it said is on stderr"),
    ],
)
def test_a_node_that_cannot_start_says_why_and_takes_the_others_along(
    variable: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "none")

    with pytest.raises(handoff.HandoffError, match=f"node 'n1' could not be started: .*{said}"):
        handoff.LocalCluster().start()

    assert there(family()) == []


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"cpu": -1}, {"resources": {"gpu": "many"}}])
def test_what_cannot_be_is_refused_before_anything_starts(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        handoff.LocalCluster(**wrong)  # type: ignore[arg-type]

    assert there(family()) == []


def test_with_a_key_strangers_stay_out() -> None:
    key = handoff.ClusterKey.generate()
    with handoff.LocalCluster(nodes=2, key=key) as cluster:
        run = cluster.run_sync(spread(2))

        with pytest.raises(handoff.AuthenticationError):
            asyncio.run(offered(handoff.Session(seeds=cluster.seeds)))

    assert run.results[1] == 2


def test_nodes_belong_to_no_other_cluster(
    cluster: handoff.LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_SEEDS", cluster.seeds[0])

    with handoff.LocalCluster(nodes=1) as other:
        offers = asyncio.run(offered(other.session()))

    assert list(offers) == ["n1"]


def test_functions_import_what_the_app_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_own.py").write_text("def where():\n    return __file__\n")
    monkeypatch.syspath_prepend(tmp_path)
    from users_own import where  # type: ignore[import-not-found]  # noqa: PLC0415 - it has just been written

    dag = handoff.new()
    called = dag.call(where)
    with handoff.LocalCluster(nodes=1) as cluster:
        run = cluster.run_sync(dag)

    assert run.results[called.id] == str(tmp_path / "users_own.py")
    # Else it would be sent to the nodes of all later tests, which lack it.
    del sys.modules["users_own"]


KILLED = """
import os, sys
import handoff_actors as handoff

cluster = handoff.LocalCluster(nodes=2).start()
if {forks} and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("forks", [False, True])
def test_nodes_end_with_the_app_that_is_killed(forks: bool) -> None:
    command = [sys.executable, "-c", KILLED.format(forks=forks)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as app:
        assert app.stdout is not None
        assert app.stdout.readline() == b"ready\n"
        own = [child for child in psutil.Process(app.pid).children() if "child" in " ".join(child.cmdline())]
        processes = [process for node in own for process in (node, *node.children(recursive=True))]
        directories = stores(processes)

        app.kill()
        # The app's fork lives on, and holds all that the app held.
        psutil.wait_procs(processes, ENDS_WITHIN_S)

    assert len(directories) == 2 * IN_MEMORY_AND_ON_DISK
    assert there(processes) == existing(directories) == []


@pytest.mark.parametrize("name", ["x" * 256, "a\tb", "\udcff"])
def test_node_without_a_possible_name_is_refused_before_it_is_started(name: str) -> None:
    with pytest.raises(ValueError, match="a name is printable"):
        handoff.LocalCluster().add(name=name)

    assert there(family()) == []
