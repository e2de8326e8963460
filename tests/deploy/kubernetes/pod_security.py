"""The "restricted" Pod Security Standard of Kubernetes, as far as a pod of ours could break it."""

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
NAMESPACES_OF_THE_HOST = ("hostNetwork", "hostPID", "hostIPC", "hostUsers")


def violations(spec: Mapping[str, Any]) -> list[str]:
    """What the standard forbids in the specification of a pod."""
    return list(_violations(spec))


def _violations(spec: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in NAMESPACES_OF_THE_HOST if spec.get(name))
    for volume in spec.get("volumes", ()):
        yield from (f"volume {kind}" for kind in volume.keys() - {"name"} - VOLUMES)
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        # Of a setting that both have, the container's counts.
        own = container.get("securityContext", {})
        both = spec.get("securityContext", {}) | own
        yield from ("hostPort" for port in container.get("ports", ()) if port.get("hostPort"))
        if own.get("privileged") or own.get("allowPrivilegeEscalation", True):
            yield "privileges"
        if "ALL" not in own.get("capabilities", {}).get("drop", ()) or own["capabilities"].get("add"):
            yield "capabilities"
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            yield "root"
        if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
            yield "seccomp"
        yield from (
            name for name in ("seLinuxOptions", "sysctls", "procMount", "windowsOptions") if name in both
        )
