"""Signals that come before a program has anything to clear away."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ENDS_WITHIN_S, handoff_started

pytestmark = pytest.mark.processes

PROGRAM = (
    "import os; from handoff_actors.process.first_signals import end_at_first_signal; end_at_first_signal(); "
    "os.kill(os.getpid(), {number}); print('goes on')"
)
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def ended_by(number: signal.Signals, *prefix: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*prefix, sys.executable, "-c", PROGRAM.format(number=int(number))],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


@pytest.mark.parametrize("number", SIGNALS)
def test_it_ends_a_process_without_a_traceback(number: signal.Signals) -> None:
    ended = ended_by(number)

    assert (ended.returncode, ended.stdout, ended.stderr) == (-number, "", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="making namespaces needs root")
@pytest.mark.parametrize("number", SIGNALS)
def test_it_ends_the_first_process_of_a_container(number: signal.Signals) -> None:
    """The kernel ignores signals that such a process does not handle."""
    ended = ended_by(number, "unshare", "--pid", "--fork")

    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "", "")


def test_node_that_is_interrupted_while_it_imports_says_nothing() -> None:
    with handoff_started("node", "--listen", "tcp://127.0.0.1:0") as node:
        # Python itself has a handler for SIGINT.
        while signal.SIGTERM not in handled(node.pid):
            pass
        node.send_signal(signal.SIGINT)
        out, said = node.communicate(timeout=ENDS_WITHIN_S)

    # It may have come further than to the imports.
    assert (node.returncode, out, said) == (-signal.SIGINT, "", "") or node.returncode == 0
    assert "Traceback" not in said


def handled(pid: int) -> set[int]:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    mask = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
    return {number for number in range(1, 65) if mask >> number - 1 & 1}
