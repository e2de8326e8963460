import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.cli.command import handoff, handoff_on_terminal, handoff_started
from tests.daemons import HANDOFF, Daemons, environment

pytestmark = pytest.mark.processes


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)


def store_of(worker: psutil.Process) -> Path:
    """Find the store of a process, which its zygote has on its command line."""
    return next(Path(word) for word in worker.parent().cmdline() if "/handoff-" in word)


@pytest.mark.parametrize("target", ["jobs:fine", "jobs:DAG_OBJECT", "jobs.py:fine"])
def test_sinks_are_printed(jobs: Path, target: str) -> None:
    done = handoff("run", target, cwd=jobs)

    assert done.returncode == 0, done.stderr
    printed, result = done.stdout.splitlines()
    assert printed.endswith(" total] adding up")
    assert result == "total = 1770"


def test_cluster_runs_a_module_that_only_the_app_has(daemons: Daemons, jobs: Path) -> None:
    cluster = daemons.cluster(3, "--cpu", "2")

    done = handoff("run", "jobs:fine", "--join", cluster[2].address, "--json", cwd=jobs)

    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["results"] == {"total": 1770}
    assert {entry["node"] for entry in outcome["functions"].values()} == {"n1", "n2", "n3"}


def test_json_is_all_that_stdout_gets(jobs: Path) -> None:
    done = handoff("run", "jobs:fine", "--json", "--fetch", "7", cwd=jobs)

    outcome = json.loads(done.stdout)
    assert outcome["dag"] == "fine"
    assert outcome["results"] == {"7": {"x": 7}, "total": 1770}
    assert outcome["functions"]["total"]["attempts"] == 1
    assert "adding up" in done.stderr


def test_a_journal_spares_the_next_run_what_was_done(jobs: Path) -> None:
    first = handoff("run", "jobs:fine", "--journal", "run.db", cwd=jobs)
    second = handoff("run", "jobs:fine", "--journal", "run.db", cwd=jobs)

    assert first.stdout.endswith(" total] adding up\ntotal = 1770\n")
    assert second.stdout == "total = 1770\n"
    assert second.stderr.splitlines()[-1].startswith("61 function(s), 61 of them reused, in ")


def test_piped_progress_is_lines_on_stderr(jobs: Path) -> None:
    done = handoff("run", "jobs:fine", cwd=jobs)

    first, *_, ended, summary = done.stderr.splitlines()
    assert first.startswith("handoff: fine: ")
    assert ended.startswith("handoff: fine: done in ")
    assert ended.endswith(", 61/61 done")
    assert summary.startswith("61 function(s) in ")
    assert "\x1b" not in done.stderr


def test_terminal_gets_a_bar(jobs: Path) -> None:
    written = handoff_on_terminal("run", "jobs:fine", cwd=jobs)

    assert "━" in written
    assert "61/61 done" in written
    assert "total = 1770" in written


@pytest.mark.parametrize("is_cluster", [False, True])
def test_failure_tells_function_node_and_traceback(daemons: Daemons, jobs: Path, is_cluster: bool) -> None:
    join = ("--join", daemons.start("--name", "n1").address) if is_cluster else ()

    failed = handoff("run", "jobs:failing", *join, cwd=jobs)

    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "Error: function 'fail' failed on node " in failed.stderr
    assert "after 2 attempt(s)" in failed.stderr
    assert 'raise LookupError(f"nothing at {point}")' in failed.stderr
    assert "LookupError: nothing at Point(x=7)" in failed.stderr
    assert "handoff_actors/" not in failed.stderr


def test_failure_as_json(jobs: Path) -> None:
    failed = handoff("run", "jobs:failing", "--json", cwd=jobs)

    error = json.loads(failed.stdout)["error"]
    assert failed.returncode == 1
    assert (error["type"], error["function"], error["attempts"]) == ("FunctionFailed", "fail", 2)
    assert "LookupError: nothing at Point(x=7)" in error["traceback"]


def test_timeout_ends_the_run(jobs: Path) -> None:
    ended = handoff("run", "jobs:waiting", "--timeout", "0.5", cwd=jobs)

    assert ended.returncode == 1
    assert "Error: the run did not end within 0.5 s" in ended.stderr


