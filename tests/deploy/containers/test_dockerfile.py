"""The image's own command runs where containers run: for any user, in a root that can't be written to, as process 1."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import ROOT
from tests.deploy.containers.dockerfile import image, stages
from tests.deploy.sandbox import Container, Mount, Specification, hosts_for_containers
from tests.hosts.network import KEY, Host

#: As OpenShift chooses one.
SOME_USER = 1000660000
#: `docker stop` waits so long.
STOPS_WITHIN_S = 10.0

APP = """
import json, os
import handoff_actors as handoff

def facts():
    return os.getuid(), os.environ.get("HOME"), os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize

dag = handoff.new()
dag.call(facts, id="facts")
run = handoff.run_sync(dag)
print(json.dumps(run.results["facts"]))
"""


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with hosts_for_containers(2, "10.79.1") as hosts:
        yield hosts


@pytest.mark.processes
@pytest.mark.hosts
def test_the_command_of_the_image_serves_and_drains_for_any_user(
    hosts: list[Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = image()
    # Docker shows its containers this file.
    marker = tmp_path / "dockerenv"
    marker.touch()
    specification = Specification(
        made.command,
        made.variables | KEY,
        SOME_USER,
        0,
        "c0ffee012345",
        mounts=[Mount("/.dockerenv", marker)],
    )
    monkeypatch.setenv("HANDOFF_SEEDS", f"tcp://{hosts[0].address}:{made.ports[0]}")
    with Container(specification, hosts[0], tmp_path) as container:
        container.wait_until_it_answers("sh", "-c", f"handoff ping tcp://$(hostname):{made.ports[0]}")

        facts = hosts[1].run_script(APP)

        assert facts == [SOME_USER, "/tmp", 64 * 2**20]
        assert container.command_line()[2:4] == ["node", "--listen"]
        assert container.run("touch", "/file").returncode == 1
        assert container.stop(STOPS_WITHIN_S) == 0
        assert "draining" in container.log()
        assert "Traceback" not in container.log()


def test_nothing_of_the_build_is_in_the_image_and_nothing_is_compiled() -> None:
    build, last = stages()

    assert build.base.endswith("-slim AS build")
    assert last.base.endswith("-slim")
    assert last.of("COPY") == ["--from=build /installed /usr/local"]
    for run in (*build.of("RUN"), *last.of("RUN")):
        assert "apt" not in run
        for command in re.findall(r"pip (?:install|download|wheel)[^&;]*", run):
            assert "--only-binary=:all:" in command or "--no-index" in command, command
            assert "--no-cache-dir" in command or "--no-index" in command, command
    assert "--require-hashes" in build.of("RUN")[0]


def test_the_image_is_not_for_root() -> None:
    assert (image().user, image().group) == (1000, 1000)
    assert stages()[-1].instructions[-3][0] == "USER"


def test_what_the_build_copies_is_sent_to_it_and_no_more() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {name for text in stages()[0].of("COPY") for name in text.split()[:-1]}

    assert "*" in rules
    assert sent == copied
    assert [name for name in sorted(sent) if not (ROOT / name).exists()] == []
