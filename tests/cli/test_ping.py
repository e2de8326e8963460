import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.command import handoff, handoff_started
from tests.daemons import Daemons

pytestmark = pytest.mark.processes

NOBODY = "tcp://127.0.0.1:9"


def test_a_node_that_serves_answers(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1", "--log-level", "debug")

    answered = handoff("ping", node.address)
    as_json = handoff("ping", "--ready", "--json", HANDOFF_SEEDS=f"{NOBODY},{node.address}")

    assert answered.returncode == 0
    assert re.fullmatch(rf"node n1 at {node.address} answered in \d+\.\d ms\n", answered.stdout)
    facts = json.loads(as_json.stdout)
    assert 0 < facts.pop("milliseconds") < 3000
    assert facts.pop("incarnation")
    assert facts == {"name": "n1", "address": node.address, "ready": True, "reason": None}
    # Probes come every few seconds. What nodes of other tests have left, it may remove as it starts.
    assert not re.search("INFO (?!removing)", node.log())


def test_a_node_whose_loop_stands_still_does_not_answer(daemons: Daemons) -> None:
    node = daemons.start(module="tests.cli.held_up")
    assert handoff("ping", node.address).returncode == 0
    node.process.send_signal(signal.SIGUSR1)
    began = time.monotonic()

    silent = handoff("ping", "--timeout", "0.5", node.address)

    assert time.monotonic() - began < 5
    assert silent.returncode == 1
    assert silent.stderr.startswith(f"Error: no node answered at {node.address}: ")
    assert silent.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ([NOBODY], 1, "no node answered at tcp://127.0.0.1:9: connection refused"),
        ([], 2, "name the ADDRESS of a node, or set HANDOFF_SEEDS"),
        (["n1:7070"], 2, "one looks like tcp://10.0.0.1:7070"),
    ],
)
def test_no_answer_is_said_in_one_line(arguments: list[str], status: int, complaint: str) -> None:
    refused = handoff("ping", "--timeout", "1", *arguments)

    assert refused.returncode == status
    assert complaint in refused.stderr.splitlines()[-1]


def test_a_node_with_another_key_is_no_answer(daemons: Daemons) -> None:
    node = daemons.start()

    refused = handoff("ping", "--insecure", node.address)

    assert refused.returncode == 1
    assert "don't hold the same cluster key" in refused.stderr


def test_a_node_that_leaves_is_alive_and_not_ready(daemons: Daemons, jobs: Path) -> None:
    node = daemons.start("--name", "n1", "--cpu", "1", "--drain", "600")
    with handoff_started("run", "jobs:waiting", "--join", node.address, cwd=jobs) as run:
        assert run.stdout is not None
        assert "waiting in" in run.stdout.readline()
        node.process.terminate()
        node.wait_for_log("draining")

        alive, ready = handoff("ping", node.address), handoff("ping", "--ready", node.address)
        (jobs / "gate").write_text("opened")
        run.communicate()

    assert alive.returncode == 0
    assert ", not ready: it is leaving" in alive.stdout
    assert ready.returncode == 1
    assert ready.stderr == "Error: node n1 is not ready: it is leaving\n"


def test_it_imports_little() -> None:
    program = "import sys, handoff_actors.cli.group, handoff_actors.cli.ping; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    heavy = {"uvloop", "rich", "json", "numpy", "handoff_actors.client", "handoff_actors.core.run.machine"}
    assert not heavy & set(done.stdout.split())
