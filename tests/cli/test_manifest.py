"""`handoff manifest kubernetes` as people use it; tests/deploy/kubernetes has what it prints."""

import pytest
import yaml

from handoff_actors.wire.versions import VERSION
from tests.cli.command import handoff

pytestmark = pytest.mark.processes

FINE = ("manifest", "kubernetes", "--image", "handoff:1")


def test_a_manifest_is_printed_and_nothing_else() -> None:
    ended = handoff(
        *FINE, "--name", "batch", "--replicas", "5", "--env", "A=1=2", "--node-selector", "disk=fast",
        "--toleration", "gpu:NoSchedule", "--app-namespace", "web", "--openshift", "--pull-policy", "Never",
    )  # fmt: skip

    *_, found = yaml.safe_load_all(ended.stdout)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (found["kind"], found["metadata"]["name"], found["spec"]["replicas"]) == (
        "StatefulSet",
        "batch",
        5,
    )
    spec = found["spec"]["template"]["spec"]
    assert {"name": "A", "value": "1=2"} in spec["containers"][0]["env"]
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert "runAsUser" not in spec["securityContext"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "Hand_off"], "Invalid value for '--name': 'Hand_off' is no name of a Service"),
        (["--name", "a\nkind: Pod"], "Invalid value for '--name': 'a\\nkind: Pod' is no name of a Service"),
        (["--image", "a b"], "Invalid value for '--image': 'a b' is no reference of an image"),
        (["--memory", "512m"], "Invalid value for '--memory': '512m' are thousandths of bytes"),
        (["--node-selector", "fast"], "'fast' is no label; one looks like disk=fast"),
        (["--toleration", "gpu"], "'gpu' is no taint; one looks like gpu=yes:NoSchedule"),
        (["--shared-memory", "3Gi"], "Error: 3Gi of shared memory in 2Gi of memory"),
        (["--env", "HANDOFF_KEY=secret"], "whoever reads the manifest has the cluster's key"),
        (["--grace", "5"], "Invalid value for '--grace'"),
        (["--port", "80"], "Invalid value for '--port'"),
        (["--user", "0"], "Invalid value for '--user'"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_with_the_option_and_an_example(
    words: list[str], said: str
) -> None:
    refused = handoff(*FINE, *words)

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert said in " ".join(refused.stderr.split())


def test_without_options_the_image_is_the_one_that_a_clone_makes() -> None:
    ended = handoff("manifest", "kubernetes")

    *_, found = yaml.safe_load_all(ended.stdout)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == f"handoff:{VERSION}"
