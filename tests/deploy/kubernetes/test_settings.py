"""Settings that Kubernetes would refuse, or that would say something else in the manifest, are refused before."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings as limits, strategies as st

from handoff_actors.deploy.kubernetes import KubernetesSettings, Toleration, manifest_text

FINE: dict[str, Any] = {"image": "handoff:1"}
HOSTILE = [
    "", " ", "a b", "a\nkind: Pod", "a\n---\n", "a: b", "a#", "# a", '"', "'", "{}", "[a]", "*a", "&a", "!!int 1", "$(X)", "`id`",
    "a;b", "é", "a\0", "a\x85", "\ud800", "../a", "-a", "a-", ".", "|", ">", "%", "@", "A" * 300,
]  # fmt: skip
NAMES = ("name", "namespace", "key_secret", "pull_secret")
TEXTS = (*NAMES, "image", "cpu", "memory", "shared_memory", "gpu_resource")


def refusal_of(**settings: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        manifest_text(KubernetesSettings(**(FINE | settings)))
    return str(caught.value)


@pytest.mark.parametrize("setting", TEXTS)
def test_hostile_texts_are_refused(setting: str) -> None:
    for text in HOSTILE:
        assert repr(text) in refusal_of(**{setting: text})


@limits(max_examples=40)
@given(st.sampled_from(TEXTS), st.text("aA0-._/:@#\"'\\{[&*!|> \n\u2028é", max_size=6), st.text(max_size=8))
def test_texts_are_refused_or_arrive_as_they_are(setting: str, text: str, value: str) -> None:
    settings = KubernetesSettings(**(FINE | {setting: text, "variables": {"LEVEL": value}}))
    try:
        written = manifest_text(settings)
    except ValueError:
        return

    *others, stateful_set = yaml.safe_load_all(written)
    pod = stateful_set["spec"]["template"]["spec"]
    variables = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
    assert [found["kind"] for found in others] == ["Service", "NetworkPolicy", "PodDisruptionBudget"]
    assert stateful_set["metadata"]["name"] == settings.name
    assert pod["containers"][0]["image"] == settings.image
    assert variables["LEVEL"].replace("$$", "$") == value


def test_hostile_texts_are_refused_in_lists() -> None:
    for text in HOSTILE:
        refusal_of(app_namespaces=[text])
        refusal_of(node_selector={text: "x"})
        if text:
            # An empty value is one.
            refusal_of(node_selector={"disk": text})
        with pytest.raises(ValueError, match="is no"):
            Toleration.from_text(text)


def test_hostile_names_of_variables_are_refused() -> None:
    for text in HOSTILE:
        if not text.isalpha():
            refusal_of(variables={text: "x"})


@pytest.mark.parametrize("setting", NAMES)
@pytest.mark.parametrize("text", ["Handoff", "hand_off", "a..b", "a" * 254])
def test_names_are_those_of_dns(setting: str, text: str) -> None:
    refusal_of(**{setting: text})


def test_the_name_leaves_room_for_what_kubernetes_adds() -> None:
    assert "53 characters, and may have 52" in refusal_of(name="a" * 53)
    assert "begins with a letter" in refusal_of(name="1a")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"memory": "8"}, "8 bytes, too few for a node"),
        ({"memory": "512m"}, "for mebibytes write 512Mi"),
        ({"memory": "2GB"}, "no amount of memory"),
        ({"memory": "2Gi", "shared_memory": "3Gi"}, "part of a pod's memory"),
        ({"shared_memory": "0"}, "part of a pod's memory"),
        ({"cpu": "0"}, "no amount of CPU"),
        ({"cpu": "2Gi"}, "no amount of CPU"),
        ({"cpu": "1e3"}, "no quantity of Kubernetes"),
        ({"variables": {"POD_NAME": "x"}}, "the manifest's own"),
        ({"variables": {"HANDOFF_KEY": "x"}}, "put it into the Secret handoff-key"),
        ({"variables": {"A": "\udcff"}}, "the variable A is '\\udcff', which is not Unicode text"),
        ({"variables": {"A=B": "x"}}, "no name of a variable"),
        ({"variables": {"": "x"}}, "no name of a variable"),
        ({"image": "handoff:"}, "no reference of an image"),
        ({"image": "Handoff"}, "no reference of an image"),
        ({"image": "handoff@sha256:12"}, "no reference of an image"),
    ],
)
def test_settings_that_no_pod_could_run_with_are_refused(settings: dict[str, Any], said: str) -> None:
    assert said in refusal_of(**settings)


@pytest.mark.parametrize(
    "image",
    [
        "handoff",
        "a/b",
        "localhost/handoff",
        "registry.example:5000/a__b/c.d-e:V1.2_x",
        f"a@sha256:{'1' * 64}",
    ],
)
def test_references_of_images_are_accepted(image: str) -> None:
    assert image in manifest_text(KubernetesSettings(image=image))


@pytest.mark.parametrize(
    "text", ["gpu", "gpu=yes", "gpu=yes:Never", ":NoSchedule", "=a:NoSchedule", "a=b=c:NoSchedule"]
)
def test_taints_are_written_as_kubectl_writes_them(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Toleration.from_text(text)
