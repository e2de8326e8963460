"""The pod of a node: its command, its probes, and what it may do and use."""

from typing import Final

from handoff_actors.deploy.kubernetes.settings import POD_NAME, KubernetesSettings
from handoff_actors.deploy.kubernetes.yaml_text import YamlValue
from handoff_actors.transport.keys import ALSO_ACCEPT_VARIABLE, KEY_FILE_VARIABLE

KEY_DIRECTORY: Final = "/etc/handoff"
KEY_FILE: Final = "cluster.key"
OTHER_KEY_FILE: Final = "also.key"
#: 0400. As a number, as some versions of YAML read a zero in front as octal, and others don't.
_OWNER_READS: Final = 0o400
_PING_S: Final = 8
_PROBE_S: Final = 10


def labels(settings: KubernetesSettings) -> dict[str, YamlValue]:
    """The labels of all objects, by which the pods are found."""
    return {
        "app.kubernetes.io/name": "handoff-actors",
        "app.kubernetes.io/instance": settings.name,
        "app.kubernetes.io/component": "node",
    }


def pod_template(settings: KubernetesSettings) -> YamlValue:
    """The template of the StatefulSet's pods."""
    spec: dict[str, YamlValue] = {
        # Longer than the drain.
        "terminationGracePeriodSeconds": settings.grace_s,
        "automountServiceAccountToken": False,
        # The variables of other Services could be taken for settings.
        "enableServiceLinks": False,
        "securityContext": _pod_security(settings),
        "containers": [_container(settings)],
        "volumes": _volumes(settings),
    }
    if settings.pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": settings.pull_secret}]
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        spec["tolerations"] = [
            {"key": taint.key, "operator": "Exists", "effect": taint.effect}
            if taint.value is None
            else {"key": taint.key, "operator": "Equal", "value": taint.value, "effect": taint.effect}
            for taint in settings.tolerations
        ]
    return {"metadata": {"labels": labels(settings)}, "spec": spec}


def _container(settings: KubernetesSettings) -> YamlValue:
    container: dict[str, YamlValue] = {"name": "node", "image": settings.image}
    if settings.pull_policy is not None:
        container["imagePullPolicy"] = settings.pull_policy
    return container | {
        "command": _command(settings),
        "env": _environment(settings),
        "ports": [
            {"name": "runs", "containerPort": settings.port},
            {"name": "adverts", "containerPort": settings.bus_port},
        ],
        "resources": _resources(settings),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "startupProbe": _probe(settings, period_s=2, failures=90),
        "readinessProbe": _probe(settings, "--ready", period_s=10, failures=3),
        "livenessProbe": _probe(settings, period_s=20, failures=6),
        "volumeMounts": [
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - a mount of the pod's own
            {"name": "files", "mountPath": "/tmp"},  # noqa: S108 - as above
            {"name": "key", "mountPath": KEY_DIRECTORY, "readOnly": True},
        ],
    }


def _command(settings: KubernetesSettings) -> list[YamlValue]:
    gpus: list[YamlValue] = ["--resource", f"gpu={settings.gpus}"] if settings.gpus else []
    return [
        "handoff",
        "node",
        "--name",
        f"$({POD_NAME})",
        # The pod's host name, which is its address of either version in its /etc/hosts.
        "--listen",
        f"tcp://$({POD_NAME}):{settings.port}",
        "--may-be-alone",
        "--drain",
        str(settings.drain_s),
        *gpus,
    ]


def _environment(settings: KubernetesSettings) -> list[YamlValue]:
    variables = {
        # The root can't be written to, and the user may have no home.
        "HOME": "/tmp",  # noqa: S108 - the pod's own
        KEY_FILE_VARIABLE: f"{KEY_DIRECTORY}/{KEY_FILE}",
        "HANDOFF_SEEDS": f"tcp://{settings.name}:{settings.port}",
    }
    if settings.also_accept:
        variables[ALSO_ACCEPT_VARIABLE] = f"{KEY_DIRECTORY}/{OTHER_KEY_FILE}"
    # Kubernetes replaces $(NAME).
    variables |= {name: text.replace("$", "$$") for name, text in settings.variables.items()}
    pod_name: YamlValue = {"name": POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return [pod_name, *({"name": name, "value": text} for name, text in variables.items())]


def _resources(settings: KubernetesSettings) -> YamlValue:
    amounts: dict[str, YamlValue] = {"cpu": settings.cpu, "memory": settings.memory}
    if settings.gpus:
        amounts[settings.gpu_resource] = settings.gpus
    # A node offers what its limits are, so it needs them.
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _probe(settings: KubernetesSettings, *options: str, period_s: int, failures: int) -> YamlValue:
    # Not httpGet, which would need the port of the metrics. Commands of probes have no $(NAME).
    words = ["exec handoff ping", *options, f"--timeout {_PING_S} tcp://${POD_NAME}:{settings.port}"]
    return {
        "exec": {"command": ["sh", "-c", " ".join(words)]},
        "periodSeconds": period_s,
        # Python has to start beside functions that use all of the container's CPU.
        "timeoutSeconds": _PROBE_S,
        "failureThreshold": failures,
    }


def _pod_security(settings: KubernetesSettings) -> YamlValue:
    user = settings.user
    # With the group the kubelet lets the user read the key.
    ids = {} if user is None else {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    return {"runAsNonRoot": True, **ids, "seccompProfile": {"type": "RuntimeDefault"}}


def _volumes(settings: KubernetesSettings) -> YamlValue:
    names = (KEY_FILE, OTHER_KEY_FILE) if settings.also_accept else (KEY_FILE,)
    return [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": settings.shared}},
        # Temporary files, and values that are spilled.
        {"name": "files", "emptyDir": {}},
        {
            "name": "key",
            "secret": {
                "secretName": settings.secret,
                "defaultMode": _OWNER_READS,
                "items": [{"key": name, "path": name} for name in names],
            },
        },
    ]
