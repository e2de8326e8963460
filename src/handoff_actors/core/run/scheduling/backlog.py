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

#: Any node runs about as many coroutines at once, if they claim nothing.
ONE: Final = 1


def backlogs(ready: Iterable[tuple[RequirementClass, int]], load: SessionLoad) -> list[Backlog]:
    """Sum up what waits, by claim: the `ready` functions of all runs, and those on nodes."""
    found: dict[tuple[tuple[str, float], ...], Backlog] = {}
    for need, count in [*ready, *load.queued()]:
        _add(found, need, count)
    return _at_most(list(found.values()), MOST_BACKLOGS)


def _add(found: dict[tuple[tuple[str, float], ...], Backlog], need: RequirementClass, count: int) -> None:
    if need.is_async and not need.cost:
        count = min(count, ONE)
    key = need.key[0]
    known = found.get(key)
    found[key] = _merged(known or Backlog(0, need.cost, 0.0), count, need.seconds)


def _merged(one: Backlog, count: int, usual_s: float | None) -> Backlog:
    longest_s = None if one.usual_s is None or usual_s is None else max(one.usual_s, usual_s)
    return Backlog(one.count + count, one.cost, longest_s)


def _at_most(entries: list[Backlog], most: int) -> list[Backlog]:
    """Let the last entry that may be sent stand for all after it, with the largest of their claims."""
    kept, rest = entries[:most], entries[most:]
    for entry in rest:
        last = kept[-1]
        cost = {
            resource: max(last.cost.get(resource, 0.0), entry.cost.get(resource, 0.0))
            for resource in [*last.cost, *entry.cost]
        }
        kept[-1] = replace(_merged(last, entry.count, entry.usual_s), cost=cost)
    return kept
