"""Objects of `per_worker` as a node knows them: what a job needs, and what a worker has."""

from collections.abc import Mapping

from msgspec import Struct

from handoff_actors.core.resources import Claim
from handoff_actors.ids import Resources
from handoff_actors.wire.messages.jobs import Call, Job, Template


class WarmNeed(Struct, frozen=True):
    """An object that a job needs in its worker."""

    #: As in `WarmObject`.
    key: bytes
    name: str
    idle_s: float
    #: Claimed as long as the object is in a worker.
    cost: Resources


class WarmCopy(Struct, eq=False):
    """The object in one worker."""

    need: WarmNeed
    #: None where it claims nothing.
    claim: Claim | None
    #: When a job that needs it began or ended last.
    used_at: float
    #: Memory that it takes; None: it is being made, or to be made.
    nbytes: int | None = None


def warm_needs(job: Job, templates: Mapping[int, Template]) -> tuple[WarmNeed, ...]:
    """The objects that a job and the rest of its fused group need, in the order of their keys."""
    found: dict[bytes, WarmNeed] = {}
    pending = [arg for member in (job, *job.then) for arg in member.args if type(arg) is Call]
    while pending:
        call = pending.pop()
        template = templates[call.template]
        pending += [arg for arg in call.args if type(arg) is Call]
        if template.warm is not None:
            warm = template.warm
            found[warm.key] = WarmNeed(warm.key, warm.name, warm.idle_s, template.cost)
    return tuple([found[key] for key in sorted(found)])
