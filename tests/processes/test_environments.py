"""Variables and directories of functions and runs, in the workers of a node within this process, and of daemons."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import handoff_actors as handoff
from handoff_actors.actors.app.packages import INCLUDE_VARIABLE, LIMIT_VARIABLE
from tests.daemons import Daemon, Daemons
from tests.processes.app import App, single
from tests.processes.surroundings import determined_by_variables, look, look_later, read, version_of

pytestmark = pytest.mark.processes

NAMES = ("COLOUR", "SIZE", "HOME")


def place(parent: Path, name: str, version: int = 1) -> Path:
    """A directory with a module and a package of its own, and a file."""
    directory = parent / name
    (directory / "steps").mkdir(parents=True)
    (directory / "note.txt").write_text(name, encoding="utf-8")
    for module in ("only_there.py", "steps/__init__.py", "steps/first.py"):
        (directory / module).write_text(
            f"VERSION = {version}\ndef work(n):\n    return n + VERSION\n", encoding="utf-8"
        )
    return directory


# --- Variables --------------------------------------------------------------------------------------------------


async def test_variables_of_function_and_run_are_there_while_it_runs_and_then_as_before(app: App) -> None:
    dag = handoff.DAG()
    dag.add_function(
        handoff.Function("own", [], look, extra_args=NAMES, env_vars={"COLOUR": "red", "HOME": "/x"})
    )
    dag.add_function(handoff.Function("of run", [], look, extra_args=NAMES))

    run = await app.run(dag, env_vars={"COLOUR": "blue", "SIZE": "9"})
    after = await app.call(look, *NAMES)

    assert run.results["own"][1] == {"COLOUR": "red", "SIZE": "9", "HOME": "/x"}
    assert run.results["of run"][1] == {"COLOUR": "blue", "SIZE": "9", "HOME": os.environ.get("HOME")}
    assert after[1] == {"COLOUR": None, "SIZE": None, "HOME": os.environ.get("HOME")}


async def test_what_variables_determine_follows_them(app: App, tmp_path: Path) -> None:
    names = {"TZ": "Asia/Tokyo", "TMPDIR": str(tmp_path)}
    before = await app.call(determined_by_variables)

    within = await app.run(single(determined_by_variables, env_vars=names))
    after = await app.call(determined_by_variables)

    assert within.results["only"] == (-9 * 3600, str(tmp_path))
    assert before == after != within.results["only"]


async def test_one_worker_has_many_environments_one_after_the_other() -> None:
    async with handoff.Session(local_node={"cpu": 1}) as session:
        dag = handoff.DAG()
        for number in range(20):
            env_vars = {"COLOUR": str(number % 3)} if number % 3 else None
            dag.add_function(handoff.Function(number, [], look, extra_args=["COLOUR"], env_vars=env_vars))

        run = await session.execute_distributed(dag)

    colours = [run.results[number][1]["COLOUR"] for number in range(20)]
    assert colours == [str(number % 3) if number % 3 else None for number in range(20)]
    assert len({run.results[number][2] for number in range(20)}) == 1


async def test_coroutine_with_variables_does_not_share_its_process_with_others(app: App) -> None:
    dag = handoff.DAG()
    dag.add_function(handoff.Function("own", [], look_later, extra_args=NAMES, env_vars={"COLOUR": "red"}))
    dag.add_function(handoff.Function("other", [], look_later, extra_args=NAMES))

    run = await app.run(dag)

    assert run.results["own"][1]["COLOUR"] == "red"
    assert run.results["other"][1]["COLOUR"] is None
    assert run.results["own"][2] != run.results["other"][2]


async def test_chain_keeps_each_functions_variables_where_it_runs_as_a_fused_group(app: App) -> None:
    def chain() -> handoff.DAG:
        dag = handoff.DAG()
        for number in range(30):
            args = [number - 1] if number else []
            env_vars = {"COLOUR": str(number)} if number % 2 else None
            dag.add_function(handoff.Function(number, args, _seen, env_vars=env_vars))
        return dag

    for _ in range(3):
        run = await app.run(chain())

        assert run.results[29] == [str(number) if number % 2 else None for number in range(30)]


def _seen(before: list[str | None] | None = None) -> list[str | None]:
    return [*(before or []), os.environ.get("COLOUR")]


# --- Directories ------------------------------------------------------------------------------------------------


async def test_function_works_in_its_directory_and_imports_from_it(app: App, tmp_path: Path) -> None:
    one, other = place(tmp_path, "one", 1), place(tmp_path, "other", 2)
    dag = handoff.DAG()
    for number in range(6):
        directory = (one, str(other), None)[number % 3]
        dag.add_function(handoff.Function(number, [], _version_and_note, working_dir=directory))

    run = await app.run(dag, working_dir=one)

    expected = [(1, 1, "one"), (2, 2, "other"), (1, 1, "one")] * 2
    assert [run.results[number] for number in range(6)] == expected
    assert (await app.call(look))[0] == str(Path.cwd())


def _version_and_note() -> tuple[int, int, str]:
    return version_of("only_there"), version_of("steps.first"), read("note.txt")


async def test_function_of_a_module_in_the_directory_goes_by_reference(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = place(tmp_path, "one", 1), place(tmp_path, "other", 2)
    monkeypatch.chdir(one)
    monkeypatch.syspath_prepend(str(one))
    import only_there  # type: ignore[import-not-found]  # noqa: PLC0415

    dag = handoff.DAG()
    for number in range(4):
        directory = (".", other)[number % 2]
        dag.add_function(
            handoff.Function(number, [], only_there.work, extra_args=[10], working_dir=directory)
        )

    run = await app.run(dag)

    assert [run.results[number] for number in range(4)] == [11, 12, 11, 12]


async def test_each_run_sees_the_directory_as_it_is_then(app: App, tmp_path: Path) -> None:
    directory = place(tmp_path, "one", 1)
    first = await app.call(version_of, "only_there", working_dir=directory)
    (directory / "only_there.py").write_text("VERSION = 12345\n", encoding="utf-8")

    second = await app.call(version_of, "only_there", working_dir=directory)

    assert (first, second) == (1, 12345)


async def test_missing_directory_is_an_error_that_names_function_node_and_directory(app: App) -> None:
    with pytest.raises(handoff.EnvironmentFailed) as caught:
        await app.call(look, working_dir="/no/such/place")

    assert (caught.value.function_id, caught.value.node) == ("only", app.node.name)
    assert "'/no/such/place' is no directory on this node" in str(caught.value)
    assert (await app.call(look))[0] == str(Path.cwd())


async def test_directory_that_can_not_be_entered_is_an_error(app: App, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(handoff.EnvironmentFailed, match="is no directory on this node"):
        await app.call(look, working_dir=file)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"env_vars": {"A": 1}}, "env_vars"),
        ({"env_vars": {"A=B": "1"}}, "env_vars"),
        ({"working_dir": ""}, "working_dir"),
        ({"working_dir": 3}, "working_dir"),
    ],
)
async def test_what_can_be_no_environment_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(handoff.HandoffError, match=f"{named} must be None or"):
        single(look, **options)
    async with handoff.Session(seeds=()) as session:
        with pytest.raises(ValueError, match=f"{named}=.*: it must be"):
            await session.execute_distributed(single(look), **options)


# --- Directories that nodes lack --------------------------------------------------------------------------------

#: A file system of its own for what follows, with nothing below that directory.
WITHOUT = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')


@pytest.fixture
def nodes_elsewhere(daemons: Daemons, tmp_path: Path) -> list[Daemon]:
    """Two nodes that can import these tests, and don't see the directory of this one."""
    if os.geteuid() != 0 or subprocess.run([*WITHOUT, tmp_path, "true"], check=False).returncode:
        pytest.skip("a file system that only one process sees needs root and `unshare`")
    prefix = (*WITHOUT, str(tmp_path))
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "HANDOFF_CHECK": "1"}
    first = daemons.start("--name", "n1", "--cpu", "2", variables=variables, prefix=prefix)
    options = ("--name", "n2", "--cpu", "2", "--join", first.address)
    return [first, daemons.start(*options, variables=variables, prefix=prefix)]


