"""The functions of a session that wait for nodes with room, as nodes that can start others are told of them.

They are ready and in no node's hands, or in the queue of a node that has no room for them now. Nothing here looks at single
functions: runs keep those that are ready in lanes, and count those on nodes by class.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.wire.messages.members import MOST_BACKLOGS, Backlog

#: A claim, and the seconds that a node must have left.
_Key = tuple[tuple[tuple[str, float], ...], float]
#: Any node runs about as many coroutines at once, if they claim nothing.
ONE: Final = 1


def backlogs(ready: Iterable[tuple[RequirementClass, int, float]], load: SessionLoad) -> list[Backlog]:
    """Sum up what waits, by claim and by the seconds that a node must have left: what is `ready` of all runs, and what is on nodes."""
    found: dict[_Key, Backlog] = {}
    queued = ((need, count, 0.0) for need, count in load.queued())
    for need, count, least_s in [*ready, *queued]:
        _add(found, need, count, least_s)
    return _at_most(list(found.values()), MOST_BACKLOGS)


def _add(found: "dict[_Key, Backlog]", need: RequirementClass, count: int, least_s: float) -> None:
    if need.is_async and not need.cost:
        count = min(count, ONE)
    key = (*need.key[0], *need.key[3]), least_s
    known = found.get(key)
    found[key] = _merged(known or Backlog(0, need.least, 0.0, least_s), count, need.seconds)


def _merged(one: Backlog, count: int, usual_s: float | None) -> Backlog:
    longest_s = None if one.usual_s is None or usual_s is None else max(one.usual_s, usual_s)
    return replace(one, count=one.count + count, usual_s=longest_s)


def _at_most(entries: list[Backlog], most: int) -> list[Backlog]:
    """Let the last entry that may be sent stand for all after it, with the largest of their claims."""
    kept, rest = entries[:most], entries[most:]
    for entry in rest:
        last = kept[-1]
        cost = {
            resource: max(last.cost.get(resource, 0.0), entry.cost.get(resource, 0.0))
            for resource in [*last.cost, *entry.cost]
        }
        merged = _merged(last, entry.count, entry.usual_s)
        kept[-1] = replace(merged, cost=cost, least_s=max(last.least_s, entry.least_s))
    return kept
