"""A node as a run sees it: what it offers, what others have claimed there, and what this run has sent."""

from typing import TYPE_CHECKING

from handoff_actors.core.resources import ROUNDING, TOLERANCE, holds, how_many
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.escaping import escape_name
from handoff_actors.ids import Index, Resources

if TYPE_CHECKING:
    from collections.abc import Callable

#: Coroutines that one node is sent at once, where no claim says less.
MAX_COROUTINES = 4096
#: A bound for functions that claim next to nothing.
MAX_SLOTS = 4096


class NodeState:
    """One node. Claims are counted from when a function is sent, so that they are never behind."""

    def __init__(
        self, name: str, address: str, capabilities: Resources, workers: int, python: str = ""
    ) -> None:
        self.name = name
        #: The minor version of its Python; "": that is not known.
        self.python = python
        self.address = address
        self.capabilities = capabilities
        self.workers = workers
        #: What claims of other runs and other apps come to, as last heard.
        self.others: Resources = {}
        #: What this run's functions there claim.
        self.mine: Resources = {}
        #: This run's functions there, in the order in which they were sent.
        self.sent: dict[Index, RequirementClass] = {}
        #: Those that run behind another one, under its claim.
        self.followers: set[Index] = set()
        #: How many of each class the others are.
        self.counts: dict[int, int] = {}
        #: Numbers of the templates that it has been sent.
        self.templates: set[int] = set()
        #: It gave back what it had not been asked for: nothing more until it says how it stands.
        self.is_paused = False
        self.is_leaving = False
        #: Nothing has been heard of it for a while: what it has been sent may be well, but nothing is added.
        self.is_suspect = False
        #: It has said that it ends because of a bug of its own. That its connection breaks is yet to come.
        self.has_crashed = False
        #: It has been asked to give back functions, and has not answered.
        self.is_recalling = False
        #: It had nothing to give back, so it is not asked again before then.
        self.no_recall_until = 0.0
        #: Whoever wants to know that claims or capabilities have changed. Whether it is usable is not told.
        self.on_change: Callable[[NodeState], None] | None = None
        self._slots: dict[int, int] = {}

    @property
    def usable(self) -> bool:
        """Whether it takes work."""
        return not (self.is_paused or self.is_leaving or self.is_suspect or self.has_crashed)

    @property
    def spare(self) -> Resources:
        """Capabilities minus claims, ours and others', never below zero."""
        return {
            resource: max(0.0, total - self.others.get(resource, 0.0) - self.mine.get(resource, 0.0))
            for resource, total in self.capabilities.items()
        }

    @property
    def spare_workers(self) -> int:
        """Workers that none of this run's functions keeps busy."""
        return max(0, self.workers - len(self.sent) + len(self.followers))

    def could_ever_hold(self, need: RequirementClass) -> bool:
        """Whether it can run such functions, and offers enough if nothing else were claimed."""
        return self.has_python_for(need) and holds(self.capabilities, need.cost)

    def has_python_for(self, need: RequirementClass) -> bool:
        """Whether its Python can load what such a function needs."""
        return not need.python or need.python == self.python

    def shortfall(self, need: RequirementClass) -> str:
        """Why it could never hold such a function, for people."""
        if self.has_python_for(need):
            return f"offers {self.capabilities}, which is less than {need.cost}"
        return (
            f"runs Python {escape_name(self.python)}, and this function's code, or a value that it takes,"
            f" was pickled by value with {need.python}"
        )

    def fits(self, need: RequirementClass) -> bool:
        """Whether a function of that class could start at once."""
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
        """Whether it may be sent one more, to start later."""
        return self.room(need) > 0 and self.could_ever_hold(need)

    def room(self, need: RequirementClass) -> int:
        """How many more of that class it may be sent, to start at once or later."""
        return max(1, self.slots(need)) * (1 + need.ahead) - self.counts.get(need.number, 0)

    def slots(self, need: RequirementClass) -> int:
        """How many functions of that class can run there at once, if this run has nothing else there."""
        slots = self._slots.get(need.number)
        if slots is None:
            slots = self._slots[need.number] = self._count_slots(need)
        return slots

    def excess(self, need: RequirementClass) -> int:
        """How many functions of that class wait there."""
        return self.counts.get(need.number, 0) - self.slots(need)

    def update_offer(self, capabilities: Resources, workers: int, claimed: Resources) -> None:
        """Take note of what it says of itself. `claimed` is by all."""
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
        """Take note of what others claim there."""
        if others != self.others:
            self.others = others
            self._slots.clear()
            self._notify()

    def add(self, index: Index, need: RequirementClass) -> None:
        """A function is being sent there."""
        self.sent[index] = need
        self.counts[need.number] = self.counts.get(need.number, 0) + 1
        for resource, amount in need.cost.items():
            self.mine[resource] = self.mine.get(resource, 0.0) + amount
        self._notify()

    def add_follower(self, index: Index, need: RequirementClass) -> None:
        """A function is being sent there to run behind another one."""
        self.sent[index] = need
        self.followers.add(index)

    def hand_over_claim(self, index: Index, follower: Index) -> None:
        """A function is not there any more; what it claimed is now claimed for the one behind it."""
        del self.sent[index]
        self.followers.discard(follower)

    def remove(self, index: Index) -> None:
        """A function is not there any more."""
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
        """Assert that the books balance."""
        for resource, mine in self.mine.items():
            leading = [need for index, need in self.sent.items() if index not in self.followers]
            summed = sum(need.cost.get(resource, 0.0) for need in leading)
            assert abs(summed - mine) < ROUNDING, f"{self.name}: {resource} adds up to {summed}, not {mine}"
        assert sum(self.counts.values()) == len(self.sent) - len(self.followers)
