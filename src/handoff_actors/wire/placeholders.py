"""Placeholders for results, within the arguments that a function has besides."""

from handoff_actors.graph.placing import Placeholder


def position_of_placeholder(part: object) -> int | None:
    """Leave out placeholders, whose results come last among the parts, and last first; see `wire.pickling.PositionOf`."""
    return ~part.position if type(part) is Placeholder else None
