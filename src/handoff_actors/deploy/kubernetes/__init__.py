"""A cluster on Kubernetes: the text of a manifest, made without a client of Kubernetes and without a library for YAML."""

from handoff_actors.deploy.kubernetes.manifest import manifest_text
from handoff_actors.deploy.kubernetes.settings import KubernetesSettings, Toleration

__all__ = ["KubernetesSettings", "Toleration", "manifest_text"]
