import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from handoff_actors.transport.keys import ClusterKey
from tests.cli.command import handoff
from tests.daemons import HANDOFF, Daemons, environment

pytestmark = pytest.mark.processes


def test_key_is_one_line() -> None:
    made = handoff("keygen")

    [line] = made.stdout.splitlines()
    assert ClusterKey.from_text(line).text() == line
    assert made.stderr == ""


def test_key_file_is_for_its_owner_and_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "key"

    first = handoff("keygen", "--output", str(file))
    content = file.read_text()
    second = handoff("keygen", "--output", str(file))

    assert (first.returncode, first.stdout) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert second.returncode == 1
    assert f"{file} exists already" in second.stderr
    assert file.read_text() == content


def test_members_find_one_another_with_one_key_file_and_strangers_do_not(
    daemons: Daemons, tmp_path: Path
) -> None:
    file, other = str(tmp_path / "key"), str(tmp_path / "other")
    handoff("keygen", "--output", file)
    handoff("keygen", "--output", other)
    [n1, n2] = daemons.cluster(2, "--cpu", "1", "--key-file", file)

    shown = handoff("nodes", "--join", n2.address, HANDOFF_KEY_FILE=file)
    refused = [
        handoff("nodes", "--join", n1.address, "--key-file", other),
        handoff("nodes", "--join", n1.address),
        handoff("node", "--join", n1.address, "--listen", "tcp://127.0.0.1:0", "--key-file", other),
    ]

    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["name", "n1", "n2"]
    for command in refused:
        assert command.returncode == 1
        assert "don't hold the same cluster key" in command.stderr
        assert command.stderr.count("Traceback") == 0
    n1.wait_for_log("stranger refused")


def test_run_uses_the_key(daemons: Daemons, jobs: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    handoff("keygen", "--output", str(file))
    daemon = daemons.start("--cpu", "1", "--key-file", str(file))

    done = handoff("run", "jobs:fine", "--join", daemon.address, "--key-file", str(file), cwd=jobs)
    refused = handoff("run", "jobs:fine", "--join", daemon.address, cwd=jobs)

    assert done.stdout.splitlines()[-1] == "total = 1770"
    assert refused.returncode == 1
    assert "don't hold the same cluster key" in refused.stderr


def test_with_a_key_a_node_may_listen_beyond_loopback(daemons: Daemons) -> None:
    variables = {"HANDOFF_KEY": ClusterKey.generate().text()}

    daemon = daemons.start("--listen", "tcp://0.0.0.0:0", "--advertise", "localhost", variables=variables)

    assert daemon.address.startswith("tcp://localhost:")


def test_without_a_key_the_refusal_says_how_to_get_one() -> None:
    refused = handoff("node", "--listen", "tcp://0.0.0.0:0", "--advertise", "localhost")

    assert refused.returncode == 1
    assert refused.stderr.index("handoff keygen") < refused.stderr.index("--insecure")


def test_key_that_others_can_read_is_refused_and_no_key_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "key"
    handoff("keygen", "--output", str(file))
    file.chmod(0o644)

    open_to_all = handoff("nodes", "--join", "tcp://127.0.0.1:1", "--key-file", str(file))
    mistyped = handoff("nodes", "--join", "tcp://127.0.0.1:1", HANDOFF_KEY="handoff1-mistyped")

    assert (open_to_all.returncode, mistyped.returncode) == (2, 2)
    assert f"chmod 600 {file}" in open_to_all.stderr
    assert "HANDOFF_KEY: " in mistyped.stderr
    assert "cut short or mistyped" in mistyped.stderr
    assert file.read_text().strip() not in open_to_all.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_place_that_can_not_be_written_to_is_named(tmp_path: Path) -> None:
    """Root may write anywhere, unless it gives that right up."""
    place = tmp_path / "theirs"
    place.mkdir(mode=0o500)
    os.chown(place, 1, 1)
    command = [
        "setpriv",
        "--bounding-set",
        "-dac_override",
        *HANDOFF,
        "keygen",
        "--output",
        str(place / "key"),
    ]

    refused = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)

    assert refused.stderr == f"Error: Permission denied: {place / 'key'}\n"
