"""Tests of the progress of runs in a real terminal, in pipes, and in a notebook."""

import fcntl
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.cli.terminal import Terminal, opened_terminal
from tests.client.test_notebook import opened_notebook
from tests.daemons import environment

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

#: Two functions that wait at a gate, one that is done at once, one that fails first; what it is run with is its argument.
APP = """
import asyncio, fcntl, json, logging, sys
import handoff_actors as handoff

gate, marker = sys.argv[1:3]
options = json.loads(sys.argv[3])
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

def wait(path):
    import fcntl
    print("waiting", flush=True)
    with open(path, "rb") as shut:
        fcntl.flock(shut, fcntl.LOCK_SH)

def until_open(path):
    with open(path, "rb") as shut:
        fcntl.flock(shut, fcntl.LOCK_SH)

def fail_once(path):
    import pathlib
    if not pathlib.Path(path).exists():
        pathlib.Path(path).touch()
        raise ValueError("not yet")

async def talk():
    # Whatever the app prints meanwhile.
    await asyncio.to_thread(until_open, marker + ".talk")
    print("the app prints")
    logging.info("the app logs")

async def main():
    async with handoff.LocalCluster(nodes=2, cpu=1) as cluster, cluster.session() as session:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(talk())
            for name in options.pop("runs", ["training"]):
                dag = handoff.DAG(name)
                dag.add_function(handoff.Function("quick", [], int))
                dag.add_function(handoff.Function("failing", [], fail_once, extra_args=[marker]))
                for number in range(2):
                    dag.add_function(handoff.Function(number, ["quick", "failing"], lambda *a: wait(a[-1]), extra_args=[gate], cost={"cpu": 1}))
                tasks.create_task(session.execute_distributed(dag, **options))
    print("the app goes on")

asyncio.run(main())
"""

#: Two functions that report their progress, and wait at the gate.
REPORTING = """
import fcntl, sys
import handoff_actors as handoff

def report(path, *progress):
    handoff.current().set_progress(*progress)
    with open(path, "rb") as shut:
        fcntl.flock(shut, fcntl.LOCK_SH)

dag = handoff.DAG("training")
dag.call(report, sys.argv[1], 3, 10, id="fit")
dag.call(report, sys.argv[1], 1234, id="load")
with handoff.LocalCluster(nodes=1, cpu=2) as cluster:
    cluster.run_sync(dag)
"""


