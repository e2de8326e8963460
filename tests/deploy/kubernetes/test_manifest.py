"""The manifest holds what Kubernetes accepts, in old and new versions, and what nodes need to run."""

from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from handoff_actors.deploy.kubernetes import KubernetesSettings, Toleration, manifest_text
from handoff_actors.deploy.kubernetes.rules import nbytes_of
from tests.deploy.kubernetes.pod_security import violations

IMAGE = "registry.example:5000/team/handoff:1.2"
PLAIN = KubernetesSettings(image=IMAGE)
FULL = KubernetesSettings(
    image=f"{IMAGE}@sha256:{'0a' * 32}",
    name="n" * 52,
    namespace="batch-2",
    replicas=0,
    cpu="1500m",
    memory="16Gi",
    shared_memory="4Gi",
    gpus=2,
    gpu_resource="amd.com/gpu",
    key_secret="keys.of-batch",
    also_accept=True,
    grace_s=600,
    port=9000,
    user=None,
    pull_policy="Always",
    pull_secret="registry",
    variables={"LEVEL": "on", "on": 'a"b\\$(POD_NAME)\n: # é😀\x85\u2028\ufeff', "EMPTY": "", "TAB": "\t- x"},
    node_selector={"example.org/disk": "fast", "yes": ""},
    tolerations=[
        Toleration.from_text("gpu=yes:NoSchedule"),
        Toleration.from_text("example.org/spot:NoExecute"),
    ],
    app_namespaces=["web", "0"],
)
#: The oldest and the newest whose schemas are known, and some between them.
VERSIONS = sorted(
    {all_versions()[0], "1.28.0", "1.31.0", "1.34.0", all_versions()[-1]}, key=all_versions().index
)
each_settings = pytest.mark.parametrize("settings", [PLAIN, FULL], ids=["plain", "full"])


def objects(settings: KubernetesSettings) -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(manifest_text(settings))}


def pod(settings: KubernetesSettings) -> Any:
    return objects(settings)["StatefulSet"]["spec"]["template"]["spec"]


def container(settings: KubernetesSettings) -> Any:
    (found,) = pod(settings)["containers"]
    return found


def variables(settings: KubernetesSettings) -> Mapping[str, str]:
    return {variable["name"]: variable.get("value") for variable in container(settings)["env"]}


@pytest.mark.parametrize("version", VERSIONS)
@each_settings
def test_versions_of_kubernetes_accept_it(settings: KubernetesSettings, version: str) -> None:
    found = objects(settings)

    assert list(found) == ["Service", "NetworkPolicy", "PodDisruptionBudget", "StatefulSet"]
    for document in found.values():
        kubernetes_validate.validate(document, version, strict=True)


@each_settings
def test_pods_pass_the_restricted_standard(settings: KubernetesSettings) -> None:
    assert violations(pod(settings)) == []


def test_a_pod_that_breaks_the_standard_is_noticed() -> None:
    worst = {
        "hostNetwork": True,
        "volumes": [{"name": "docker", "hostPath": {"path": "/"}}],
        "containers": [
            {"ports": [{"hostPort": 1}], "securityContext": {"runAsNonRoot": True, "runAsUser": 0}}
        ],
    }

    assert violations(worst) == [
        "hostNetwork", "volume hostPath", "hostPort", "privileges", "capabilities", "root", "seccomp",
    ]  # fmt: skip


