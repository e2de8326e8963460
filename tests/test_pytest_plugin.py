"""The plugin, in test suites of its users."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.pages import snippets
from tests.daemons import environment

pytestmark = pytest.mark.processes

ASYNCIO = """
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
INI = """
[pytest]
handoff_nodes = {nodes}
handoff_cpu = 2
"""
SUITE = """
import os

import pytest

import handoff_actors as handoff


def triple(number):
    return number * 3


def note(cluster):
    with open("clusters", "a") as clusters:
        print(os.getpid(), *cluster.seeds, file=clusters)


def test_sync(handoff_cluster):
    note(handoff_cluster)
    dag = handoff.new()
    tripled = dag.call(triple, 14)

    assert handoff_cluster.run_sync(dag).results[tripled.id] == 42


async def test_async(handoff_cluster):
    note(handoff_cluster)
    dag = handoff.new()
    tripled = dag.call(triple, 14)

    async with handoff_cluster.session() as session:
        offers = await session.discover_nodes()
        run = await session.execute_distributed(dag)

    assert list(offers) == [node.name for node in handoff_cluster.nodes]
    assert offers["n1"]["cpu"] == 2
    assert run.results[tripled.id] == 42
"""
OWN_OPTIONS = """
import pytest


@pytest.mark.parametrize("handoff_cluster", [{"nodes": 1, "resources": {"gpu": 1}}], indirect=True)
def test_gpu(handoff_cluster):
    assert len(handoff_cluster.nodes) == 1
"""


def pytest_run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def suite(directory: Path, *, nodes: str = "2", **modules: str) -> Path:
    (directory / "pytest.ini").write_text(INI.format(nodes=nodes) + ASYNCIO)
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(text)
    return directory


def test_every_test_of_the_docs_passes(tmp_path: Path) -> None:
    modules = {f"test_{number}": text for number, text in enumerate(snippets("testing.md", "python"))}
    suite(tmp_path, **modules)
    [ini] = snippets("testing.md", "ini")
    (tmp_path / "pytest.ini").write_text(ini + ASYNCIO)

    done = pytest_run(tmp_path)

    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def clusters(directory: Path) -> list[list[str]]:
    """For each test that has noted it: the process that it ran in, and the seeds of its cluster."""
    return [line.split() for line in (directory / "clusters").read_text().splitlines()]


def test_sync_and_async_tests_share_one_cluster(tmp_path: Path) -> None:
    done = pytest_run(suite(tmp_path, test_it=SUITE))

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    first, second = clusters(tmp_path)
    assert first == second
    assert len(first[1:]) == 2


def test_each_worker_of_xdist_has_a_cluster_of_its_own(tmp_path: Path) -> None:
    done = pytest_run(suite(tmp_path, nodes="1", test_it=SUITE), "-n", "2")

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    [[_, first], [_, second]] = clusters(tmp_path)
    assert first != second


def test_a_test_may_ask_for_a_cluster_of_another_kind(tmp_path: Path) -> None:
    done = pytest_run(suite(tmp_path, test_it=OWN_OPTIONS))

    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_wrong_option_is_told_by_its_name(tmp_path: Path) -> None:
    done = pytest_run(suite(tmp_path, nodes="many", test_it=SUITE), "-k", "test_sync")

    assert done.returncode == 1
    assert "handoff_nodes = many: it must be a number" in done.stdout


def test_the_fixture_is_listed_with_what_it_is(tmp_path: Path) -> None:
    listed = pytest_run(suite(tmp_path), "--fixtures")

    assert "handoff_cluster [session scope]" in listed.stdout


def test_a_suite_that_does_not_use_it_does_not_wait_for_it(tmp_path: Path) -> None:
    (tmp_path / "test_none.py").write_text(
        "import sys\n\n\ndef test_none():\n    assert 'handoff_actors.client.session' not in sys.modules\n"
    )

    done = pytest_run(tmp_path)

    assert done.returncode == 0, done.stdout