class App:
    """A program that runs `APP`, and the gate that its functions wait at."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.gate = directory / "gate"
        self._shut = _shut(self.gate)
        self._mute = _shut(directory / "marker.talk")
        (directory / "app.py").write_text(APP)

    def command(self, options: str = "{}") -> list[str]:
        return [
            sys.executable,
            str(self.directory / "app.py"),
            str(self.gate),
            str(self.directory / "marker"),
            options,
        ]

    def talk(self) -> None:
        """Let it print, now or as soon as it gets there."""
        self._mute.close()

    def open_gate(self) -> None:
        """Let its functions go on."""
        self._shut.close()


def _shut(gate: Path) -> BinaryIO:
    """A file at which others wait until this one is closed."""
    shut = gate.open("wb")
    fcntl.flock(shut, fcntl.LOCK_EX)
    return shut


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    made = App(tmp_path)
    yield made
    made.talk()
    made.open_gate()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with opened_terminal(tmp_path) as opened:
        yield opened


def test_a_terminal_has_a_live_bar_and_what_is_printed_goes_above_it(app: App, terminal: Terminal) -> None:
    terminal.start(app.command(), environment(), columns=110)
    live = terminal.wait_for("training ", "2/4 done, 2 running, 1 retried", "n1: 1 running; n2: 1 running")
    app.talk()
    talked = terminal.wait_for("the app prints", "INFO the app logs", "2/4 done, 2 running")
    app.open_gate()
    ended = terminal.wait_for("training: done in ", "the app goes on", "exit status 0")

    assert "━" in live
    assert re.search(r"/s, \d+:\d\d left", live)
    lines = [line.rstrip() for line in talked.splitlines()]
    # Nothing is torn apart, and the bar is the last.
    assert {"the app prints", "INFO the app logs"} <= set(lines)
    assert lines.index("the app prints") < next(i for i, line in enumerate(lines) if "2/4 done" in line)
    assert sum("2/4 done" in line for line in lines) == 1
    # The bar is gone; what was printed, and its last line, have stayed.
    assert "━" not in ended
    assert "4/4 done, 1 retried" in ended
    waiting = sorted(line for line in lines if line.endswith("waiting"))
    # Which of the two goes first to which node differs from app to app.
    assert waiting in (["[n1 0] waiting", "[n2 1] waiting"], ["[n1 1] waiting", "[n2 0] waiting"])


def test_functions_that_report_have_lines_below_the_bar(app: App, terminal: Terminal) -> None:
    (app.directory / "app.py").write_text(REPORTING)
    terminal.start(app.command(), environment(), columns=110)
    live = terminal.wait_for("0/2 done, 2 running", "fit: 3/10 (30 %)", "load: 1234")
    app.open_gate()
    terminal.wait_for("training: done in ", "exit status 0")

    assert re.search(r"/s, \d+:\d\d left", live), "a part of a function counts"


def test_runs_at_once_share_the_display(app: App, terminal: Terminal) -> None:
    terminal.start(app.command('{"runs": ["first", "second"], "progress": true}'), environment())
    app.talk()
    both = terminal.wait_for("first ", "second ", "2/4 done")
    app.open_gate()
    ended = terminal.wait_for("first: done in ", "second: done in ", "exit status 0")

    assert len([line for line in both.splitlines() if "━" in line]) == 2
    assert "━" not in ended


def test_colours_are_left_out_where_they_are_not_wanted(app: App) -> None:
    written = {}
    app.open_gate()
    for variable in ("NO_COLOR", "WITH_COLOR"):
        (app.directory / "marker").touch()
        app.talk()
        command = ["script", "-qec", " ".join(map(repr, app.command('{"progress": true}'))), "/dev/null"]
        variables = {variable: "1", "TERM": "xterm-256color"}
        written[variable] = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment(**variables),
            check=True,
            timeout=40,
        ).stdout

    assert all("training: done in " in text for text in written.values())
    assert not re.search(r"\x1b\[(3\d|9\d|38;)", written["NO_COLOR"])
    assert re.search(r"\x1b\[(3\d|9\d|38;)", written["WITH_COLOR"])


def piped(app: App, options: str, **variables: str) -> tuple[str, str]:
    """Run the app with pipes. Give the text that it writes to stdout and to stderr."""
    app.talk()
    app.open_gate()
    ended = subprocess.run(
        app.command(options),
        capture_output=True,
        text=True,
        env=environment(**variables),
        check=False,
        timeout=40,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("options", "variables"),
    [("{}", {}), ('{"progress": false}', {"HANDOFF_PROGRESS": "1"}), ("{}", {"HANDOFF_PROGRESS": "0"})],
)
def test_short_runs_and_those_that_are_not_to_be_shown_write_nothing(
    app: App, options: str, variables: dict[str, str]
) -> None:
    _, errors = piped(app, options, **variables)

    assert "INFO the app logs\n" in errors
    assert "handoff" not in errors, errors


@pytest.mark.parametrize(
    ("options", "variables"), [('{"progress": true}', {}), ("{}", {"HANDOFF_PROGRESS": "1", "TERM": "dumb"})]
)
def test_piped_progress_is_plain_lines_and_a_last_one(
    app: App, options: str, variables: dict[str, str]
) -> None:
    printed, errors = piped(app, options, **variables)

    first, *_, last = [line for line in errors.splitlines() if line.startswith("handoff: ")]
    assert re.fullmatch(
        r"handoff: training: \d/4 done, \d running(, 1 retried)?, .* left; n1: .*; n2: .*", first
    )
    assert re.fullmatch(r"handoff: training: done in [\d.]+ m?s, 4/4 done, 1 retried", last)
    assert "\x1b" not in printed + errors
    assert "handoff:" not in printed


CELL = """
import time
import handoff_actors as handoff

def slow(number):
    print("number", number)
    time.sleep(0.4)

dag = handoff.DAG("slow")
for number in range(4):
    dag.add_function(handoff.Function(number, [], slow, extra_args=[number], cost={"cpu": 1}))
session = handoff.Session(seeds=(), local_node={"cpu": 1}, name="here")
await session.start()
"""


STREAM_CELL = """
stream = handoff.DAG("stream")
stream.call(slow, stream.call(None, type="input", id="number"), id="slow")
async with session.stream(stream, output=False) as pipeline:
    results = [item async for item in pipeline.map(range(2))]
"""


def test_a_notebook_shows_it_below_the_cell() -> None:
    with opened_notebook() as notebook:
        notebook.run(CELL)
        shown = notebook.run("run = await session.execute_distributed(dag)")
        kept = notebook.outputs()
        notebook.run("await session.close()")

    assert "slow: done in " in shown
    assert "4/4 done" in shown
    streams = "".join(output.text for output in kept if output.output_type == "stream")
    assert sorted(streams.splitlines()) == [f"[here {number}] number {number}" for number in range(4)]
    [live] = [output for output in kept if output.output_type == "display_data"]
    assert '<progress value="4" max="4">' in live.data["text/html"]


def test_a_notebook_shows_the_stages_of_a_stream() -> None:
    with opened_notebook() as notebook:
        notebook.run(CELL)
        shown = notebook.run(STREAM_CELL)
        [live] = notebook.outputs()
        notebook.run("await session.close()")

    assert "stream: done in " in shown
    assert "2 items done" in shown
    assert live.output_type == "display_data"
    assert "<progress" not in live.data["text/html"]


def test_a_notebook_can_do_without() -> None:
    with opened_notebook() as notebook:
        notebook.run(CELL)
        shown = notebook.run("run = await session.execute_distributed(dag, progress=False, output=False)")
        notebook.run("await session.close()")

    assert "done" not in shown