@pytest.fixture
async def session(nodes_elsewhere: list[Daemon]) -> AsyncIterator[handoff.Session]:
    async with handoff.Session(seeds=[nodes_elsewhere[1].address]) as session:
        yield session


async def test_directory_that_nodes_lack_is_sent_to_each_that_needs_it(
    session: handoff.Session, nodes_elsewhere: list[Daemon], tmp_path: Path
) -> None:
    directory = place(tmp_path, "one", 7)
    script = directory / "run.sh"
    script.write_text("#!/bin/sh\necho from the script\n", encoding="utf-8")
    script.chmod(0o755)
    dag = handoff.DAG()
    for number in range(20):
        dag.add_function(handoff.Function(number, [], _version_and_note, cost={"cpu": 1}))
    dag.add_function(handoff.Function("script", [], _output_of, extra_args=["./run.sh"]))
    dag.add_function(handoff.Function("there", [], look))

    run = await session.execute_distributed(dag, working_dir=directory)

    assert {run.results[number] for number in range(20)} == {(7, 7, "one")}
    assert {run.allocations[number] for number in range(20)} == {"n1", "n2"}
    assert run.results["script"] == "from the script\n"
    there = Path(run.results["there"][0])
    assert there.name.endswith(".unpacked")
    await run.release()
    for node in nodes_elsewhere:
        node.wait_until(lambda: not there.exists())


