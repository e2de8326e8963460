"""Pods of a StatefulSet as the kubelet makes them, in containers of namespaces: their variables, volumes, user and probes."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handoff_actors.deploy.kubernetes.rules import nbytes_of
from tests.deploy.sandbox import Container, Mount, Specification
from tests.hosts.network import Host

#: The kubelet lets the group of a pod's volumes read what the user may read, and write to what it may write to.
GROUP_READS = 0o440


@dataclass(frozen=True)
class Platform:
    """What is chosen for pods that leave it open: by the image, or for each namespace, as OpenShift does."""

    user: int
    group: int
    volume_group: int | None


class Pod:
    """One pod of a StatefulSet, on a host of its own. Use it with `with` around its container."""

    def __init__(
        self,
        stateful_set: Mapping[str, Any],
        ordinal: int,
        secrets: Mapping[str, Mapping[str, str]],
        platform: Platform,
        directory: Path,
    ) -> None:
        self.name = f"{stateful_set['metadata']['name']}-{ordinal}"
        self.spec = stateful_set["spec"]["template"]["spec"]
        (self.container,) = self.spec["containers"]
        self._secrets = secrets
        self._directory = directory / self.name
        self._directory.mkdir()
        chosen = self.spec["securityContext"]
        self._user = chosen.get("runAsUser", platform.user)
        self._group = chosen.get("runAsGroup", platform.group)
        self._volume_group = chosen.get("fsGroup", platform.volume_group)

    def run(self, hosts: Sequence[Host], host: Host, service: str, limits: Sequence[str] = ()) -> Container:
        """Start it. `hosts` are those of all pods of its Service."""
        variables = self._variables()
        rights = self.container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        specification = Specification(
            [expanded(word, variables) for word in self.container["command"]],
            variables,
            self._user,
            self._group,
            self.name,
            names=[(service, other.address) for other in hosts],
            groups=[] if self._volume_group is None else [self._volume_group],
            mounts=[self._mount(mount) for mount in self.container["volumeMounts"]],
            is_read_only=rights["readOnlyRootFilesystem"],
            drops_capabilities=rights["capabilities"] == {"drop": ["ALL"]},
            limits=limits,
        )
        return Container(specification, host, self._directory)

    def probe(self, kind: str) -> tuple[Sequence[str], float]:
        """The command of a probe, in which nothing is expanded, and its time limit."""
        probe = self.container[kind]
        return probe["exec"]["command"], probe["timeoutSeconds"]

    def start_s(self) -> float:
        """The time that the pod gets to start."""
        probe = self.container["startupProbe"]
        return float(probe["periodSeconds"] * probe["failureThreshold"])

    def _variables(self) -> dict[str, str]:
        facts = {"metadata.name": self.name}
        found: dict[str, str] = {}
        for variable in self.container["env"]:
            if "valueFrom" in variable:
                found[variable["name"]] = facts[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                found[variable["name"]] = expanded(variable["value"], found)
        return found

    def _mount(self, mount: Mapping[str, Any]) -> Mount:
        (volume,) = [volume for volume in self.spec["volumes"] if volume["name"] == mount["name"]]
        target = mount["mountPath"]
        if volume.get("emptyDir", {}).get("medium") == "Memory":
            size = str(nbytes_of(volume["emptyDir"]["sizeLimit"]))
            return Mount(target, size=size, mode="2777", group=self._volume_group or 0)
        place = self._directory / volume["name"]
        place.mkdir()
        if "secret" in volume:
            self._write_secret(volume["secret"], place)
            return Mount(target, place, is_read_only=mount["readOnly"])
        os.chown(place, 0, self._volume_group or 0)
        place.chmod(0o2777)
        return Mount(target, place)

    def _write_secret(self, secret: Mapping[str, Any], place: Path) -> None:
        """Write the files of a secret, which the kubelet replaces by replacing one link."""
        written = place / "..2026_11_29"
        written.mkdir()
        (place / "..data").symlink_to(written.name)
        for item in secret["items"]:
            path = written / item["path"]
            path.write_text(self._secrets[secret["secretName"]][item["key"]])
            os.chown(path, 0, self._volume_group or 0)
            path.chmod(secret["defaultMode"] | (0 if self._volume_group is None else GROUP_READS))
            (place / item["path"]).symlink_to(f"..data/{item['path']}")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME), and $$ by $, as Kubernetes does."""
    return re.sub(
        r"\$(?:\$|\((\w+)\))",
        lambda found: "$" if found[1] is None else variables.get(found[1], found[0]),
        text,
    )
