"""Resources as people write them."""

from handoff_actors.ids import Resources


def amounts(resources: Resources) -> str:
    """For example "cpu 2, memory 8000"; whole numbers without a point, however large."""
    return ", ".join(f"{resource} {amount:.12g}" for resource, amount in resources.items()) or "nothing"
