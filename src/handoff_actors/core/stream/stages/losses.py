"""Decide how the state and the items of a worker go on that is lost, or has to be stopped."""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from handoff_actors.core.stream.events import ItemFailure
from handoff_actors.core.stream.items.work import Work
from handoff_actors.core.stream.stages.lane import Lane
from handoff_actors.core.stream.stages.stage import MOST_DEATHS, StreamStage
from handoff_actors.errors import HandoffError
from handoff_actors.text import repr_of

#: A worker that is lost so often before it has made its state, one time after the other, is not started again.
MOST_FAILED_STARTS: Final = 3


def state_loss(stage: StreamStage, lane: Lane) -> HandoffError | None:
    """Why the stream can't go on without the state of a worker; None if it can, with a new state."""
    function = stage.vertex.function
    if function.init is None or not lane.was_up:
        return None
    fails = lane.has_replaced_state if function.on_state_loss is None else function.on_state_loss == "fail"
    if not fails:
        return None
    why = (
        "its code has returned another state than it was given, so the results of items to come depend on those before"
        if function.on_state_loss is None
        else 'it has on_state_loss="fail"'
    )
    return HandoffError(
        f"the state of stage {repr_of(function.id)} was lost with its worker on node {lane.node!r}, and {why}: let init restore it, and use"
        f' on_state_loss="restart"'
    )


def to_do_again(
    works: Iterable[Work], stage: StreamStage, node: str
) -> tuple[list[Work], list[tuple[Work, ItemFailure]]]:
    """Divide the items that a lost worker had: those to be tried again, in order, and those that kill their workers."""
    works = list(works)
    again: list[Work] = []
    given_up: list[tuple[Work, ItemFailure]] = []
    for work in works:
        # It may have been any of them: from now on each is on a worker alone.
        work.deaths += len(works) == 1
        work.is_suspect = True
        if work.deaths < MOST_DEATHS:
            again.append(work)
            continue
        reason = f"its worker has died {work.deaths} times while it was the only item there"
        failure = ItemFailure("worker", b"", reason, stage=stage.number, attempts=work.deaths, node=node)
        given_up.append((work, failure))
    return again, given_up


def retry_of(work: Work, failure: ItemFailure, stage: StreamStage) -> bool:
    """Count a failure, and tell whether the item is tried again."""
    work.failures += 1
    return not failure.not_retried and work.failures <= stage.max_retries


def blamed(outcome: ItemFailure, work: Work) -> ItemFailure:
    """Say with a failure at which stage it came, and how often the item was tried."""
    attempts = max(outcome.attempts, work.failures)
    return replace(outcome, stage=work.stage, attempts=attempts)
