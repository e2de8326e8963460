"""Validate incoming messages beyond what their types check.

Peers are members, but a bug or malice may be behind their messages, and the machines compute with what passes here.
"""

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from handoff_actors.addresses import check_destination
from handoff_actors.errors import InvalidAddressError, RemoteProtocolError
from handoff_actors.ids import Incarnation, PeerId, Resources
from handoff_actors.text import MAX_NAME_BYTES, is_name
from handoff_actors.wire.messages.directions import ToNode
from handoff_actors.wire.messages.jobs import Call, Job, Template
from handoff_actors.wire.messages.kept import Keep
from handoff_actors.wire.messages.members import Advert, Backlog, Beat, Hello, Left, Redeclare
from handoff_actors.wire.messages.nested import Probe, Want
from handoff_actors.wire.messages.runs import Assign

#: More GPUs than any machine has, and each is an entry in a list.
MAX_GPUS = 1024.0
#: Of all text in an advert: every member keeps one of every other, and sends them all on request. A sixth is for the names
#: of objects, of which there are few and short ones.
MAX_ADVERT_BYTES = 7168
#: Of the names of all resources of a node. An advert has them twice, beside a name, addresses and versions.
MAX_OFFER_BYTES = 1500
#: Of the rank of a node, which others must be able to exceed. Nanoseconds since 1970 exceed it in 2116.
MAX_RANK = 2**62


def check_message(message: ToNode) -> None:
    """Raise RemoteProtocolError for a message whose amounts or names are invalid."""
    match message:
        case Assign():
            for template in message.templates:
                _check_template(template)
        case Redeclare(capabilities):
            _check_names("capability", capabilities)
            _check_resources("capability", capabilities)
        case Probe():
            _check_costs("a nested run needs", message.wants)
        case Beat():
            _check_backlogs(message.backlogs)
        case Keep():
            _check_kept(message)
        case Hello() if message.advert is not None:
            check_advert(message.advert)
        case _:
            pass


def check_jobs(message: Assign, known: dict[int, Template]) -> None:
    """Raise RemoteProtocolError for jobs that this node could not run or account for.

    `known` are the templates that the run's earlier messages have brought.
    """
    # A copy of all for each new one would take quadratic time where each function has a template of its own.
    templates = ChainMap(_new_templates(message.templates, known), known) if message.templates else known
    for job in message.jobs:
        if job.then:
            _check_fused_group(job, templates)
        elif job.template not in templates:
            raise _unknown_template(job, job.template)
        for arg in job.args:
            # Most are a small value itself.
            if type(arg) is Call:
                _check_call(job, arg, templates)


def check_advert(advert: Advert) -> None:
    """Raise RemoteProtocolError for an advert that is invalid."""
    if not is_name(advert.name):
        raise RemoteProtocolError(f"a node is called {advert.name[:MAX_NAME_BYTES]!r}, which is no name")
    texts = (
        advert.incarnation,
        advert.version,
        advert.python,
        advert.address,
        advert.bus,
        advert.out_of_use,
        *advert.unreachable,
        *(copies.name for copies in advert.warm),
    )
    if not all(map(str.isprintable, texts)):
        raise RemoteProtocolError(f"node {advert.name!r} says what can't be printed: {texts!r}")
    if advert.rank > MAX_RANK:
        raise RemoteProtocolError(f"node {advert.name!r} has the rank {advert.rank}, more than {MAX_RANK}")
    for address in (advert.address, advert.bus):
        # Others connect there, and inproc:// leads into themselves.
        if address and not is_address(address):
            raise RemoteProtocolError(f"node {advert.name!r} is at {address!r}, which is no address")
    resources = [*advert.capabilities, *advert.spare]
    if (
        sum(len(text.encode()) for text in (advert.name, *texts, *resources, *advert.can_start))
        > MAX_ADVERT_BYTES
    ):
        raise RemoteProtocolError(
            f"the advert of node {advert.name!r} is longer than {MAX_ADVERT_BYTES} bytes"
        )
    _check_names(f"node {advert.name!r} offers", resources)
    _check_names(f"node {advert.name!r} can start", advert.can_start)
    _check_resources(f"node {advert.name!r} can start", advert.can_start)
    _check_resources(f"node {advert.name!r} offers", advert.capabilities)
    _check_resources(f"node {advert.name!r} has to spare", advert.spare)
    _check_amounts(f"node {advert.name!r} has waiting claims of", advert.waiting_claims)
    _check_seconds(f"node {advert.name!r} ends in", advert.ends_in_s)
    _check_seconds(f"node {advert.name!r} can start nodes for", advert.can_start_for_s)


def check_left(message: Left) -> None:
    """Raise RemoteProtocolError for a node's announcement of its end that is invalid."""
    if not (is_name(message.name) and message.incarnation.isprintable()):
        raise RemoteProtocolError(f"a node called {message.name[:MAX_NAME_BYTES]!r} leaves, which is no name")


def is_address(text: str) -> bool:
    """True if this is an address that members may connect to: TCP, and none of ZeroMQ's other transports."""
    try:
        check_destination(text)
    except InvalidAddressError:
        return False
    return True


