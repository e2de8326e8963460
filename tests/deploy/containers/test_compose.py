"""The service of compose.yaml as Compose runs it: its nodes find one another by the name of the service, and drain."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from handoff_actors.transport.keys import ClusterKey
from tests.daemons import ROOT
from tests.deploy.containers.dockerfile import image
from tests.deploy.sandbox import Container, Mount, Specification, hosts_for_containers
from tests.hosts.network import Host

SIZE = 2
#: Without work a drain takes a moment.
STOPS_WITHIN_S = 10.0
APP = """
import json, os
import handoff_actors as handoff

def facts():
    return [os.getuid(), os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize]

dag = handoff.new()
for number in range(6):
    dag.call(facts, id=str(number))
print(json.dumps(sorted(handoff.run_sync(dag).results.values())))
"""


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with hosts_for_containers(SIZE + 1, "10.79.2") as hosts:
        yield hosts


def project(**variables: str) -> Any:
    """The file as Compose reads it."""
    return replaced(yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8")), variables)


def replaced(value: Any, variables: Mapping[str, str]) -> Any:
    """Make $ of $$ in texts, and of ${NAME:-DEFAULT} the variable, or the default unless it is set."""
    if isinstance(value, dict):
        return {name: replaced(part, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [replaced(part, variables) for part in value]
    if not isinstance(value, str):
        return value
    return re.sub(
        r"\$\$|\$\{(\w+):-([^}]*)\}",
        lambda found: "$" if found[0] == "$$" else variables.get(found[1]) or found[2],
        value,
    )


def service(**variables: str) -> Any:
    (found,) = project(**variables)["services"].values()
    return found


def seconds(text: str) -> float:
    number, unit = text[:-1], text[-1]
    return float(number) * {"s": 1, "m": 60}[unit]


def specification(
    told: Mapping[str, Any], hosts: list[Host], number: int, key: Path, command: list[str]
) -> Specification:
    user, _, group = told["user"].partition(":")
    os.chown(key, int(user), int(group))
    (secret,) = told["secrets"]
    return Specification(
        command,
        image().variables | told["environment"],
        int(user),
        int(group),
        f"c0ffee01234{number}",
        names=[("node", host.address) for host in hosts[:SIZE]],
        mounts=[
            Mount(f"/run/secrets/{secret}", key, is_read_only=True),
            Mount("/dev/shm", size=told["shm_size"]),
        ],
        is_read_only=False,
    )


@pytest.mark.processes
@pytest.mark.hosts
def test_nodes_find_one_another_serve_an_app_and_drain(hosts: list[Host], tmp_path: Path) -> None:
    told = service(HANDOFF_SHARED_MEMORY="100m", HANDOFF_USER="1234:0")
    key = tmp_path / "cluster.key"
    ClusterKey.generate().write_to(key)
    kind, probe = told["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    with ExitStack() as closing:
        nodes = [
            closing.enter_context(
                Container(specification(told, hosts, number, key, told["command"]), hosts[number], tmp_path)
            )
            for number in range(SIZE)
        ]
        for node in nodes:
            node.wait_until_it_answers("sh", "-c", probe)
        nodes[0].wait_until_it_answers(
            "sh", "-c", f"test $(handoff nodes --json | grep -o '\"incarnation\"' | wc -l) = {SIZE}"
        )
        app = specification(told, hosts, SIZE, key, ["python", "-c", APP])
        with Container(app, hosts[SIZE], tmp_path) as client:
            assert client.process.wait(20) == 0, client.log()
            assert json.loads(client.log().splitlines()[-1]) == [[1234, 100 * 2**20]] * 6

        assert [node.stop(STOPS_WITHIN_S) for node in nodes] == [0] * SIZE


def test_nodes_have_left_before_they_are_killed() -> None:
    words = " ".join(service()["command"]).split()

    assert float(words[words.index("--drain") + 1]) + 5 <= seconds(service()["stop_grace_period"])


def test_probes_wait_longer_than_their_commands() -> None:
    check = service()["healthcheck"]
    words = check["test"][1].split()

    assert float(words[words.index("--timeout") + 1]) < seconds(check["timeout"])


def test_the_service_can_be_scaled() -> None:
    """No name, no port of the machine, and no address of its own."""
    assert not service().keys() & {"container_name", "ports", "hostname", "networks", "network_mode"}
    assert service()["environment"]["HANDOFF_SEEDS"] == f"tcp://node:{image().ports[0]}"
    assert list(project()["services"]) == ["node"]


def test_the_key_is_a_secret_that_the_user_of_the_node_owns() -> None:
    (secret,) = service()["secrets"]

    assert project()["secrets"] == {secret: {"file": "./cluster.key"}}
    assert project(HANDOFF_KEY_FILE="/k")["secrets"] == {secret: {"file": "/k"}}
    assert service()["environment"]["HANDOFF_KEY_FILE"] == f"/run/secrets/{secret}"
    assert service()["user"] == f"{image().user}:{image().group}"


def test_the_image_of_the_service_is_the_one_that_it_builds() -> None:
    build = service()["build"]

    assert (ROOT / build["context"] / "Dockerfile").exists()
    assert build["args"].keys() == {"PACKAGES"}