def _output_of(command: str) -> str:
    return subprocess.run([command], check=True, capture_output=True, text=True).stdout


async def test_directory_is_sent_for_functions_that_a_function_adds(
    session: handoff.Session, tmp_path: Path
) -> None:
    directory = place(tmp_path, "one")
    called = asyncio.create_task(session.call(_read_on, ["n1", "n2"] * 3, working_dir=directory))

    while not called.done():
        # Whatever ends, what the run does not need any more is dropped.
        assert await session.call(len, "some") == 4

    assert await called == "one"


def _read_on(nodes: list[str]) -> Any:
    if not nodes:
        return Path("note.txt").read_text(encoding="utf-8")
    dag = handoff.new()
    return handoff.Subgraph(dag, result=dag.call(_read_on, nodes[1:], node=nodes[0]))


async def test_directory_that_is_too_large_to_be_sent_is_an_error_that_says_so(
    session: handoff.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = place(tmp_path, "one")
    (directory / "large").write_bytes(bytes(1_100_000))
    monkeypatch.setenv(LIMIT_VARIABLE, "1")

    with pytest.raises(handoff.EnvironmentFailed) as caught:
        await session.execute_distributed(single(look), working_dir=directory)

    assert caught.value.function_id == "only"
    assert caught.value.node in {"n1", "n2"}
    assert f"working_dir {str(directory)!r} is not on this node" in str(caught.value)
    assert "there are more than 1 MB" in str(caught.value)


@pytest.mark.parametrize("asked_for", [[], [".env"]], ids=["", "with .env"])
async def test_what_tools_keep_for_themselves_is_not_sent_nor_are_secrets_unless_asked_for(
    session: handoff.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_for: list[str]
) -> None:
    monkeypatch.setenv(INCLUDE_VARIABLE, ",".join(asked_for))
    directory = place(tmp_path, "one")
    for left_out in (".git/HEAD", "steps/__pycache__/x.pyc", "own_venv/pyvenv.cfg", "own_venv/lib/x"):
        (directory / left_out).parent.mkdir(parents=True, exist_ok=True)
        (directory / left_out).touch()
    (directory / "broken").symlink_to("nowhere")
    (directory / "linked.txt").symlink_to("note.txt")
    (directory / ".env").touch()

    run = await session.execute_distributed(single(_names_here), working_dir=directory)

    assert run.results["only"] == [
        *asked_for, "linked.txt", "note.txt", "only_there.py", "steps/__init__.py", "steps/first.py",
    ]  # fmt: skip


def _names_here() -> list[str]:
    here = Path()
    return sorted(str(path) for path in here.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


async def test_directory_outlives_the_worker_that_has_unpacked_it(
    session: handoff.Session, tmp_path: Path
) -> None:
    dag = handoff.DAG()
    dag.add_function(handoff.Function("dies", [], _die_once_and_read, max_retries=0, node="n1"))
    dag.add_function(handoff.Function("later", ["dies"], _note_of, node="n1"))

    run = await session.execute_distributed(dag, working_dir=place(tmp_path, "one"))

    assert run.results["later"] == "one"


def _die_once_and_read() -> str:
    mark = Path("mark")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return read("note.txt")


def _note_of(before: str) -> str:
    assert before == read("note.txt")
    return before
