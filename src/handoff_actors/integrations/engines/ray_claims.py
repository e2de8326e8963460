"""The resources of a Ray node that a session claims, and the node that they make.

Ray counts memory in bytes and calls cores and devices CPU and GPU. Other resources have the same names on both sides.
"""

import math
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from handoff_actors.ids import Resources

_RAY_NAMES: Final = {"cpu": "CPU", "gpu": "GPU"}
_MB: Final = 1_000_000


class RayNode(Struct, frozen=True):
    """A node of Ray that is alive. Amounts are in Ray's names and units."""

    #: Unique for each start of the node.
    id: str
    #: The name that `ray status` has for it: its address, unless it was given another.
    name: str
    #: The address at which other machines reach it.
    host: str
    total: Mapping[str, float]
    free: Mapping[str, float]
    #: Ray is going to remove it.
    is_draining: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:8]})"


class RayClaim(Struct, frozen=True):
    """An amount of each resource of one node."""

    #: In our names and units.
    capabilities: Resources
    #: In Ray's names and units.
    of_ray: Mapping[str, float]


class RayLack(Struct, frozen=True):
    """The reason why a node can't be claimed."""

    reason: str
    #: The node never has so much, whatever ends there.
    is_for_good: bool


def claim_on(node: RayNode, asked: Resources) -> RayClaim | RayLack:
    """Choose the claim on a node: as much as is asked for, and of cores and GPUs that are not, all whole ones that are free.

    Memory that is not asked for is claimed in proportion to cores, as far as it is free.
    """
    if node.is_draining:
        return RayLack("Ray is going to remove it", is_for_good=True)
    # A function claims a core unless it says otherwise.
    lack = _lack(node, {"cpu": 1.0} | asked)
    if lack is not None:
        return lack
    wanted = {"cpu": _whole(node, "CPU")} | asked
    if "gpu" not in wanted and (devices := _whole(node, "GPU")):
        wanted["gpu"] = devices
    capabilities = {"memory": _share_of_memory_mb(node, wanted["cpu"])} | wanted
    return RayClaim(capabilities, _in_ray(capabilities))


def _whole(node: RayNode, name: str) -> float:
    return float(math.floor(node.free.get(name, 0.0)))


def _share_of_memory_mb(node: RayNode, cores: float) -> float:
    share = node.total.get("memory", 0.0) * cores / (node.total.get("CPU") or 1.0)
    return float(math.floor(min(share, node.free.get("memory", 0.0)) / _MB))


def _lack(node: RayNode, wanted: Resources) -> RayLack | None:
    for name, amount in _in_ray(wanted).items():
        if amount > node.total.get(name, 0.0):
            has = _amount(name, node.total.get(name, 0.0))
            return RayLack(f"it has {has} in all, and {_amount(name, amount)} are claimed", is_for_good=True)
    for name, amount in _in_ray(wanted).items():
        if amount > node.free.get(name, 0.0):
            free, total = _amount(name, node.free.get(name, 0.0)), _amount(name, node.total[name])
            return RayLack(
                f"other work of Ray has its resources: {free} of {total} are free, and {_amount(name, amount)} are claimed",
                is_for_good=False,
            )
    return None


def _in_ray(amounts: Resources) -> dict[str, float]:
    return {
        _RAY_NAMES.get(name, name): math.floor(amount * _MB) if name == "memory" else amount
        for name, amount in amounts.items()
    }


def _amount(name: str, amount: float) -> str:
    return f"{amount / _MB:.0f} MB of memory" if name == "memory" else f"{amount:g} {name}"