def test_interrupt_cancels_the_run_on_the_cluster(daemons: Daemons, jobs: Path) -> None:
    daemon = daemons.start("--cpu", "1")
    with handoff_started("run", "jobs:waiting", "--join", daemon.address, cwd=jobs) as run:
        assert run.stdout is not None
        worker = psutil.Process(int(run.stdout.readline().split()[-1]))

        run.send_signal(signal.SIGINT)
        results, said = run.communicate()

    assert run.returncode == 130
    assert results == ""
    assert said.splitlines()[-2].startswith("handoff: waiting: cancelled in ")
    assert said.splitlines()[-1] == "cancelled"
    assert has_ended(worker)
    (node,) = json.loads(handoff("nodes", "--join", daemon.address, "--json").stdout)
    assert node["spare"] == node["capabilities"]
    assert (node["running"], node["queued"]) == (0, 0)


def test_interrupt_from_the_terminal_ends_the_embedded_node_too(jobs: Path) -> None:
    with handoff_started("run", "jobs:waiting", cwd=jobs) as run:
        assert run.stdout is not None
        worker = psutil.Process(int(run.stdout.readline().split()[-1]))
        store = store_of(worker)
        assert store.exists()

        # A terminal sends it to every process of the group, too.
        os.killpg(run.pid, signal.SIGINT)
        _, said = run.communicate()

    assert run.returncode == 130
    assert said.splitlines()[-1] == "cancelled"
    assert not store.exists()
    assert has_ended(worker)


@pytest.mark.parametrize(
    ("target", "options", "complaint"),
    [
        ("jobs:sized", [], "missing a required argument: 'n'. The signature is sized(n: int, tag='all')"),
        ("jobs:sized", ["--n", "5"], "given as NAME=VALUE"),
        ("jobs:fine", ["--env", "LEVEL"], "one looks like LEVEL=3"),
        ("jobs:fine", ["--timeout", "nan"], "'nan' is no number of seconds"),
        ("jobs:fine", ["--fetch", "nothing"], "has no function 'nothing'"),
        ("jobs:fine", ["--strategy", "best"], "'locality'"),
    ],
)
def test_wrong_use_is_told(jobs: Path, target: str, options: list[str], complaint: str) -> None:
    refused = handoff("run", target, *options, cwd=jobs)

    assert refused.returncode == 2
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr


def test_errors_of_a_function_that_makes_a_dag_are_json(jobs: Path) -> None:
    refused = handoff("run", "jobs:broken", "--json", cwd=jobs)

    error = json.loads(refused.stdout)["error"]
    assert refused.returncode == 1
    assert (error["type"], error["message"]) == ("LookupError", "nothing at home")
    assert "in broken" in error["traceback"]
    assert refused.stderr.startswith("Error: jobs:broken has failed\nTraceback")


def test_file_that_bears_the_name_of_another_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("")

    refused = handoff("run", "json.py:dag", cwd=tmp_path)

    assert refused.returncode == 2
    assert "rename it" in refused.stderr


def test_quiet_prints_results_only(jobs: Path) -> None:
    done = handoff("run", "--quiet", "jobs:sized", "--", "n=4", cwd=jobs)

    assert (done.returncode, done.stdout, done.stderr) == (0, "total = 6\n", "")


def test_quiet_prints_nothing_but_errors_of_a_run_that_fails(jobs: Path) -> None:
    failed = handoff("run", "-q", "jobs:failing", cwd=jobs)

    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("Error: function 'fail' failed on node ")


def test_records_of_a_run_are_written(jobs: Path) -> None:
    table = handoff("run", "--report", "jobs:sized", "2", "--trace", "trace.json", cwd=jobs)
    handoff("run", "jobs:sized", "2", "--report", "report.json", cwd=jobs)

    report = json.loads((jobs / "report.json").read_text())
    assert "critical path: " in table.stderr
    assert json.loads((jobs / "trace.json").read_text())["traceEvents"]
    assert (report["dag"], list(report["functions"])) == ("sized-all", ["0", "1", "total"])
    assert report["functions"]["total"]["time"]["ran_s"] > 0
    assert report["critical_path"]["functions"][-1] == "total"


