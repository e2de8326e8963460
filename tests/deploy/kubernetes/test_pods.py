"""The pods of a manifest run: with its very command, variables, volumes, user and probes, in containers made of namespaces."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from handoff_actors.deploy.kubernetes import KubernetesSettings, manifest_text
from handoff_actors.transport.keys import ClusterKey
from tests.control_groups import container as limited
from tests.deploy.kubernetes.kubelet import Platform, Pod
from tests.deploy.sandbox import Container, hosts_for_containers
from tests.hosts.network import KEY, Host

pytestmark = [pytest.mark.processes, pytest.mark.hosts]

#: An image for root, which the manifest runs as another user.
KUBERNETES = Platform(user=0, group=0, volume_group=None)
OPENSHIFT = Platform(user=1000660000, group=0, volume_group=1000660000)
NAME = "batch"
#: The user of each pod: that of the manifest, and one that the platform chooses.
USERS = (1000, None)
PLATFORMS = (KUBERNETES, OPENSHIFT)
APP = """
import json, os, tempfile
import handoff_actors as handoff

def facts():
    shared = os.statvfs("/dev/shm")
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        file.write(b"x")
    return [os.getuid(), os.environ["POD_NAME"], os.environ["LEVEL"], shared.f_blocks * shared.f_frsize]

dag = handoff.new()
for number in range(2):
    dag.call(facts, id=str(number), node=f"batch-{number}")
large = [dag.call(bytes, 40_000_000, id=f"large-{number}") for number in range(5)]
dag.call(lambda *values: sum(map(len, values)), *large, id="sum")
run = handoff.run_sync(dag)
print(json.dumps([[run.results[str(number)] for number in range(2)], run.results["sum"]]))
"""


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with hosts_for_containers(len(USERS) + 1, "10.79.3") as hosts:
        yield hosts


def pod(directory: Path, ordinal: int) -> Pod:
    settings = KubernetesSettings(
        image="handoff:1",
        name=NAME,
        memory="512Mi",
        variables={"LEVEL": "$(POD_NAME) $5"},
        user=USERS[ordinal],
        also_accept=ordinal > 0,
    )
    *_, stateful_set = yaml.safe_load_all(manifest_text(settings))
    keys = {"cluster.key": KEY["HANDOFF_KEY"] + "\n", "also.key": ClusterKey.generate().text()}
    return Pod(stateful_set, ordinal, {f"{NAME}-key": keys}, PLATFORMS[ordinal], directory)


def wait_until_ready(made: Pod, running: Container) -> None:
    for kind, within_s in (
        ("startupProbe", made.start_s()),
        ("readinessProbe", 20.0),
        ("livenessProbe", 20.0),
    ):
        command, limit_s = made.probe(kind)
        assert limit_s < within_s
        running.wait_until_it_answers(*command, within_s=within_s)


def test_pods_of_any_user_find_one_another_serve_an_app_and_drain(
    hosts: list[Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDOFF_SEEDS", f"tcp://{hosts[0].address}:7070")
    made = [pod(tmp_path, ordinal) for ordinal in range(len(USERS))]
    with ExitStack() as closing:
        running = [
            closing.enter_context(one.run(hosts[: len(USERS)], host, NAME))
            for one, host in zip(made, hosts, strict=False)
        ]
        for one, container in zip(made, running, strict=True):
            wait_until_ready(one, container)
        # In a pod commands need no option.
        running[0].wait_until_it_answers("sh", "-c", f"handoff nodes | grep {NAME}-1")

        facts, total = hosts[-1].run_script(APP)

        assert facts == [
            [user or OPENSHIFT.user, f"{NAME}-{ordinal}", "$(POD_NAME) $5", 256 * 2**20]
            for ordinal, user in enumerate(USERS)
        ]
        assert total == 5 * 40_000_000
        assert [container.run("touch", "/file").returncode for container in running] == [1, 1]
        grace_s = made[0].spec["terminationGracePeriodSeconds"]
        assert [container.stop(grace_s) for container in running] == [0, 0]
        assert "stranger" not in running[0].log() + running[1].log()


def test_a_pod_alone_is_ready_and_offers_its_limits(hosts: list[Host], tmp_path: Path) -> None:
    alone = pod(tmp_path, 0)
    with limited(537, cores=1) as limits, alone.run(hosts[:1], hosts[0], NAME, limits) as running:
        wait_until_ready(alone, running)

        (node,) = json.loads(running.run("handoff", "nodes", "--json").stdout)

        assert (node["name"], node["capabilities"]) == (f"{NAME}-0", {"cpu": 1, "memory": 537})
        assert f"node {NAME}-0 serves at" in running.log()
        assert running.stop(10.0) == 0
