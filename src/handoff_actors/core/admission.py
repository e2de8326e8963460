"""What is taken from others at all: the wire's types are right, and here are the bounds that types can't say.

Peers are members, but what they say may come of a bug or of malice, and what gets past here is computed with.
"""

from collections.abc import Mapping
from math import isfinite

from handoff_actors.errors import RemoteProtocolError
from handoff_actors.ids import Resources
from handoff_actors.wire.messages import Advert, Assign, Hello, Job, Redeclare, Template, ToNode

#: More GPUs than any machine has, and each is an entry in a list.
MAX_GPUS = 1024.0


def check_message(message: ToNode) -> None:
    """Raise RemoteProtocolError for what no sound peer says to a node."""
    match message:
        case Assign():
            for template in message.templates:
                _check_template(template)
        case Redeclare(capabilities):
            _check_resources("capability", capabilities)
        case Hello() if message.advert is not None:
            check_advert(message.advert)
        case _:
            pass


def check_advert(advert: Advert) -> None:
    """Raise RemoteProtocolError for what no sound node says of itself."""
    _check_resources(f"node {advert.name!r} offers", advert.capabilities)
    _check_resources(f"node {advert.name!r} has to spare", advert.spare)


def check_job(job: Job, templates: Mapping[int, Template]) -> None:
    """Raise RemoteProtocolError for a job that this node has no code for, or a unit that it could not account for."""
    for member in (job, *job.then):
        if member.template not in templates:
            raise RemoteProtocolError(f"function {member.index}: template {member.template} was never sent")
    members = [templates[member.template] for member in (job, *job.then)]
    is_sound = all(
        member.cost == members[0].cost and not member.is_async and member.timeout is None
        for member in members
    )
    if job.then and not (is_sound and not any(member.then for member in job.then)):
        raise RemoteProtocolError(f"function {job.index} can't be the first of a unit with {members}")


def _check_template(template: Template) -> None:
    _check_resources(f"template {template.number} costs", template.cost)
    timeout = template.timeout
    if timeout is not None and not (isfinite(timeout) and timeout > 0):
        raise RemoteProtocolError(f"template {template.number} has a timeout of {timeout} s")


def _check_resources(what: str, resources: Resources) -> None:
    for resource, amount in resources.items():
        if not (isfinite(amount) and amount >= 0):
            raise RemoteProtocolError(f"{what} {amount} of {resource!r}")
    if resources.get("gpu", 0.0) > MAX_GPUS:
        raise RemoteProtocolError(f"{what} {resources['gpu']} of 'gpu'")
