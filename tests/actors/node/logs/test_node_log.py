import logging
import subprocess
import sys

import pytest

from handoff_actors.actors.node.logs.node_log import BURST, NodeLog
from handoff_actors.core.node.events import LogRunOpened
from handoff_actors.ids import PeerId, RunId
from handoff_actors.wire.messages.members import Beat, Goodbye, ListMembers, ListRuns
from handoff_actors.wire.messages.runs import Failed

PEER = PeerId(b"\x01")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> NodeLog:
    caplog.set_level(logging.DEBUG)
    return NodeLog("n1")


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Level, message and peer of each line."""
    return [(record.levelname, record.message, vars(record)["peer"]) for record in caplog.records]


def test_a_peer_comes_once_and_is_lost_by_its_name(log: NodeLog, caplog: pytest.LogCaptureFixture) -> None:
    log.peer_connected(PEER, "app-h1-7")
    for _ in range(3):
        log.peer_said(PEER, Beat())
    log.peer_gone(PEER, "its lease has ended")

    assert said(caplog) == [("INFO", "peer came", "app-h1-7"), ("INFO", "peer lost", "app-h1-7")]
    assert vars(caplog.records[1])["reason"] == "its lease has ended"


@pytest.mark.parametrize("message", [Goodbye(), ListMembers(), ListRuns()])
def test_whoever_only_looks_is_no_news(
    log: NodeLog, caplog: pytest.LogCaptureFixture, message: object
) -> None:
    log.peer_connected(PEER, "n2")
    log.peer_said(PEER, message)
    log.peer_gone(PEER, "")

    assert said(caplog) == [("DEBUG", "peer left", "n2")]


def test_a_command_of_ours_is_no_news_however_long_it_looks(
    log: NodeLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.peer_connected(PEER, "handoff top")
    log.peer_said(PEER, Beat())
    log.peer_gone(PEER, "")

    assert said(caplog) == [("DEBUG", "peer left", "handoff top")]


def test_a_run_that_fails_everything_writes_few_lines_and_counts_all(
    log: NodeLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.told(LogRunOpened(RunId(7), "nightly", "app-h1-7"))
    for index in range(10_000):
        log.reported(Failed(RunId(7), index, 1, "exception", b"", "no" * 1000, None, None, None, 0.1))
    log.run_closed(RunId(7))

    failures = [record for record in caplog.records if record.message == "attempt failed"]
    assert BURST <= len(failures) < BURST + 50
    assert all(len(vars(record)["reason"]) <= 500 for record in failures)
    assert vars(caplog.records[-1])["failed"] == 10_000


def test_a_run_that_is_not_known_here_is_not_told_to_end(
    log: NodeLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.run_closed(RunId(7))

    assert caplog.records == []


def test_the_app_of_the_same_process_is_no_news(log: NodeLog, caplog: pytest.LogCaptureFixture) -> None:
    log.peer_connected(PEER, "app-h1-7", is_own=True)
    log.peer_said(PEER, Beat())
    log.told(LogRunOpened(RunId(7), "nightly", "app-h1-7"))
    log.run_closed(RunId(7))
    log.peer_gone(PEER, "")

    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("DEBUG", "run opened"),
        ("DEBUG", "run closed"),
        ("DEBUG", "peer left"),
    ]


def test_an_app_without_logging_gets_no_lines_on_stderr() -> None:
    program = (
        "import os, handoff_actors as handoff\n"
        "dag = handoff.DAG('d')\n"
        "dag.call(os._exit, 3, id='dies', max_retries=0)\n"
        "handoff.run_sync(dag, on_failure='continue', progress=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("", "")
