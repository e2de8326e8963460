"""A node as a run sees it: its capabilities, the claims of others there, and the functions that this run has sent."""

from typing import TYPE_CHECKING

from handoff_actors.core.resources import ROUNDING, TOLERANCE, holds, how_many
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.escaping import escape_name
from handoff_actors.ids import Index, Resources

if TYPE_CHECKING:
    from collections.abc import Callable

#: Coroutines that one node is sent at once, if their claims allow it.
MAX_COROUTINES = 4096
#: Upper limit of slots, for functions that claim next to nothing.
MAX_SLOTS = 4096


class NodeState:
    """One node. A function's claim counts from when the function is sent, so that claims are never behind."""

    def __init__(
        self, name: str, address: str, capabilities: Resources, workers: int, python: str = ""
    ) -> None:
        self.name = name
        #: The minor version of its Python; "" if unknown.
        self.python = python
        self.address = address
        self.capabilities = capabilities
        self.workers = workers
        #: Sum of the claims of other runs and other apps, as last reported.
        self.others: Resources = {}
        #: Sum of the claims of this run's functions there.
        self.mine: Resources = {}
        #: This run's functions there, in the order in which they were sent.
        self.sent: dict[Index, RequirementClass] = {}
        #: The functions of `sent` that are fused behind another one, under its claim.
        self.followers: set[Index] = set()
        #: Number of functions of `sent` that are not followers, by requirement class.
        self.counts: dict[int, int] = {}
        #: Numbers of the templates that the node has been sent.
        self.templates: set[int] = set()
        #: True after it has returned functions without being asked, until its next advert: no more are sent.
        self.is_paused = False
        self.is_leaving = False
        #: True if it has been silent for a while: its functions may be well, but no more are sent.
        self.is_suspect = False
        #: True if it has reported a crash of its own; its connection is still to break.
        self.has_crashed = False
        #: True while a recall is unanswered.
        self.is_recalling = False
        #: Time before which no recall is sent, since it had nothing to give back.
        self.no_recall_until = 0.0
        #: Called after a change of claims or capabilities, but not of `usable`.
        self.on_change: Callable[[NodeState], None] | None = None
        self._slots: dict[int, int] = {}

    @property
    def usable(self) -> bool:
        """True if the node takes work."""
        return not (self.is_paused or self.is_leaving or self.is_suspect or self.has_crashed)

    @property
    def spare(self) -> Resources:
        """Capabilities minus all claims, of this run and of others, never below zero."""
        return {
            resource: max(0.0, total - self.others.get(resource, 0.0) - self.mine.get(resource, 0.0))
            for resource, total in self.capabilities.items()
        }

    @property
    def spare_workers(self) -> int:
        """Number of workers that no function of this run keeps busy."""
        return max(0, self.workers - len(self.sent) + len(self.followers))

    def could_ever_hold(self, need: RequirementClass) -> bool:
        """True if the node could run such functions if nothing else were claimed there."""
        return self.has_python_for(need) and holds(self.capabilities, need.cost)

    def has_python_for(self, need: RequirementClass) -> bool:
        """True if the node's Python can load the code of such functions."""
        return not need.python or need.python == self.python

    def shortfall(self, need: RequirementClass) -> str:
        """Say, for people, why the node could never run such a function."""
        if self.has_python_for(need):
            return f"offers {self.capabilities}, which is less than {need.cost}"
        return (
            f"runs Python {escape_name(self.python)}, and this function's code, or a value that it takes,"
            f" was pickled by value with {need.python}"
        )

    def fits(self, need: RequirementClass) -> bool:
        """True if a function of that class could start at once."""
        if not self.has_python_for(need):
            return False
        if not need.cost:
            return self.counts.get(need.number, 0) < self.slots(need)
        for resource, amount in need.cost.items():
            free = (
                self.capabilities.get(resource, 0.0)
                - self.others.get(resource, 0.0)
                - self.mine.get(resource, 0.0)
            )
            if amount > free + TOLERANCE:
                return False
        return True

    def may_queue(self, need: RequirementClass) -> bool:
        """True if the node may be sent one more function of that class, to start later."""
        return self.room(need) > 0 and self.could_ever_hold(need)

    def room(self, need: RequirementClass) -> int:
        """Number of further functions of that class that may be sent, to start at once or later."""
        return max(1, self.slots(need)) * (1 + need.ahead) - self.counts.get(need.number, 0)

    def slots(self, need: RequirementClass) -> int:
        """Number of functions of that class that can run there at once, if this run has nothing else there."""
        slots = self._slots.get(need.number)
        if slots is None:
            slots = self._slots[need.number] = self._count_slots(need)
        return slots

    def excess(self, need: RequirementClass) -> int:
        """Number of functions of that class that wait there; negative if slots are free."""
        return self.counts.get(need.number, 0) - self.slots(need)

    def update_offer(self, capabilities: Resources, workers: int, claimed: Resources) -> None:
        """Take the node's own figures. `claimed` is the sum over all apps, this run included."""
        self.capabilities = capabilities
        self.workers = workers
        self.set_others(
            {
                resource: max(0.0, amount - self.mine.get(resource, 0.0))
                for resource, amount in claimed.items()
            }
        )
        self._slots.clear()
        self._notify()

    def set_others(self, others: Resources) -> None:
        """Set the claims of others."""
        if others != self.others:
            self.others = others
            self._slots.clear()
            self._notify()

    def add(self, index: Index, need: RequirementClass) -> None:
        """Add a function that is being sent, and its claim."""
        self.sent[index] = need
        self.counts[need.number] = self.counts.get(need.number, 0) + 1
        for resource, amount in need.cost.items():
            self.mine[resource] = self.mine.get(resource, 0.0) + amount
        self._notify()

    def add_follower(self, index: Index, need: RequirementClass) -> None:
        """Add a function that is being sent fused behind another one, without a claim of its own."""
        self.sent[index] = need
        self.followers.add(index)

    def hand_over_claim(self, index: Index, follower: Index) -> None:
        """Remove a function, and let the one fused behind it take over its claim."""
        del self.sent[index]
        self.followers.discard(follower)

    def remove(self, index: Index) -> None:
        """Remove a function, and its claim."""
        need = self.sent.pop(index)
        if index in self.followers:
            self.followers.discard(index)
            return
        self.counts[need.number] -= 1
        for resource, amount in need.cost.items():
            self.mine[resource] -= amount
        if not self.sent:
            self.mine.clear()
        self._notify()

    def _notify(self) -> None:
        if self.on_change is not None:
            self.on_change(self)

    def _count_slots(self, need: RequirementClass) -> int:
        if not need.cost:
            return MAX_COROUTINES if need.is_async else self.workers
        free = {
            resource: total - self.others.get(resource, 0.0) for resource, total in self.capabilities.items()
        }
        return how_many(free, need.cost, MAX_SLOTS)

    def check(self) -> None:
        """Assert that the sums agree with the functions sent."""
        for resource, mine in self.mine.items():
            leading = [need for index, need in self.sent.items() if index not in self.followers]
            summed = sum(need.cost.get(resource, 0.0) for need in leading)
            assert abs(summed - mine) < ROUNDING, f"{self.name}: {resource} adds up to {summed}, not {mine}"
        assert sum(self.counts.values()) == len(self.sent) - len(self.followers)
