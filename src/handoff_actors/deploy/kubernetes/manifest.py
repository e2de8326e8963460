"""The manifest of a cluster: its Service, NetworkPolicy, PodDisruptionBudget and StatefulSet, as `kubectl apply` takes them."""

import shlex

from handoff_actors.deploy.kubernetes.pod import KEY_FILE, labels, pod_template
from handoff_actors.deploy.kubernetes.settings import KubernetesSettings
from handoff_actors.deploy.kubernetes.yaml_text import YamlValue, yaml_of


def manifest_text(settings: KubernetesSettings) -> str:
    """Write the manifest. Raises ValueError for settings that Kubernetes would refuse, or that no pod could run with."""
    settings.checked()
    objects = (_service(settings), _network_policy(settings), _disruption_budget(settings), _set(settings))
    return "---\n".join((_head(settings), *map(yaml_of, objects)))


def _head(settings: KubernetesSettings) -> str:
    where = [] if settings.namespace is None else ["--namespace", settings.namespace]
    secret = ["create", "secret", "generic", settings.secret, f"--from-file={KEY_FILE}"]
    return (
        f"# A cluster of {settings.replicas} nodes, made by `handoff manifest kubernetes`. Its key is a Secret:\n"
        f"#   handoff keygen --output {KEY_FILE}\n"
        f"#   {shlex.join(['kubectl', *where, *secret])}\n"
        f"# Apps have HANDOFF_SEEDS=tcp://{settings.name}:{settings.port}, and the key in HANDOFF_KEY or HANDOFF_KEY_FILE.\n"
    )


def _metadata(settings: KubernetesSettings) -> YamlValue:
    where: dict[str, YamlValue] = {} if settings.namespace is None else {"namespace": settings.namespace}
    return {"name": settings.name, **where, "labels": labels(settings)}


def _service(settings: KubernetesSettings) -> dict[str, YamlValue]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(settings),
        "spec": {
            # A name that has the addresses of all pods, of those that aren't ready, too.
            "clusterIP": "None",
            # A node listens at one address of its pod, of either family where the cluster has both.
            "ipFamilyPolicy": "PreferDualStack",
            "publishNotReadyAddresses": True,
            "selector": labels(settings),
            "ports": [
                {"name": "runs", "port": settings.port, "targetPort": "runs"},
                {"name": "adverts", "port": settings.bus_port, "targetPort": "adverts"},
            ],
        },
    }


def _network_policy(settings: KubernetesSettings) -> dict[str, YamlValue]:
    # All pods of the namespace: its nodes, and apps.
    sources: list[YamlValue] = [{"podSelector": {}}]
    sources += [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        for namespace in settings.app_namespaces
    ]
    ports: list[YamlValue] = [
        {"protocol": "TCP", "port": settings.port},
        {"protocol": "TCP", "port": settings.bus_port},
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(settings),
        "spec": {
            "podSelector": {"matchLabels": labels(settings)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": sources, "ports": ports}],
        },
    }


def _disruption_budget(settings: KubernetesSettings) -> dict[str, YamlValue]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(settings),
        # A node's values go to others while it drains.
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels(settings)}},
    }


def _set(settings: KubernetesSettings) -> dict[str, YamlValue]:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _metadata(settings),
        "spec": {
            "serviceName": settings.name,
            "replicas": settings.replicas,
            # No node needs another one to start.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels(settings)},
            "template": pod_template(settings),
        },
    }