@each_settings
def test_objects_find_one_another(settings: KubernetesSettings) -> None:
    found = objects(settings)

    labels = found["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert found["StatefulSet"]["spec"]["selector"] == {"matchLabels": labels}
    assert found["NetworkPolicy"]["spec"]["podSelector"] == {"matchLabels": labels}
    assert found["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": labels}
    assert found["Service"]["spec"]["selector"] == labels
    assert found["Service"]["spec"]["clusterIP"] == "None"
    assert found["Service"]["spec"]["publishNotReadyAddresses"] is True
    assert found["StatefulSet"]["spec"]["serviceName"] == found["Service"]["metadata"]["name"]
    assert {document["metadata"].get("namespace") for document in found.values()} == {settings.namespace}
    assert variables(settings)["HANDOFF_SEEDS"] == f"tcp://{settings.name}:{settings.port}"


def test_the_name_has_the_addresses_of_both_families() -> None:
    """Of its pod's host name, a node listens at one address: that of IPv6, if there are both."""
    service = objects(PLAIN)["Service"]["spec"]

    assert service["ipFamilyPolicy"] == "PreferDualStack"
    assert "ipFamilies" not in service


@each_settings
def test_both_ports_are_open_to_nodes_and_apps(settings: KubernetesSettings) -> None:
    (rule,) = objects(settings)["NetworkPolicy"]["spec"]["ingress"]
    ports = {port["name"]: port["containerPort"] for port in container(settings)["ports"]}

    assert ports == {"runs": settings.port, "adverts": settings.port + 1}
    assert [port["port"] for port in rule["ports"]] == list(ports.values())
    assert rule["from"][0] == {"podSelector": {}}
    names = [source["namespaceSelector"]["matchLabels"] for source in rule["from"][1:]]
    assert names == [{"kubernetes.io/metadata.name": name} for name in settings.app_namespaces]


@each_settings
def test_a_node_has_left_before_its_grace_period_ends(settings: KubernetesSettings) -> None:
    command = container(settings)["command"]

    drain_s = float(command[command.index("--drain") + 1])
    assert drain_s + 5 <= pod(settings)["terminationGracePeriodSeconds"] == settings.grace_s


@each_settings
def test_probes_wait_longer_than_their_commands(settings: KubernetesSettings) -> None:
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container(settings)[kind]
        words = probe["exec"]["command"][-1].split()
        assert float(words[words.index("--timeout") + 1]) < probe["timeoutSeconds"]
        assert ("--ready" in words) == (kind == "readinessProbe")


@each_settings
def test_shared_memory_is_part_of_the_memory_that_a_node_offers(settings: KubernetesSettings) -> None:
    resources = container(settings)["resources"]
    (shared,) = [
        volume["emptyDir"] for volume in pod(settings)["volumes"] if volume["name"] == "shared-memory"
    ]

    assert resources["requests"] == resources["limits"]
    assert shared["medium"] == "Memory"
    assert nbytes_of(shared["sizeLimit"]) <= nbytes_of(resources["limits"]["memory"]) / 2


def test_gpus_are_claimed_and_offered() -> None:
    found = container(FULL)

    assert found["resources"]["limits"]["amd.com/gpu"] == 2
    assert found["command"][-2:] == ["--resource", "gpu=2"]
    assert "--resource" not in container(PLAIN)["command"]


def test_the_key_is_a_file_that_only_the_user_may_read_and_not_in_the_text() -> None:
    (volume,) = [volume["secret"] for volume in pod(PLAIN)["volumes"] if "secret" in volume]

    assert volume["defaultMode"] == 0o400
    assert volume["secretName"] == "handoff-key"
    assert pod(PLAIN)["securityContext"]["fsGroup"] == pod(PLAIN)["securityContext"]["runAsUser"] == 1000
    assert "HANDOFF_KEY" not in variables(PLAIN)
    assert "kubectl create secret generic handoff-key --from-file=cluster.key" in manifest_text(PLAIN)


def test_a_second_key_is_accepted_while_the_key_is_replaced() -> None:
    (volume,) = [volume["secret"] for volume in pod(FULL)["volumes"] if "secret" in volume]

    assert [item["path"] for item in volume["items"]] == ["cluster.key", "also.key"]
    assert variables(FULL)["HANDOFF_ALSO_ACCEPT"] == "/etc/handoff/also.key"
    assert "HANDOFF_ALSO_ACCEPT" not in variables(PLAIN)


def test_a_platform_may_choose_the_user() -> None:
    assert pod(FULL)["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}


def test_variables_arrive_as_they_were_given() -> None:
    given = variables(FULL)

    # Kubernetes makes one $ of two, and would replace $(POD_NAME).
    assert {name: given[name].replace("$$", "$") for name in FULL.variables} == FULL.variables
    assert given["on"].count("$$(") == 1
    assert pod(FULL)["nodeSelector"] == FULL.node_selector
