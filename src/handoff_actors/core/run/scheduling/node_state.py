"""A node as a run sees it: its offer, the claims of others there, and the functions that this run has sent."""

from collections.abc import Iterable, Sequence
from math import inf

from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.resources import ROUNDING, holds, how_many
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.scheduling.requirements import RequirementClass
from handoff_actors.core.run.scheduling.session_load import MAX_COROUTINES, MAX_SLOTS, NodeLoad
from handoff_actors.escaping import escape_name
from handoff_actors.ids import Index, Resources, RunId
from handoff_actors.wire.messages.jobs import Done

#: After an answer to a recall that gave nothing back, the next one waits, longer each time.
FIRST_RECALL_PAUSE_S = 0.02
LAST_RECALL_PAUSE_S = 1.0


class NodeState:
    """One node. A function's claim counts from when the function is sent, so that claims are never behind."""

    def __init__(self, run: RunId, load: NodeLoad) -> None:
        self._run = run
        self.load = load
        load.states[run] = self
        self.name = load.name
        #: What the node has last told this run.
        self.offer = load.offer
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
        #: True if it has reported a crash of its own; its connection is still to break.
        self.has_crashed = False
        #: Number of functions in a recall that is unanswered; 0: there is none.
        self.recalling = 0
        #: Time before which no recall is sent, since it had nothing to give back.
        self.no_recall_until = 0.0
        self._recall_pause_s = FIRST_RECALL_PAUSE_S
        #: Time at which it was last heard of about a function, or was sent one while it had none.
        self.progress_at = 0.0
        self._others: Resources = {}
        self._others_version = 0
        self._slots: dict[int, int] = {}

    # --- Its offer ----------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The address from which other nodes fetch values."""
        return self.offer.address

    @property
    def python(self) -> str:
        """The minor version of its Python; "" if unknown."""
        return self.offer.python

    @property
    def capabilities(self) -> Resources:
        """The total resources that it offers."""
        return self.offer.capabilities

    @property
    def workers(self) -> int:
        """Number of its processes for sync functions."""
        return self.offer.workers

    @property
    def is_leaving(self) -> bool:
        """True if it drains."""
        return self.offer.leaving

    @property
    def usable(self) -> bool:
        """True if the node takes work."""
        offer = self.offer
        # A suspect's functions may be well, but no more are sent.
        return (
            not (self.load.is_paused or offer.leaving or offer.suspect or self.has_crashed)
            and offer.workers > 0
        )

    def seconds_left(self, now: float) -> float:
        """The seconds until it begins to drain by itself; infinite where no end is known."""
        ends_at = self.offer.ends_at
        return inf if ends_at is None else ends_at - now

    def seconds_offered(self, now: float) -> float:
        """The seconds that a function has: on this node, or on one that it starts if it runs none itself."""
        if self.workers:
            return self.seconds_left(now)
        seconds = self.offer.can_start_for_s
        return inf if seconds is None else seconds

    @property
    def is_out_of_use(self) -> bool:
        """True if the node should get no work while another one can do it."""
        return bool(self.offer.out_of_use)

    @property
    def spare(self) -> Resources:
        """Capabilities minus all claims, of this session and of others, never below zero."""
        return {resource: max(0.0, self.load.free(resource)) for resource in self.capabilities}

    @property
    def spare_workers(self) -> int:
        """Number of workers that no function keeps busy."""
        return max(0, self.workers - self.load.all_busy)

    def could_ever_hold(self, need: RequirementClass) -> bool:
        """True if the node could run such functions if nothing else were claimed there."""
        offer = self.offer
        return offer.workers > 0 and self.has_python_for(need) and holds(offer.capabilities, need.least)

    def could_start_for(self, need: RequirementClass) -> bool:
        """True if the node could have another one started that could run such functions."""
        can_start = self.offer.can_start
        return bool(can_start) and self.has_python_for(need) and holds(can_start, need.least)

    def has_python_for(self, need: RequirementClass) -> bool:
        """True if the node's Python can load the code of such functions."""
        return not need.python or need.python == self.offer.python

    def shortfall(self, need: RequirementClass) -> str:
        """Say, for people, why the node could never run such a function."""
        if not self.workers:
            return self._standing_of_starter(need)
        if self.has_python_for(need):
            return f"offers {self.capabilities}, which is less than {need.least}"
        return (
            f"runs Python {escape_name(self.python)}, and this function's code, or a value that it takes,"
            f" was pickled by value with {need.python}"
        )

    def _standing_of_starter(self, need: RequirementClass) -> str:
        if self.is_out_of_use:
            return f"starts no nodes: {self.offer.out_of_use}"
        if not self.offer.can_start:
            return "starts no further nodes now, and runs no functions itself"
        if self.could_start_for(need):
            return f"starts nodes that offer {self.offer.can_start} for functions that wait, and runs none itself"
        return f"starts only nodes that offer {self.offer.can_start}, which is less than {need.least}"

    # --- Room ---------------------------------------------------------------------------------------------------

    @property
    def others(self) -> Resources:
        """Sum of the claims of other runs' and other sessions' functions that run, as last reported."""
        if self._others_version != self.load.version:
            self._others_version = self.load.version
            claimed = self.load.claimed.items()
            self._set_others(
                {resource: max(0.0, amount - self.mine.get(resource, 0.0)) for resource, amount in claimed}
            )
        return self._others

    def set_others(self, others: Resources) -> None:
        """Set the claims of others, which are newer than the latest advert."""
        self._others_version = self.load.version
        self._set_others(others)

    def _set_others(self, others: Resources) -> None:
        if others != self._others:
            self._others = others
            self._slots.clear()
            self.load.changed()

    def fits(self, need: RequirementClass) -> bool:
        """True if a function of that class could start at once."""
        return (not need.python or need.python == self.offer.python) and self.load.fits(need)

    def may_queue(self, need: RequirementClass) -> bool:
        """True if the node may be sent one more function of that class, to start later."""
        return not need.is_stage and self.room(need) > 0 and self.could_ever_hold(need)

    def room(self, need: RequirementClass) -> int:
        """Number of further functions of that class that this run may send, to start at once or later."""
        ahead = need.ahead(self.load.round_trip_s)
        return max(1, self.slots(need)) * (1 + ahead) - self.counts.get(need.number, 0)

    def slots(self, need: RequirementClass) -> int:
        """Number of functions of that class that can run there at once, if this run has nothing else there."""
        others = self.others
        slots = self._slots.get(need.number)
        if slots is None:
            slots = self._slots[need.number] = self._count_slots(need, others)
        return slots

    def excess(self, need: RequirementClass) -> int:
        """Number of this run's functions of that class that may have to wait there."""
        return min(self.counts.get(need.number, 0), self.load.waiting(need))

    def may_have_waiting(self) -> bool:
        """True if some function of this run may have to wait there, and has not been asked back."""
        return not self.recalling and any(
            count and self.load.waiting(need)
            for need, count in {need: self.counts[need.number] for need in self.sent.values()}.items()
        )

    def update_offer(self, event: NodeUp) -> None:
        """Take the node's own figures."""
        self.offer = event
        self._slots.clear()

    # --- This run's functions -----------------------------------------------------------------------------------

    def add(self, indices: Sequence[Index], need: RequirementClass, now: float = 0.0) -> None:
        """Add functions of a class that are being sent, and their claims."""
        if not self.sent:
            self.progress_at = now
        sent = self.sent
        for index in indices:
            sent[index] = need
        self.load.session.sent += len(indices)
        self._count(need, len(indices))

    def _count(self, need: RequirementClass, more: int) -> None:
        """Add so many functions of a class to what is counted, or remove as many if it is less than zero."""
        self.counts[need.number] = self.counts.get(need.number, 0) + more
        # Every function passes here: so the load has no methods of its own for that.
        load = self.load
        if need.is_async:
            load.coroutines += more
        else:
            load.busy += more
            load.unclaimed += more * need.claims_no_cpu
        mine, claims = self.mine, load.claims
        for resource, amount in need.cost.items():
            mine[resource] = mine.get(resource, 0.0) + more * amount
            claims[resource] = claims.get(resource, 0.0) + more * amount
        if load.session.is_indexed:
            load.session.changed(self.name)

    def add_follower(self, index: Index, need: RequirementClass) -> None:
        """Add a function that is being sent fused behind another one, without a claim of its own."""
        self.sent[index] = need
        self.followers.add(index)

    def hand_over_claim(self, index: Index, follower: Index) -> None:
        """Remove a function, and let the one fused behind it take over its claim."""
        del self.sent[index]
        self.followers.discard(follower)

    def _count_off(self, need: RequirementClass | None, count: int) -> None:
        if need is not None:
            self._count(need, -count)
            self.load.session.is_freed = True

    def remove(self, indices: Iterable[Index]) -> None:
        """Remove functions, and their claims."""
        sent, followers = self.sent, self.followers
        need: RequirementClass | None = None
        count = 0
        for index in indices:
            its_need = sent.pop(index)
            if index in followers:
                followers.discard(index)
                continue
            if need is not its_need:
                self._count_off(need, count)
                need, count = its_need, 0
            count += 1
        self._count_off(need, count)
        # Else rounding errors would add up.
        if not sent:
            self.mine.clear()
        if not (self.load.busy or self.load.coroutines):
            self.load.claims.clear()

    def clear(self) -> None:
        """Remove all functions: the node has closed the run, or is gone."""
        self.remove(list(self.sent))
        self.recall_answered(0.0, gave_back=True)
        self.load.states.pop(self._run, None)

    def heard_of(self, done: Sequence[Done], state: RunState, now: float) -> None:
        """Note that the node reports functions that have ended. To be called before they are taken off."""
        self.progress_at = now
        # One of each message will do: what matters is the least of many.
        first = done[0] if done else None
        if first is not None and state.is_sent(first.index, first.attempt, self.name):
            self.load.measure_trip(now - state.sent_at[first.index] - first.ran_s)

    def recall_sent(self, count: int) -> None:
        """Note that so many functions are being asked back."""
        self.recalling = count
        self.load.recalling += count

    def recall_answered(self, now: float, *, gave_back: bool) -> None:
        """Note the answer to a recall."""
        self.load.recalling -= self.recalling
        self.load.session.is_freed = True
        self.recalling = 0
        if gave_back:
            self._recall_pause_s = FIRST_RECALL_PAUSE_S
        else:
            self.no_recall_until = now + self._recall_pause_s
            self._recall_pause_s = min(LAST_RECALL_PAUSE_S, 2 * self._recall_pause_s)

    def leading(self) -> Iterable[RequirementClass]:
        """The classes of the functions that are no followers."""
        return [need for index, need in self.sent.items() if index not in self.followers]

    def count_by_class(self) -> Iterable[tuple[RequirementClass, int]]:
        """The number of this run's functions there that are no followers, by class."""
        numbers = {need.number: need for need in self.sent.values()}
        return [(numbers[number], count) for number, count in self.counts.items() if number in numbers]

    def _count_slots(self, need: RequirementClass, others: Resources) -> int:
        if not need.cost:
            return MAX_COROUTINES if need.is_async else self.workers
        free = {resource: total - others.get(resource, 0.0) for resource, total in self.capabilities.items()}
        return how_many(free, need.cost, min(MAX_SLOTS, self.load.most_at_once(need)))

    def check(self) -> None:
        """Assert that the sums agree with the functions sent."""
        leading = self.leading()
        for resource, mine in self.mine.items():
            summed = sum(need.cost.get(resource, 0.0) for need in leading)
            assert abs(summed - mine) < ROUNDING, f"{self.name}: {resource} adds up to {summed}, not {mine}"
        assert sum(self.counts.values()) == len(self.sent) - len(self.followers)
