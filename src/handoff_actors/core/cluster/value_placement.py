"""Puts the nodes that may keep a value in the order in which they are asked."""

from collections.abc import Iterable

from handoff_actors.wire.messages.members import Advert


def by_room(adverts: Iterable[Advert]) -> list[Advert]:
    """List the nodes that may take a value, those with the most memory to spare first."""
    able = [advert for advert in adverts if not advert.leaving and not advert.out_of_use]
    return sorted(able, key=lambda advert: -advert.spare.get("memory", 0.0))
