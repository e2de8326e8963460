"""Removes results that do not count from a node's store."""

from typing import assert_never

from handoff_actors.core.node.events import DiscardValue
from handoff_actors.core.node.stage_events import DiscardItems
from handoff_actors.store.files import ValueStore
from handoff_actors.workers.stage_protocol import item_indices


def discard(store: ValueStore, effect: DiscardValue | DiscardItems) -> None:
    """Remove what an attempt has left, if it has left anything."""
    match effect:
        case DiscardValue(run, index, attempt):
            store.discard(run, index, attempt)
        case DiscardItems(run, index, attempt):
            store.discard_all(run, item_indices(index, attempt), attempt)
        case _:
            assert_never(effect)
