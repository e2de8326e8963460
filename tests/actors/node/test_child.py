"""Nodes as children of apps."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

BOOT = "from handoff_actors.actors.node.child import main; main()"


def test_a_node_whose_app_ends_before_it_serves_says_nothing() -> None:
    with subprocess.Popen(["true"]) as app:
        pass
    ours, theirs = os.pipe()
    os.close(ours)
    options = {
        "name": "n1",
        "capabilities": {"cpu": 1, "memory": 10},
        "workers": None,
        "listen": "tcp://127.0.0.1:0",
        "lives_with": app.pid,
    }
    command = [sys.executable, "-c", BOOT, str(theirs), "warning", json.dumps(options)]

    node = subprocess.run(command, pass_fds=[theirs], capture_output=True, text=True, check=False)

    os.close(theirs)
    assert (node.returncode, node.stderr) == (1, "")
