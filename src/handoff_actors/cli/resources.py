"""Resources as text for people."""

from handoff_actors.escaping import escape_name
from handoff_actors.ids import Resources


def amounts(resources: Resources) -> str:
    """Format resources, as in "cpu 2, memory 8000"; whole numbers without a point, however large."""
    return (
        ", ".join(f"{escape_name(resource)} {amount:.12g}" for resource, amount in resources.items())
        or "nothing"
    )
