"""Puts the nodes that may keep a value in the order in which they are asked."""

from collections.abc import Iterable

from handoff_actors.wire.messages.members import Advert


def by_room(adverts: Iterable[Advert]) -> list[Advert]:
    """List the nodes that may take a value, those with the most memory to spare first, and those out of use last."""
    staying = [advert for advert in adverts if not advert.leaving]
    return sorted(staying, key=lambda advert: (bool(advert.out_of_use), -advert.spare.get("memory", 0.0)))
