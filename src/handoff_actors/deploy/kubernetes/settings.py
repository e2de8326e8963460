"""The settings of a manifest, each within the rules of Kubernetes, and all of them together such that pods can run."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

from msgspec import Struct

from handoff_actors.deploy.kubernetes.rules import (
    check_image,
    check_label_key,
    check_label_value,
    check_namespace,
    check_object_name,
    check_set_name,
    cores_of,
    nbytes_of,
)
from handoff_actors.deploy.kubernetes.yaml_text import is_unicode
from handoff_actors.transport.keys import KEY_VARIABLE

Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]

_EFFECTS: Final[tuple[Effect, ...]] = get_args(Effect)

#: Between the end of the drain and SIGKILL: a node takes a moment to end.
ENDS_WITHIN_S: Final = 5
LEAST_GRACE_S: Final = 10
MOST_GRACE_S: Final = 7 * 24 * 3600
#: A node with two workers, of which each has imported little, uses half of it.
LEAST_MEMORY_NBYTES: Final = 256 * 2**20
POD_NAME: Final = "POD_NAME"
#: Names of variables that every version of Kubernetes takes.
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MEBIBYTE: Final = 2**20


class Toleration(Struct, frozen=True):
    """A taint that pods may ignore."""

    key: str
    #: None: any value.
    value: str | None
    effect: Effect

    @classmethod
    def from_text(cls, text: str) -> "Toleration":
        """Read KEY=VALUE:EFFECT or KEY:EFFECT, as `kubectl taint` writes them. Raises ValueError."""
        taint, _, ending = text.rpartition(":")
        effect = next((effect for effect in _EFFECTS if effect == ending), None)
        if effect is None:
            raise ValueError(
                f"{text!r} is no taint; one looks like gpu=yes:NoSchedule, and ends with {', '.join(_EFFECTS)}"
            )
        key, equals, value = taint.partition("=")
        return cls(check_label_key(key), check_label_value(value) if equals else None, effect)


class KubernetesSettings(Struct, frozen=True, kw_only=True):
    """A cluster as a StatefulSet. `checked` holds for those that a manifest is made of."""

    image: str
    name: str = "handoff"
    #: None: the namespace that the manifest is applied in.
    namespace: str | None = None
    replicas: int = 3
    cpu: str = "1"
    memory: str = "2Gi"
    #: The size of /dev/shm, which is part of the memory. None: half of it.
    shared_memory: str | None = None
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    #: The Secret with the key, as `cluster.key`. None: the name of the cluster, and `-key`.
    key_secret: str | None = None
    #: That Secret has another key that members may have, as `also.key`.
    also_accept: bool = False
    grace_s: int = 60
    port: int = 7070
    #: None: the platform gives the user, as OpenShift does.
    user: int | None = 1000
    pull_policy: PullPolicy | None = None
    pull_secret: str | None = None
    variables: Mapping[str, str] = {}
    node_selector: Mapping[str, str] = {}
    tolerations: Sequence[Toleration] = ()
    #: Namespaces of apps, beside the cluster's own.
    app_namespaces: Sequence[str] = ()

    def checked(self) -> "KubernetesSettings":
        """Return these settings. Raises ValueError for the first that Kubernetes would refuse, or that no pod could run with."""
        check_image(self.image)
        check_set_name(self.name)
        for namespace in (*self.app_namespaces, *([self.namespace] if self.namespace is not None else [])):
            check_namespace(namespace)
        for secret in (self.secret, *([self.pull_secret] if self.pull_secret is not None else [])):
            check_object_name(secret)
        check_label_key(self.gpu_resource)
        for key, value in self.node_selector.items():
            check_label_key(key)
            check_label_value(value)
        cores_of(self.cpu)
        self._check_memory()
        self._check_variables()
        return self

    @property
    def secret(self) -> str:
        """The name of the Secret with the key."""
        return f"{self.name}-key" if self.key_secret is None else self.key_secret

    @property
    def bus_port(self) -> int:
        """The port of adverts."""
        return self.port + 1

    @property
    def drain_s(self) -> int:
        """The longest time that a node takes to leave."""
        return self.grace_s - ENDS_WITHIN_S

    @property
    def shared(self) -> str:
        """The size of /dev/shm."""
        if self.shared_memory is not None:
            return self.shared_memory
        return f"{nbytes_of(self.memory) // 2 // _MEBIBYTE}Mi"

    def _check_memory(self) -> None:
        memory, shared = nbytes_of(self.memory), nbytes_of(self.shared)
        if memory < LEAST_MEMORY_NBYTES:
            raise ValueError(
                f"{self.memory} of memory are {memory} bytes, too few for a node; write for example 2Gi"
            )
        if not 0 < shared <= memory:
            raise ValueError(
                f"{self.shared} of shared memory in {self.memory} of memory: shared memory is part of a pod's memory, "
                "and has to leave room for the functions; half of it is usual"
            )

    def _check_variables(self) -> None:
        for name, text in self.variables.items():
            if not _VARIABLE.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no name of a variable: that has letters, digits and _, as in LEVEL_2"
                )
            if not is_unicode(text):
                raise ValueError(f"the variable {name} is {text!r}, which is not Unicode text")
            if name == POD_NAME:
                raise ValueError(f"the variable {POD_NAME} is the manifest's own")
            if name == KEY_VARIABLE:
                raise ValueError(
                    f"with {KEY_VARIABLE} whoever reads the manifest has the cluster's key; put it into the Secret {self.secret}"
                )
