"""Starts of nodes among what others have planted, starts that fail, and starts that take too long."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

import handoff_actors as handoff
from handoff_actors.actors.node import daemon
from handoff_actors.actors.node.daemon import DaemonOptions, run_daemon
from handoff_actors.actors.node.limits import MemoryOptions
from handoff_actors.store.directories import make
from tests.cli.command import handoff_started
from tests.daemons import LOOKS_EVERY_S, Daemons, environment
from tests.stored import values_in

pytestmark = pytest.mark.processes

DEAD = "handoff-0123456789abcdef01234567"
NOBODY = 65534
#: An app that runs something on a node within its process.
APP = (
    "import handoff_actors as h; d = h.new(); d.call(sum, [1, 2], id='s'); print(h.run_sync(d).results['s'])"
)


# --- Planted things ---------------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A place as /tmp is, with a FIFO of a node's name, links, and directories of the user's own."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o1777)
    for name in (DEAD, "handoff-x"):
        os.mkfifo(place / name)
        if os.geteuid() == 0:
            os.chown(place / name, NOBODY, NOBODY)
    (place / "handoff-results-2026").mkdir()
    (place / "handoff-results-2026" / "thesis.csv").write_text("a year of work")
    (place / "handoff-actors" / "src").mkdir(parents=True)
    (place / f"{DEAD[:-1]}8").symlink_to(place / "handoff-results-2026")
    for path in place.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    return place


def things_in(place: Path) -> set[tuple[Path, int]]:
    return {(path, stat.S_IFMT(path.lstat().st_mode)) for path in place.rglob("*")}


@pytest.mark.parametrize("option", ["--spill-dir", "--store-dir", "TMPDIR"])
@pytest.mark.timeout(20)
def test_node_starts_among_planted_things_and_leaves_them_as_they_were(
    daemons: Daemons, shared: Path, option: str
) -> None:
    before = things_in(shared)
    options = (option, str(shared)) if option.startswith("--") else ()
    variables = {} if options else {"TMPDIR": str(shared)}

    node = daemons.start("--cpu", "1", *options, variables=variables)
    status = node.terminate()

    assert status == 0
    assert things_in(shared) == before
    # It may remove what nodes of other tests have left elsewhere.
    assert f"removing {shared}" not in node.log()


@pytest.mark.timeout(20)
def test_app_with_a_node_of_its_own_starts_among_them_too(shared: Path) -> None:
    before = things_in(shared)
    variables = environment(TMPDIR=str(shared))

    done = subprocess.run(
        [sys.executable, "-c", APP], env=variables, capture_output=True, text=True, check=True
    )

    assert done.stdout == "3\n"
    assert things_in(shared) == before


def test_what_a_dead_node_has_left_is_removed_and_logged(daemons: Daemons, tmp_path: Path) -> None:
    os.close(make(tmp_path / DEAD))
    (tmp_path / DEAD / "value").touch()

    node = daemons.start("--cpu", "1", "--spill-dir", str(tmp_path))

    node.wait_until(lambda: not (tmp_path / DEAD).exists())
    node.wait_for_log(f"removing {tmp_path / DEAD}, which a node that was killed has left behind")


def test_app_says_nothing_of_what_a_dead_node_has_left(tmp_path: Path) -> None:
    os.close(make(tmp_path / DEAD))
    removed = "import threading as t; [s.join() for s in t.enumerate() if s.name == 'handoff orphans']"

    done = subprocess.run(
        [sys.executable, "-c", f"{APP}; {removed}"],
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )

    assert not (tmp_path / DEAD).exists()
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_link_that_a_function_has_made_in_the_store_leads_to_no_removal(
    daemons: Daemons, tmp_path: Path
) -> None:
    node = daemons.start("--cpu", "1")
    (tmp_path / "thesis.csv").write_text("a year of work")

    async def run_and_release() -> None:
        async with handoff.Session(seeds=[node.address]) as session:
            dag = handoff.DAG().add_function(handoff.Function("made", [], bytes, extra_args=[1_000_000]))
            run = await session.execute_distributed(dag.add_function(handoff.Function("len", ["made"], len)))
            [file] = node.stored()
            for name in (file.name, f"{file.name}.2", "spare-0", f"{file.name}.fetch1"):
                (node.store / name).unlink(missing_ok=True)
                (node.store / name).symlink_to(tmp_path / "thesis.csv")
            await run.release()

    asyncio.run(run_and_release())
    node.terminate()

    assert (tmp_path / "thesis.csv").read_text() == "a year of work"
    assert node.leftovers() == []


# --- Starts that fail -------------------------------------------------------------------------------------------


async def test_start_that_fails_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDOFF_SPILL_DIR", str(tmp_path))
    monkeypatch.setenv("HANDOFF_STORE_DIR", str(tmp_path))
    # The same error as where no more processes can be made.
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))

    async with handoff.Session(seeds=()) as session:
        with pytest.raises(FileNotFoundError):
            await session.register_local_node({"cpu": 1})

    assert values_in(tmp_path) == []


# --- Starts that take long --------------------------------------------------------------------------------------


@pytest.mark.parametrize("join_wait", ["0", "30"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_start_that_waits_for_others(
    daemons: Daemons, mute_seed: str, tmp_path: Path, number: signal.Signals, join_wait: str
) -> None:
    options = ("--listen", "tcp://127.0.0.1:0", "--join", mute_seed, "--spill-dir", str(tmp_path),
               "--join-wait", join_wait)  # fmt: skip
    node = handoff_started("node", *options, "--log-level", "debug")
    # The store is what a start begins with.
    until_there_is_something_in(tmp_path, node)

    node.send_signal(number)
    out, said = node.communicate(timeout=15)

    assert node.returncode == 0
    assert out == ""
    assert "told to stop before it served" in said
    assert "Traceback" not in said
    assert values_in(tmp_path) == []


def until_there_is_something_in(place: Path, node: "subprocess.Popen[str]") -> None:
    while not list(place.iterdir()):
        with suppress(subprocess.TimeoutExpired):
            node.wait(LOOKS_EVERY_S)
            raise AssertionError(node.communicate())


async def test_start_has_a_limit(mute_seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "START_S", 1.0)
    memory = MemoryOptions(spill_dir=tmp_path)
    options = DaemonOptions("n1", {"cpu": 1}, 1, "tcp://127.0.0.1:0", join=[mute_seed], memory=memory)

    with pytest.raises(handoff.HandoffError, match="did not come to serve within 1 s"):
        await run_daemon(options, lambda _: nullcontext())

    assert values_in(tmp_path) == []
