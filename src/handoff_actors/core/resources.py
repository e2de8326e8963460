"""A node's resources: its capabilities, the claims on them, and the spare rest.

A claim is all or nothing. GPUs are numbered devices: a claim of whole devices gets them to itself, a claim of a
fraction shares one. Amounts are floats, so sums are compared with a tolerance, and a ledger without claims is reset
to exact zeros rather than to what rounding left.
"""

from collections.abc import Mapping, Sequence
from math import ceil, floor

from msgspec import Struct

from handoff_actors.ids import Resources

#: Ten claims of 0.1 must fit into 1.
TOLERANCE = 1e-9
#: Sums may be off by this much.
ROUNDING = 1e-6
GPU = "gpu"
CPU = "cpu"


class Claim(Struct, frozen=True, eq=False):
    """The resources that a function holds while it runs."""

    amounts: Resources
    #: Numbers of the GPU devices that it owns or shares.
    devices: tuple[int, ...]
    #: The claim that this is the rest of, while its cpu is lent to others.
    whole: "Claim | None" = None


class ResourceLedger:
    """Accounts for a node's capabilities and the claims on them."""

    def __init__(self, totals: Mapping[str, float]) -> None:
        self.totals: Resources = dict(totals)
        self.claimed: Resources = dict.fromkeys(totals, 0.0)
        self._claims: dict[Claim, None] = {}
        #: The part of each device that is free, 0 to 1.
        self._devices: list[float] = []
        self._set_up_devices()

    def __len__(self) -> int:
        return len(self._claims)

    def could_ever_hold(self, cost: Mapping[str, float]) -> bool:
        """True if `cost` would fit if nothing else were claimed."""
        return holds(self.totals, cost)

    def fits(self, cost: Mapping[str, float]) -> bool:
        """True if `cost` fits in addition to the present claims."""
        for resource, amount in cost.items():
            if amount > self.totals.get(resource, 0.0) - self.claimed.get(resource, 0.0) + TOLERANCE:
                return False
        return GPU not in cost or self.devices_for(cost) is not None

    def devices_for(self, cost: Mapping[str, float]) -> tuple[int, ...] | None:
        """The devices that a claim of `cost` would get; None if there are not enough."""
        amount = cost[GPU]
        if 0 < amount < 1:
            # Best fit: fill up a device that is shared already, so that whole ones stay whole.
            shared = [
                (share, number) for number, share in enumerate(self._devices) if share + TOLERANCE >= amount
            ]
            return (min(shared)[1],) if shared else None
        free = [number for number, share in enumerate(self._devices) if share + TOLERANCE >= 1]
        return tuple(free[: int(amount)]) if len(free) >= amount else None

    def how_many_fit(self, cost: Mapping[str, float], at_most: int) -> int:
        """Number of claims of `cost`, up to `at_most`, that fit in addition to the present ones, judged by the sums alone."""
        return how_many(self.spare(), cost, at_most)

    def claim(self, cost: Mapping[str, float]) -> Claim:
        """Claim `cost`, which must fit."""
        assert self.fits(cost), f"a claim of {cost} does not fit into {self.spare()}"
        devices = self.devices_for(cost) if GPU in cost else ()
        claim = Claim(dict(cost), devices or ())
        self.hold(claim)
        return claim

    def hold(self, claim: Claim) -> None:
        """Add a claim whose devices are chosen."""
        for resource, amount in claim.amounts.items():
            self.claimed[resource] = self.claimed.get(resource, 0.0) + amount
        self._give_to_devices(claim, -1)
        self._claims[claim] = None

    def release(self, claim: Claim) -> None:
        """Release a claim. Raises AssertionError if it has been released already."""
        assert claim in self._claims, f"{claim} is not claimed"
        del self._claims[claim]
        for resource, amount in claim.amounts.items():
            self.claimed[resource] -= amount
        self._give_to_devices(claim, +1)
        if not self._claims:
            self.claimed = dict.fromkeys(self.totals, 0.0)
            self._set_up_devices()

    def lend_cpu(self, claim: Claim) -> Claim:
        """Release the cpu of a claim. Returns the rest, which takes its place until `take_back`."""
        self.release(claim)
        rest = {resource: amount for resource, amount in claim.amounts.items() if resource != CPU}
        lent = Claim(rest, claim.devices, claim)
        self.hold(lent)
        return lent

    def take_back(self, lent: Claim) -> Claim:
        """Undo `lend_cpu`. Where others have the cpu, claims exceed the totals, and nothing fits until some have ended."""
        assert lent.whole is not None, f"{lent} has lent nothing"
        self.release(lent)
        self.hold(lent.whole)
        return lent.whole

    def would_fit(self, costs: Sequence[Mapping[str, float]], released: Sequence[Claim]) -> bool:
        """True if claims of all these costs would fit once those of `released` are."""
        for claim in released:
            self.release(claim)
        made = self.claim_all(costs)
        for claim in made or ():
            self.release(claim)
        for claim in released:
            self.hold(claim)
        return made is not None

    def claim_all(self, costs: Sequence[Mapping[str, float]]) -> list[Claim] | None:
        """Claim all these costs, or none of them if they don't all fit."""
        made: list[Claim] = []
        for cost in costs:
            if not self.fits(cost):
                for claim in made:
                    self.release(claim)
                return None
            made.append(self.claim(cost))
        return made

    def redeclare(self, totals: Mapping[str, float]) -> None:
        """Change the totals. Claims stay: if they exceed the new totals, nothing fits until they end."""
        self.totals = dict(totals)
        for resource in totals:
            self.claimed.setdefault(resource, 0.0)
        self._set_up_devices()

    def spare(self) -> Resources:
        """Totals minus claims, never below zero."""
        return {
            resource: max(0.0, total - self.claimed.get(resource, 0.0))
            for resource, total in self.totals.items()
        }

    def check(self) -> None:
        """Assert that the sums agree with the claims."""
        for resource, claimed in self.claimed.items():
            summed = sum(claim.amounts.get(resource, 0.0) for claim in self._claims)
            assert abs(summed - claimed) < ROUNDING, (
                f"{resource}: claims come to {summed}, the ledger says {claimed}"
            )
        assert all(-TOLERANCE <= share <= 1 + TOLERANCE for share in self._devices), (
            "a device is shared out wrongly"
        )

    def _set_up_devices(self) -> None:
        self._devices = [1.0] * ceil(self.totals.get(GPU, 0.0))
        for claim in self._claims:
            self._give_to_devices(claim, -1)

    def _give_to_devices(self, claim: Claim, sign: int) -> None:
        share = min(claim.amounts.get(GPU, 0.0), 1.0)
        for device in claim.devices:
            if device < len(self._devices):
                self._devices[device] += sign * share


def summed(*amounts: Mapping[str, float]) -> Resources:
    """The sum of amounts, by resource."""
    total: Resources = {}
    for each in amounts:
        for resource, amount in each.items():
            total[resource] = total.get(resource, 0.0) + amount
    return total


def holds(totals: Mapping[str, float], cost: Mapping[str, float]) -> bool:
    """True if `totals` are enough for `cost`."""
    for resource, amount in cost.items():  # noqa: SIM110 - a loop is faster, and this runs for every function
        if amount > totals.get(resource, 0.0) + TOLERANCE:
            return False
    return True


def how_many(spare: Mapping[str, float], cost: Mapping[str, float], at_most: int) -> int:
    """Number of times that `cost` goes into `spare`, up to `at_most`."""
    count = at_most
    for resource, amount in cost.items():
        if amount > 0:
            count = min(count, floor((spare.get(resource, 0.0) + TOLERANCE) / amount))
    return max(0, count)
