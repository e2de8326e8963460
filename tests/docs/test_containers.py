"""The commands and files of deployment/compose.md and deployment/kubernetes.md, as far as no runtime and no cluster is needed.

tests/deploy runs the image's command, compose.yaml and the manifest in containers made of namespaces.
"""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from handoff_actors.cli.node import node
from tests.daemons import ROOT, environment
from tests.deploy.containers.dockerfile import image, stages
from tests.deploy.kubernetes.pod_security import violations
from tests.docs.fences import fences
from tests.docs.pages import path_of

COMPOSE, KUBERNETES = "deployment/compose.md", "deployment/kubernetes.md"
SETTING = re.compile(r"\$\{(\w+):-([^}]*)\}")


def commands(page: str) -> list[list[str]]:
    """The words of each command, without the one that it is piped into."""
    text = "\n".join(fence.text for fence in fences(page) if fence.language == "sh").replace("\\\n", " ")
    return [shlex.split(line.partition(" | ")[0]) for line in text.splitlines() if line]


def redirected(words: list[str]) -> tuple[list[str], str | None]:
    return (words[: words.index(">")], words[-1]) if ">" in words else (words, None)


@pytest.mark.processes
def test_commands_of_handoff_run_and_manifests_are_valid(tmp_path: Path) -> None:
    ran = 0
    for page in (COMPOSE, KUBERNETES):
        for words in commands(page):
            if words[0] != "handoff":
                continue
            arguments, _ = redirected(words)
            command = [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:]]
            (tmp_path / "cluster.key").unlink(missing_ok=True)
            done = subprocess.run(
                command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, ""), words
            for document in yaml.safe_load_all(done.stdout):
                kubernetes_validate.validate(document, "1.34", strict=True)
            ran += 1

    assert ran == 5


def test_the_key_has_the_name_that_the_manifest_looks_for() -> None:
    created = [words for words in commands(KUBERNETES) if words[:3] == ["kubectl", "create", "secret"]]

    assert [words[4] for words in created] == ["handoff-key", "handoff-key-2"]
    assert [word for words in created for word in words[5:]] == [
        "--from-file=cluster.key", "--from-file=cluster.key=new.key", "--from-file=also.key=cluster.key",
    ]  # fmt: skip


@pytest.mark.parametrize("version", [all_versions()[0], all_versions()[-1]])
def test_the_job_is_valid_and_passes_the_restricted_standard(version: str) -> None:
    (text,) = [fence.text for fence in fences(KUBERNETES) if fence.language == "yaml"]
    job = yaml.safe_load(text)

    kubernetes_validate.validate(job, version, strict=True)
    assert violations(job["spec"]["template"]["spec"]) == []


def test_the_table_has_every_setting_of_the_service() -> None:
    table = dict(re.findall(r"^\| `(HANDOFF_\w+)` \| (?:`([^`]*)`)? ?\|", text_of(COMPOSE), re.MULTILINE))

    assert table == dict(SETTING.findall((ROOT / "compose.yaml").read_text(encoding="utf-8")))


def test_the_container_that_is_run_alone_has_options_that_there_are() -> None:
    (words,) = [words for words in commands(COMPOSE) if words[:2] == ["docker", "run"]]
    own = words[words.index("node") + 1 :]
    variables = dict(word.split("=", 1) for word in words if word.startswith("HANDOFF_"))

    known = {option: parameter for parameter in node.params for option in parameter.opts}
    assert {word for word in own if word.startswith("--")} <= known.keys()
    assert variables.keys() <= {*(parameter.envvar for parameter in node.params), "HANDOFF_KEY_FILE"}
    published = [after.split(":")[1] for word, after in pairwise(words) if word == "--publish"]
    assert [*map(int, published)] == image().ports
    assert float(own[own.index("--drain") + 1]) < float(words[words.index("--stop-timeout") + 1])


def test_an_image_of_ones_own_ends_with_the_same_user() -> None:
    (text,) = [fence.text for fence in fences(COMPOSE) if fence.language == "dockerfile"]

    assert text.startswith("FROM handoff\n")
    assert text.splitlines()[-1] == f"USER {image().user}:{image().group}"
    assert {"PACKAGES", "PYTHON_VERSION"} <= set(re.findall(r"--build-arg (\w+)=", text_of(COMPOSE)))
    assert "PACKAGES" in stages()[-1].of("ARG")[0]


def text_of(page: str) -> str:
    return path_of(page).read_text(encoding="utf-8")