class Introductions:
    """The nodes that peers have introduced. A connection introduces one node, once."""

    def __init__(self) -> None:
        self._by_peer: dict[PeerId, Incarnation] = {}

    def is_first(self, peer: PeerId, advert: Advert) -> bool:
        """True if the peer introduces a node for the first time. Raises RemoteProtocolError if it has introduced another."""
        known = self._by_peer.get(peer)
        if known is None:
            self._by_peer[peer] = Incarnation(advert.incarnation)
            return True
        if known != advert.incarnation:
            raise RemoteProtocolError(f"a peer that speaks for one node introduces another, {advert.name!r}")
        return False

    def is_known(self, peer: PeerId) -> bool:
        """True if the peer has introduced a node."""
        return peer in self._by_peer

    def check(self, peer: PeerId, incarnation: str) -> None:
        """Raise RemoteProtocolError unless the peer has introduced this node."""
        if self._by_peer.get(peer) != incarnation:
            raise RemoteProtocolError("a peer speaks for a node that it has not introduced")

    def forget(self, peer: PeerId) -> None:
        """Drop a peer that has gone."""
        self._by_peer.pop(peer, None)


def _check_fused_group(job: Job, templates: Mapping[int, Template]) -> None:
    for member in (job, *job.then):
        if member.template not in templates:
            raise _unknown_template(member, member.template)
        for arg in member.args:
            if type(arg) is Call:
                _check_call(member, arg, templates)
    members = [templates[member.template] for member in (job, *job.then)]
    is_sound = all(
        member.cost == members[0].cost and not (member.is_async or member.is_stage) and member.timeout is None
        for member in members
    )
    indices = {member.index for member in (job, *job.then)}
    if not (is_sound and len(indices) == len(members) and not any(member.then for member in job.then)):
        raise RemoteProtocolError(f"function {job.index} can't be the first of a fused group with {members}")


def _check_call(job: Job, call: Call, templates: Mapping[int, Template]) -> None:
    pending = [call]
    while pending:
        inner = pending.pop()
        if inner.template not in templates:
            raise _unknown_template(job, inner.template)
        pending += [arg for arg in inner.args if type(arg) is Call]


def _check_backlogs(backlogs: Sequence[Backlog]) -> None:
    _check_costs("a function that waits needs", backlogs)
    for backlog in backlogs:
        _check_seconds("a function that waits usually takes", backlog.usual_s)
        _check_seconds("a function that waits needs", backlog.least_s)


def _check_kept(message: Keep) -> None:
    if message.name and not is_name(message.name):
        raise RemoteProtocolError(
            f"a value is to be kept as {message.name[:MAX_NAME_BYTES]!r}, which is no name"
        )
    if message.value.index:
        raise RemoteProtocolError(f"a value is to be kept with the index {message.value.index}, and not 0")
    _check_seconds("a value is to be kept for", message.ttl_s)


def _unknown_template(job: Job, number: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"function {job.index}: template {number} was never sent")


def _new_templates(templates: Iterable[Template], known: Mapping[int, Template]) -> dict[int, Template]:
    for template in templates:
        if known.get(template.number, template) != template:
            raise RemoteProtocolError(f"template {template.number} was sent again, and differs")
    return {template.number: template for template in templates}


def _check_template(template: Template) -> None:
    _check_resources(f"template {template.number} costs", template.cost)
    warm = template.warm
    if warm is not None:
        _check_seconds(f"the object of template {template.number} stays for", warm.idle_s)
        if not (warm.name.isascii() and warm.name.isprintable()):
            raise RemoteProtocolError(f"the object of template {template.number} is called {warm.name!a}")
    timeout = template.timeout
    if template.is_stage and (template.is_async or timeout is not None):
        raise RemoteProtocolError(
            f"template {template.number} is of stages that are async, or have a timeout"
        )
    if timeout is not None and not (isfinite(timeout) and timeout > 0):
        raise RemoteProtocolError(f"template {template.number} has a timeout of {timeout} s")


def _check_names(what: str, resources: Iterable[str]) -> None:
    for resource in resources:
        if not is_name(resource):
            raise RemoteProtocolError(f"{what} {resource[:MAX_NAME_BYTES]!r}, which is no name of a resource")


def _check_costs(what: str, entries: Iterable[Want | Backlog]) -> None:
    for entry in entries:
        _check_resources(what, entry.cost)


def _check_resources(what: str, resources: Resources) -> None:
    _check_amounts(what, resources)
    if resources.get("gpu", 0.0) > MAX_GPUS:
        raise RemoteProtocolError(f"{what} {resources['gpu']} of 'gpu'")


def _check_amounts(what: str, amounts: Resources) -> None:
    for resource, amount in amounts.items():
        if not (isfinite(amount) and amount >= 0):
            raise RemoteProtocolError(f"{what} {amount} of {resource!r}")


def _check_seconds(what: str, seconds: float | None) -> None:
    if seconds is not None and not (isfinite(seconds) and seconds >= 0):
        raise RemoteProtocolError(f"{what} {seconds} s")
