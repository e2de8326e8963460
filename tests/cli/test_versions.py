"""Members of another protocol, in processes of their own that say so of themselves."""

import subprocess
import sys

import pytest

from handoff_actors.process.interpreter import PYTHON
from handoff_actors.wire.messages.base import PROTOCOL
from tests.daemons import Daemons, environment

pytestmark = pytest.mark.processes

#: Before anything else of ours is imported, so that it holds everywhere.
OF_ANOTHER_PROTOCOL = (
    "import handoff_actors.wire.messages.base as messages; messages.PROTOCOL = 99; "
    "import handoff_actors.wire.versions as versions; "
)
APP = """
import asyncio
import handoff_actors as handoff

async def main():
    async with handoff.Session(seeds=[{seed!r}]):
        pass

asyncio.run(main())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_node_of_another_protocol_is_refused_in_one_line_that_names_both_sides(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1")
    command = ["node", "--name", "n2", "--listen", "tcp://127.0.0.1:0", "--join", node.address]

    refused = run(
        f"{OF_ANOTHER_PROTOCOL}from handoff_actors.cli import main; import sys; sys.argv[1:] = {command!r}; main()"
    )

    assert refused.returncode == 1
    [line] = [line for line in refused.stderr.splitlines() if "refuses" in line]
    assert "protocol 99" in line
    assert f"(protocol {PROTOCOL})" in line
    assert f"Python {PYTHON}" in line
    assert "Traceback" not in refused.stderr


def test_app_of_another_protocol_is_refused(daemons: Daemons) -> None:
    node = daemons.start("--name", "n1")

    refused = run(OF_ANOTHER_PROTOCOL + APP.format(seed=node.address))

    assert "VersionMismatch" in refused.stderr
    assert "protocol 99" in refused.stderr
    assert f"(protocol {PROTOCOL})" in refused.stderr