def test_functions_get_variables_and_a_directory(jobs: Path) -> None:
    (jobs / "data").mkdir()

    done = handoff("run", "jobs:around", "--env", "GREETING=a=b", "--working-dir", "data", "--json", cwd=jobs)

    assert json.loads(done.stdout)["results"] == {"greeting": "a=b", "place": str(jobs / "data")}


LOUD = """
import atexit, os, sys, threading
from jobs import *

print("imported")
os.system("echo from a child")
atexit.register(print, "at exit")
"""


@pytest.mark.parametrize("command", ["run", "render"])
def test_stdout_has_nothing_but_one_json_document(jobs: Path, command: str) -> None:
    (jobs / "loud.py").write_text(LOUD)

    done = handoff(command, "loud:odd_values", "--json", cwd=jobs)

    document = json.loads(done.stdout)
    assert document["dag"] == "odd"
    assert "from a child" in done.stderr
    if command == "run":
        assert document["results"] == {"point": {"x": "NaN"}, "bytes": {"base64": "AAA="}}


def test_an_interrupt_as_json(jobs: Path) -> None:
    with handoff_started("run", "jobs:waiting", "--json", cwd=jobs) as run:
        assert run.stderr is not None
        while "waiting in" not in run.stderr.readline():
            pass
        run.send_signal(signal.SIGINT)
        results, _ = run.communicate()

    assert run.returncode == 130
    assert json.loads(results) == {"error": {"type": "KeyboardInterrupt", "message": "cancelled"}}


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["nod", "--json"], "NoSuchCommand"),
        (["run", "jobs:sized", "--json"], "UsageError"),
        (["nodes", "--json", "--join", "nowhere"], "BadParameter"),
    ],
)
def test_wrong_use_is_json_too(jobs: Path, arguments: list[str], kind: str) -> None:
    refused = handoff(*arguments, cwd=jobs)

    assert refused.returncode == 2
    assert json.loads(refused.stdout)["error"]["type"] == kind


def test_results_are_printed_though_a_record_cannot_be_written(jobs: Path) -> None:
    done = handoff("run", "jobs:sized", "1", "--json", "--trace", "/dev/full", cwd=jobs)

    assert done.returncode == 1
    assert json.loads(done.stdout)["results"] == {"total": 0}
    assert "Error: '/dev/full' can't be written: No space left on device" in done.stderr


def test_closed_streams_do_no_harm(jobs: Path) -> None:
    command = shlex.join([*HANDOFF, "run", "jobs:sized", "1"])
    outcomes = [
        subprocess.run(
            ["bash", "-c", f"{command} {closed}"],
            cwd=jobs,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )
        for closed in ("--json >&-", "-q 2>&-")
    ]

    assert [(done.returncode, done.stdout) for done in outcomes] == [(0, b""), (0, b"total = 0\n")]


def test_a_run_that_continues_shows_what_failed_and_what_did_not(jobs: Path) -> None:
    command = ("run", "jobs:partly", "--on-failure", "continue", "--quiet")
    shown = handoff(*command, cwd=jobs)
    document = json.loads(handoff(*command, "--json", cwd=jobs).stdout)

    assert (shown.returncode, shown.stdout) == (1, "fine = Point(x=2)\n")
    assert "LookupError: nothing at 1\n" in shown.stderr
    assert shown.stderr.endswith("Error: 1 function(s) did not run, since they depend on failed ones\n")
    assert document["results"] == {"fine": {"x": 2}}
    assert document["failures"]["failed"]["cause"] == {"type": "LookupError", "message": "nothing at 1"}
    assert document["failures"]["skipped"]["failed"] == "failed"
    assert document["functions"]["skipped"]["outcome"] == "skipped"


def test_records_of_a_run_that_failed_are_written(jobs: Path) -> None:
    failed = handoff("run", "jobs:failing", "--report", "r.json", "--trace", "t.json", cwd=jobs)

    report = json.loads((jobs / "r.json").read_text())
    assert failed.returncode == 1
    assert {key: entry["outcome"] for key, entry in report["functions"].items()} == {
        "point": "done",
        "fail": "failed",
    }
    assert json.loads((jobs / "t.json").read_text())["traceEvents"]
