"""`handoff manifest`: descriptions of a cluster for systems that run containers."""

from collections.abc import Callable
from typing import Any, get_args

import click

from handoff_actors.deploy.kubernetes import KubernetesSettings, Toleration, manifest_text
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
from handoff_actors.deploy.kubernetes.settings import LEAST_GRACE_S, MOST_GRACE_S, PullPolicy
from handoff_actors.wire.versions import VERSION

#: Ports below need a right that the pods don't have; the one after is the bus's.
_LEAST_PORT, _MOST_PORT = 1024, 65534
_MOST_USER = 2**31 - 1
#: With a tag other than latest, Kubernetes takes an image that a machine has already.
_IMAGE = f"handoff:{VERSION}"


class _Checked(click.ParamType):  # type: ignore[type-arg]  # generic in late versions of click only
    """A text within a rule of Kubernetes."""

    name = "text"

    def __init__(self, check: Callable[[str], object]) -> None:
        """Have `check` raise ValueError for texts that break the rule."""
        self._check = check

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        try:
            self._check(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return value


def _check_label(text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is no label; one looks like disk=fast")
    check_label_key(key)
    check_label_value(value)


def _check_assignment(text: str) -> None:
    if "=" not in text:
        raise ValueError(f"{text!r} is no variable; one looks like LEVEL=3")


@click.group()
def manifest() -> None:
    """Print a description of a cluster for a system that runs containers."""


@manifest.command()
@click.option(
    "--image",
    type=_Checked(check_image),
    default=_IMAGE,
    help="Image of the nodes, with handoff_actors and the packages of your functions. "
    f"[default: {_IMAGE}, as `docker build --tag {_IMAGE} .` makes it in a clone]",
)
@click.option(
    "--name",
    type=_Checked(check_set_name),
    default="handoff",
    show_default=True,
    help="Name of the cluster: of its objects, and by which its members are found.",
)
@click.option(
    "--namespace",
    type=_Checked(check_namespace),
    help="Namespace of the cluster. [default: that in which the manifest is applied]",
)
@click.option("--replicas", type=click.IntRange(min=0), default=3, show_default=True, help="Number of nodes.")
@click.option(
    "--cpu",
    type=_Checked(cores_of),
    default="1",
    show_default=True,
    metavar="CORES",
    help="Cores of each node, for example 4 or 500m.",
)
@click.option(
    "--memory",
    type=_Checked(nbytes_of),
    default="2Gi",
    show_default=True,
    metavar="AMOUNT",
    help="Memory of each node, for example 16Gi.",
)
@click.option(
    "--shared-memory",
    type=_Checked(nbytes_of),
    metavar="AMOUNT",
    help="Size of /dev/shm, where large values are; it is part of the memory. [default: half of it]",
)
@click.option(
    "--gpus", type=click.IntRange(min=0), default=0, help="GPUs of each node, which it offers as `gpu`."
)
@click.option(
    "--gpu-resource",
    type=_Checked(check_label_key),
    default="nvidia.com/gpu",
    show_default=True,
    metavar="RESOURCE",
    help="Name that Kubernetes has for these GPUs.",
)
@click.option(
    "--key-secret",
    type=_Checked(check_object_name),
    help="Name of the Secret that has the cluster key as `cluster.key`. [default: NAME-key]",
)
@click.option(
    "--also-accept",
    is_flag=True,
    help="Accept members with another key, too, which that Secret has as `also.key`, while the key is replaced.",
)
@click.option(
    "--grace",
    "grace_s",
    type=click.IntRange(LEAST_GRACE_S, MOST_GRACE_S),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Time that a node gets to end. It drains for 5 seconds less.",
)
@click.option(
    "--port",
    type=click.IntRange(_LEAST_PORT, _MOST_PORT),
    default=7070,
    show_default=True,
    help="Port of the nodes. The one after it is for adverts.",
)
@click.option(
    "--user",
    type=click.IntRange(1, _MOST_USER),
    default=1000,
    show_default=True,
    metavar="UID",
    help="User and group of the containers.",
)
@click.option("--openshift", is_flag=True, help="Leave user and group to the platform, as OpenShift demands.")
@click.option(
    "--pull-policy",
    type=click.Choice(get_args(PullPolicy)),
    help="When the image is pulled. [default: always if its tag is latest, else if it is not there]",
)
@click.option(
    "--pull-secret", type=_Checked(check_object_name), help="Name of the Secret for the image's registry."
)
@click.option(
    "--env",
    "variables",
    type=_Checked(_check_assignment),
    multiple=True,
    metavar="NAME=VALUE",
    help="Variable of the nodes and of their functions. Repeatable.",
)
@click.option(
    "--node-selector",
    "selectors",
    type=_Checked(_check_label),
    multiple=True,
    metavar="KEY=VALUE",
    help="Label that machines need to get a node. Repeatable.",
)
@click.option(
    "--toleration",
    "tolerations",
    type=_Checked(Toleration.from_text),
    multiple=True,
    metavar="KEY[=VALUE]:EFFECT",
    help="Taint of machines that may get a node nevertheless. Repeatable.",
)
@click.option(
    "--app-namespace",
    "app_namespaces",
    type=_Checked(check_namespace),
    multiple=True,
    metavar="NAMESPACE",
    help="Namespace whose pods may use the cluster, beside its own. Repeatable.",
)
def kubernetes(
    *,
    user: int,
    openshift: bool,
    variables: tuple[str, ...],
    selectors: tuple[str, ...],
    tolerations: tuple[str, ...],
    **others: Any,
) -> None:
    """Print a manifest for `kubectl apply -f -`: a cluster as a StatefulSet.

    Its pods run as no root, with a read-only root file system, and drain before they end. Its first lines say how to
    give it a key.
    """
    settings = KubernetesSettings(
        user=None if openshift else user,
        variables=dict(map(_split, variables)),
        node_selector=dict(map(_split, selectors)),
        tolerations=[Toleration.from_text(text) for text in tolerations],
        **others,
    )
    try:
        text = manifest_text(settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(text, nl=False)


def _split(assignment: str) -> tuple[str, str]:
    name, _, value = assignment.partition("=")
    return name, value
