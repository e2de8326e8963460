"""Modules and scripts that start a program when they are imported: it starts once, in the process that runs it."""

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import handoff_actors as handoff

pytestmark = pytest.mark.processes

#: Ends whatever process imports a module for the twelfth time: a guard that fails must not take the machine down.
FUSE = """
import os
with open(__file__ + ".imports", "a+") as imports:
    imports.write("x")
    if imports.tell() > 12:
        os._exit(9)
"""
#: Does what stands below in every process but the one of the tests.
ELSEWHERE = f"""
import asyncio, sys, threading
import handoff_actors as handoff
from handoff_actors.integrations.background import BackgroundSession
{FUSE}
errors = []

def count(line):
    return len(line.split())

async def count_slowly(line):
    return len(line.split())

class Line:
    def __init__(self, text):
        self.text = text

def started():
    return [type(error).__name__ for error in errors]

def started_later():
    go.set()
    thread.join()
    return started()

def a_dag():
    dag = handoff.new()
    dag.call(count, "a b", id="count")
    return dag

def run():
    handoff.run_sync(a_dag(), progress=False)

def note():
    try:
        run()
    except Exception as error:
        errors.append(error)

async def run_in_group():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(handoff.execute_distributed(a_dag(), progress=False))

async def run_with_a_node():
    async with handoff.Session((), local_node={{"cpu": 1}}) as session:
        await session.execute_distributed(a_dag(), progress=False)

async def start_cluster():
    async with handoff.LocalCluster(1):
        pass

def run_and_exit():
    try:
        run()
    except handoff.HandoffError:
        status = 1
    sys.exit(status)

if os.getpid() != {os.getpid()}:
    START
"""
STARTS = {
    "run_sync": "run()",
    "asyncio_run": "asyncio.run(run_with_a_node())",
    "task_group": "asyncio.run(run_in_group())",
    "default_session": "asyncio.run(handoff.discover_nodes())",
    "local_node": 'asyncio.run(handoff.register_local_node({"cpu": 1}))',
    "executor": "list(handoff.Executor(1).map(count, ['a b']))",
    "background_session": "BackgroundSession()",
    "local_cluster": "handoff.LocalCluster(1).start()",
    "async_local_cluster": "asyncio.run(start_cluster())",
    "sys_exit": "run_and_exit()",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that nodes and workers import from, too."""
    with pytest.MonkeyPatch.context() as patch:
        made = tmp_path_factory.mktemp("modules")
        patch.syspath_prepend(str(made))
        yield made


@pytest.fixture(scope="module")
def cluster(directory: Path) -> Iterator[handoff.LocalCluster]:
    assert str(directory) in sys.path
    with handoff.LocalCluster(1, cpu=2) as cluster:
        yield cluster


@pytest.fixture
def starting(directory: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], ModuleType]]:
    """Gives a module that starts something when another process imports it."""
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)

    def make(start: str) -> ModuleType:
        (directory / f"{name}.py").write_text(ELSEWHERE.replace("START", start), encoding="utf-8")
        return importlib.import_module(name)

    yield make
    sys.modules.pop(name, None)


def outcome(cluster: handoff.LocalCluster, function: Callable[..., Any], *args: object) -> Any:
    dag = handoff.new()
    dag.call(function, *args, id="f", max_retries=0)
    return cluster.run_sync(dag, progress=False).results["f"]


def refusal(
    cluster: handoff.LocalCluster, function: Callable[..., Any], *args: object
) -> handoff.UnguardedStart:
    """The error of a function that needs a module that starts something."""
    seen: list[handoff.RunEvent] = []
    dag = handoff.new()
    dag.call(function, *args, id="f")

    with pytest.raises(handoff.UnguardedStart) as caught:
        cluster.run_sync(dag, progress=False, on_event=seen.append)

    error = caught.value
    assert error.function_id == "f"
    assert "function 'f' on node 'n1'" in str(error)
    assert 'if __name__ == "__main__":' in str(error)
    assert not any(isinstance(event, handoff.events.Retried) for event in seen)
    assert pickle.loads(pickle.dumps(error)).module == error.module
    return error


@pytest.mark.parametrize("start", STARTS)
def test_import_for_a_function_starts_nothing(
    start: str, cluster: handoff.LocalCluster, starting: Callable[[str], ModuleType]
) -> None:
    module = starting(STARTS[start])

    error = refusal(cluster, module.count, "a b c")

    assert module.__name__ in error.module


def test_import_for_a_coroutine_function_starts_nothing(
    cluster: handoff.LocalCluster, starting: Callable[[str], ModuleType]
) -> None:
    module = starting(STARTS["asyncio_run"])

    error = refusal(cluster, module.count_slowly, "a b c")

    assert module.__name__ in error.module
    assert error.what == "an event loop"


def test_import_for_an_argument_starts_nothing(
    cluster: handoff.LocalCluster, starting: Callable[[str], ModuleType]
) -> None:
    module = starting(STARTS["run_sync"])

    error = refusal(cluster, type, module.Line("a b c"))

    assert f"module '{module.__name__}'" in str(error)
    assert "line " in error.module


def test_import_for_code_by_value_starts_nothing(
    cluster: handoff.LocalCluster, starting: Callable[[str], ModuleType]
) -> None:
    module = starting(STARTS["run_sync"])

    error = refusal(cluster, lambda line, count=module.count: count(line), "a b c")

    assert module.__name__ in error.module


def test_import_for_a_call_of_an_executor_starts_nothing(
    cluster: handoff.LocalCluster, starting: Callable[[str], ModuleType]
) -> None:
    module = starting(STARTS["asyncio_run"])

    with (
        handoff.Executor(seeds=cluster.seeds) as executor,
        pytest.raises(handoff.UnguardedStart, match=module.__name__),
    ):
        executor.submit(module.count, "a b c").result()


def test_thread_that_an_import_has_started_starts_nothing(
    cluster: handoff.LocalCluster, starting: Callable[[str], ModuleType]
) -> None:
    module = starting("thread = threading.Thread(target=note); thread.start(); thread.join()")

    assert outcome(cluster, module.started) == ["UnguardedStart"]


def test_thread_that_outlives_the_import_starts_nothing(
    cluster: handoff.LocalCluster, starting: Callable[[str], ModuleType]
) -> None:
    module = starting(
        "go = threading.Event(); thread = threading.Thread(target=lambda: (go.wait(), note())); thread.start()"
    )

    assert outcome(cluster, module.started_later) == ["UnguardedStart"]


def test_refusal_that_the_module_handles_leaves_its_functions_usable(
    cluster: handoff.LocalCluster, starting: Callable[[str], ModuleType]
) -> None:
    module = starting("note()")

    assert outcome(cluster, module.count, "a b c") == 3


SCRIPT = f"""
import asyncio, sys
import handoff_actors as handoff
{FUSE}
def count(line):
    return len(line.split())

async def main():
    dag = handoff.new()
    dag.call(count, "a b c", id="count")
    async with handoff.Session(seeds=()) as session:
        run = await session.execute_distributed(dag, progress=False)
    print(run.results["count"], "words")

asyncio.run(main())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "unguarded_words.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def python(script: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True, check=False)


def test_script_that_is_run_needs_no_guard(script: Path) -> None:
    ended = python(script, str(script))

    assert (ended.stdout, ended.returncode) == ("3 words\n", 0), ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [["-c", "import unguarded_words"], ["-m", "handoff_actors.cli", "run", "unguarded_words:dag"]],
)
def test_script_that_is_imported_ends_with_an_error_that_names_the_guard(
    script: Path, arguments: list[str]
) -> None:
    ended = python(script, *arguments)

    imports = script.with_name(f"{script.name}.imports").read_text(encoding="utf-8")
    assert ended.returncode != 0
    assert "function 'count'" in ended.stderr
    assert 'if __name__ == "__main__":' in ended.stderr
    # The app's own, and one in each worker at most.
    assert len(imports) <= 1 + (os.cpu_count() or 1)


def test_child_of_multiprocessing_that_imports_the_script_starts_nothing(script: Path) -> None:
    text = (
        SCRIPT
        + """
if __name__ == "__main__":
    import multiprocessing
    child = multiprocessing.get_context("spawn").Process(target=count, args=("a",))
    child.start()
    child.join()
    print("child", child.exitcode)
"""
    )
    script.write_text(text, encoding="utf-8")

    ended = python(script, str(script))

    assert ended.stdout == "3 words\nchild 1\n", ended.stderr
    assert "while a process that multiprocessing has started imports it" in ended.stderr
