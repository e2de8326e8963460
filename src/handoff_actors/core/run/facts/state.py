"""The state of every function of a run: its phase, its attempts, and where its value is.

A value is inline (its bytes are here), or stored on the nodes that hold it. See `core.run.facts.phases` for the life of a function.
"""

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct, field

from handoff_actors.core.run.facts.foreign_values import ForeignValues
from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.core.run.facts.parted_values import PartedValues
from handoff_actors.core.run.facts.phases import (
    DONE,
    FAILED,
    FREE,
    NEXT,
    PHASE_NAMES,
    READY,
    SENT,
    PhaseEvent,
)
from handoff_actors.core.run.facts.resumption import ReusedResult
from handoff_actors.errors import HandoffError
from handoff_actors.graph.plan import Plan
from handoff_actors.graph.run_if import tolerates
from handoff_actors.ids import Index
from handoff_actors.skip import ENCODED_SKIP
from handoff_actors.text import repr_of
from handoff_actors.wire.messages.jobs import Done, StoredPart
from handoff_actors.wire.messages.runs import Fetched, WorkerRetired

#: Among the holders of a value: the app itself.
APP = ""


class StoredResult(Struct):
    """A value that stays where it was made."""

    nbytes: int
    #: Names of the nodes that have it, the one that made it first; `APP` where it comes from a journal.
    holders: list[str] = field(default_factory=list)
    #: Names of the nodes that have been told where it is, and may have it: only in a run that forgets values.
    told: set[str] = field(default_factory=set)


class Transfer(Struct, frozen=True):
    """A value that was brought to a node, or to the app, on the clock of the run."""

    index: Index
    #: The destination: the name of a node, or `APP`.
    node: str
    nbytes: int
    began_at: float
    ended_at: float


class Failure(Struct, frozen=True):
    """The end of a function that has failed for good."""

    error: HandoffError
    #: The user's own exception, encoded, or b"".
    cause: bytes = b""
    #: The time that its last attempt ran.
    ran_s: float = 0.0


class RunState:
    """The state of every function of one run."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        zeros = bytes(8 * plan.size)
        #: Read anywhere, written only by `change` and by `core.run.facts.normal_path`.
        self.phase = bytearray(plan.size)
        #: Functions that the run has been given so far, and those of them that have yet to end.
        self.added = self.remaining = plan.size
        #: Functions that were forgotten after they had been done, had failed, or had been skipped since others failed.
        self.forgotten: defaultdict[int, int] = defaultdict(int)
        #: Inputs that are not done.
        self.missing = list(map(len, plan.producers))
        self.attempt = array("l", zeros)
        self._have_facts_of_growth()
        #: The node that it was sent to last.
        self.node: list[str | None] = [None] * plan.size
        self.inline: dict[Index, bytes] = {}
        self.stored: dict[Index, StoredResult] = {}
        self._held_by: dict[str, set[Index]] = {}
        #: Functions whose value is SKIP: they were skipped, or have returned it.
        self.skipped: set[Index] = set()
        #: Functions that have failed for good, in that order.
        self.failures: dict[Index, Failure] = {}
        #: Functions that depend on one of these, each with the first that failed.
        self.failed_behind: dict[Index, Index] = {}
        self._have_facts_for_report(zeros)
        #: Values of other runs.
        self.foreign = ForeignValues()

    def _have_facts_of_growth(self) -> None:
        #: The number of the last attempt at an earlier function with the same index; only in a run that grows.
        self.earlier_attempts: dict[Index, int] = {}
        self.parted = PartedValues()
        #: Functions that were added by functions that run in any case.
        self.added_anyway: set[Index] = set()
        #: Functions whose inputs have been forgotten although their values may be lost.
        self.cut: set[Index] = set()
        #: Functions that are to end without a value, and were with a node when that was decided.
        self.cancelled: set[Index] = set()
        #: Functions that may stand in the queue of ready ones although they are not ready, or more than once.
        self.requeued: set[Index] = set()
        #: By function: nodes that may still have a value that it had before it was made again.
        self.left_at: dict[Index, set[str]] = {}
        #: Functions whose end, or return from it, has yet to be looked at; None in a run that forgets nothing.
        self.changed: list[Index] | None = None

    def _have_facts_for_report(self, zeros: bytes) -> None:
        self.worker = array("l", zeros)
        #: 0.0 for functions that the run has begun with.
        self.added_at = array("d", zeros)
        self.ready_at, self.sent_at = array("d", zeros), array("d", zeros)
        self.finished_at, self.ran_s = array("d", zeros), array("d", zeros)
        #: Bytes of stored input that had to move, where there were any.
        self.moved: dict[Index, int] = {}
        #: Every transfer of a stored value that a node has told of, or that the app has made, in the order of hearing.
        self.transfers: list[Transfer] = []
        #: Bytes that have gone through the app, by the node that had them and the one that can't reach it.
        self.relayed: dict[tuple[str, str], int] = {}
        #: Values that have gone through the app, and where to.
        self._relays: set[tuple[Index, str]] = set()
        #: By node: the nodes that it can't reach, as far as is known.
        self.cut_off: dict[str, set[str]] = {}
        #: Values that a node did not get through the app either.
        self.out_of_reach: set[tuple[Index, str]] = set()
        #: Reasons why workers were retired, by the function that has left something behind.
        self.retired: dict[Index, str] = {}

    # --- Functions that come and go -----------------------------------------------------------------------------

    def add(self, indices: Sequence[Index], now: float) -> None:
        """Take further functions, in the plan by now: first those whose indices were free, then those with new ones."""
        phase, producers = self.phase, self._plan.producers
        reused = indices[: bisect_left(indices, True, key=len(phase).__le__)]
        self.change_each(reused, PhaseEvent.ADDED)
        earlier, attempt, missing = self.earlier_attempts, self.attempt, self.missing
        for index in reused:
            earlier[index] = attempt[index]
            missing[index] = len(producers[index])
        count = len(indices) - len(reused)
        if count:
            phase.extend(bytes(count))
            self.missing += map(len, producers[len(self.missing) :])
            zeros = bytes(8 * count)
            for times in (self.added_at, self.ready_at, self.sent_at, self.finished_at, self.ran_s):
                times.frombytes(zeros)
            for numbers in (self.attempt, self.worker):
                numbers.frombytes(zeros)
            self.node += [None] * count
        added_at = self.added_at
        for index in indices:
            added_at[index] = now
        self.added += len(indices)
        self.remaining += len(indices)

    def set_expanded(self, index: Index, now: float) -> None:
        """Note that another function, which is in the plan by now, has this index; its result is that of the one before."""
        self.change(index, PhaseEvent.EXPANDED)
        self.earlier_attempts[index] = self.attempt[index]
        self.added_at[index], self.ready_at[index] = now, 0.0

    def set_owner(self, index: Index, node: str, parts: Sequence[StoredPart], now: float) -> None:
        """Note that a function that was added just now is done: it has made these parts."""
        self.set_reused(index, ReusedResult(node, sum(part.nbytes for part in parts)), now)
        self.add_holder(index, node)
        self.parted.put(index, parts)

    def forget(self, indices: Sequence[Index]) -> None:
        """Forget functions that are over, and their values. Their indices may be those of other ones from now on."""
        phase, skipped, behind = self.phase, self.skipped, self.failed_behind
        ends = [FREE if index in skipped or index in behind else phase[index] for index in indices]
        for end, count in Counter(ends).items():
            self.forgotten[end] += count
        self.change_each(indices, PhaseEvent.FORGOTTEN)
        node, ready_at, sent_at = self.node, self.ready_at, self.sent_at
        finished_at, ran_s = self.finished_at, self.ran_s
        for index in indices:
            node[index] = None
            ready_at[index] = sent_at[index] = finished_at[index] = ran_s[index] = 0.0
        if self.stored:
            for index in indices:
                self.lose_holders(index)
        discard_all(indices, self.stored, self.inline, self.failures, self.failed_behind, self.moved)
        discard_all(indices, self.retired, self.cancelled, self.cut, self.skipped, self.added_anyway)
        self.parted.forget(indices)
        if self._relays or self.out_of_reach:
            gone = set(indices)
            self._relays = {relay for relay in self._relays if relay[0] not in gone}
            self.out_of_reach = {each for each in self.out_of_reach if each[0] not in gone}

    def tries(self, index: Index) -> int:
        """Count the attempts at a function. Attempts at earlier functions with the same index don't count."""
        return self.attempt[index] - self.earlier_attempts.get(index, 0)

    # --- Phases -------------------------------------------------------------------------------------------------

    def change(self, index: Index, event: PhaseEvent) -> None:
        """Change the phase of a function as the table says. Raises AssertionError if it lists no such event."""
        self.change_each((index,), event)

    def change_each(self, indices: Iterable[Index], event: PhaseEvent) -> None:
        """Change the phases of functions as the table says. Raises AssertionError at one for which it lists no such event."""
        phase, following = self.phase, NEXT[event]
        for index in indices:
            try:
                phase[index] = following[phase[index]]
            except ValueError:
                raise self.illegal(index, event) from None

    def set_stored(self, index: Index, done: Done, node: str) -> None:
        """Note the value of a function that is done which is not an inline one alone."""
        if done.additions is not None:
            self._set_parts(index, done, node)
            return
        assert isinstance(done.value, int)
        self.stored[index] = StoredResult(done.value, [])
        self.add_holder(index, node)

    def set_skipped(self, index: Index, now: float) -> None:
        """Note that the function does not run, and that its value is SKIP."""
        self.change(index, PhaseEvent.SKIPPED)
        self.remaining -= 1
        self.finished_at[index] = now
        self.inline[index] = ENCODED_SKIP
        self.skipped.add(index)
        if self.changed is not None:
            self.changed.append(index)

    def _set_parts(self, index: Index, done: Done, node: str) -> None:
        assert done.additions is not None
        parts = done.additions.parts
        if done.additions.expansion is None:
            assert isinstance(done.value, bytes)
            if not parts:
                self.inline[index] = done.value
                return
            self.parted.lists[index] = done.value
        self.stored[index] = StoredResult(sum(part.nbytes for part in parts), [])
        self.add_holder(index, node)
        self.parted.put(index, parts)

    def set_reused(self, index: Index, reused: ReusedResult, now: float) -> None:
        """Note that the function was done before the run began."""
        self.change(index, PhaseEvent.REUSED)
        self.remaining -= 1
        self.node[index] = reused.node
        if self.changed is not None:
            # A value of an earlier function with this index must not be taken for this one's.
            self.attempt[index] += 1
            self.earlier_attempts[index] = self.attempt[index]
        self.ready_at[index] = self.sent_at[index] = self.finished_at[index] = now
        if isinstance(reused.value, int):
            self.stored[index] = StoredResult(reused.value, [])
            if reused.is_in_app:
                self.add_holder(index, APP)
        else:
            self.inline[index] = reused.value
            if reused.value == ENCODED_SKIP:
                self.skipped.add(index)
        if self.changed is not None:
            self.changed.append(index)

    def set_failed(self, index: Index, end: Failure | Index, now: float) -> None:
        """Note that the function ends without a value: with a failure of its own, or behind the one that is named."""
        self._note_requeued(index)
        self.change(index, PhaseEvent.GIVEN_UP)
        self.remaining -= 1
        self.finished_at[index] = now
        if isinstance(end, Failure):
            self.failures[index] = end
            self.ran_s[index] = end.ran_s
        else:
            self.failed_behind[index] = end
        if self.changed is not None:
            self.changed.append(index)

    def set_input_lost(self, index: Index) -> None:
        """Note that an input of the function can't be had any more."""
        self._note_requeued(index)
        self.change(index, PhaseEvent.INPUT_LOST)
        self.count_missing(index)

    def _note_requeued(self, index: Index) -> None:
        if self.changed is not None and self.phase[index] == READY:
            self.requeued.add(index)

    def undo(self, index: Index) -> None:
        """Note that a value is lost and must be made again."""
        self.change(index, PhaseEvent.VALUE_LOST)
        self.lose_holders(index)
        stored = self.stored.pop(index, None)
        if stored is not None and self.changed is not None:
            self.left_at.setdefault(index, set()).update(stored.told)
        self.inline.pop(index, None)
        self.skipped.discard(index)
        self.remaining += 1
        self.count_missing(index)
        if self.changed is not None:
            self.changed.append(index)

    def illegal(self, index: Index, event: PhaseEvent) -> AssertionError:
        """Make the error for a change that the table does not list."""
        phase = PHASE_NAMES[self.phase[index]]
        return AssertionError(
            f"function {repr_of(self._plan.ids[index])} is {phase}, where {event.name} can't happen"
        )

    # --- Attempts and values ------------------------------------------------------------------------------------

    def note_retirement(self, retired: WorkerRetired) -> bool:
        """Note why a worker was retired after the latest attempt at a function; False if it was another attempt."""
        index = retired.index
        is_latest = 0 <= index < len(self.phase) and self.attempt[index] == retired.attempt
        if is_latest:
            self.retired[index] = retired.reason
        return is_latest

    def is_sent(self, index: Index, attempt: int, node: str) -> bool:
        """Tell whether this attempt is out at that node; reports of any other are stale."""
        return (
            0 <= index < len(self.phase)
            and self.phase[index] == SENT
            and self.attempt[index] == attempt
            and self.node[index] == node
        )

    def version_of(self, index: Index) -> int:
        """Return the attempt whose value is meant: that of a serialize hook is for one node; 0 if any attempt's will do.

        In a run that forgets values, another attempt's may be that of another function.
        """
        is_certain = self.changed is not None or self.is_for_one_node(index)
        return self.attempt[index] if is_certain else 0

    def is_for_one_node(self, index: Index) -> bool:
        """True for the value of a serialize hook, which no other node can use."""
        return index in self._plan.hook_of

    def note_fetched(self, node: str, fetched: Iterable[Fetched], now: float) -> None:
        """Note the values that a node has fetched. Their times are late by the message delay."""
        for entry in fetched:
            ended_at, owner = now - entry.ended_s_ago, self.parted.owner(entry.index)
            self.transfers.append(Transfer(owner, node, entry.nbytes, ended_at - entry.took_s, ended_at))
            if node in self.cut_off and (entry.index, node) not in self._relays:
                self._note_direct(owner, node)

    def note_relay(self, index: Index, holder: str, node: str) -> int:
        """Note that a value goes from one node to another through the app. The answer is its size."""
        found = self.parted.find(index)
        stored = self.stored.get(index) if found is None else found[1]
        nbytes = 0 if stored is None else stored.nbytes
        self.relayed[holder, node] = self.relayed.get((holder, node), 0) + nbytes
        self._relays.add((index, node))
        self.cut_off.setdefault(node, set()).add(holder)
        return nbytes

    def note_out_of_reach(self, index: Index, node: str) -> list[str]:
        """Note that a node gets a value neither from its holders nor through the app. The answer names the holders."""
        stored = self.stored.get(index)
        holders = [] if stored is None else list(stored.holders)
        self.cut_off.setdefault(node, set()).update(holders)
        self.out_of_reach.add((index, node))
        return holders

    def _note_direct(self, index: Index, node: str) -> None:
        """Note that a node has fetched a value by itself: from whichever holder, that much works again."""
        stored = self.stored.get(index)
        if stored is not None:
            self.cut_off[node].difference_update(stored.holders)

    def is_reused(self, index: Index) -> bool:
        """Tell whether the function is done without having been sent, and was not skipped."""
        return self.phase[index] == DONE and self.tries(index) == 0 and index not in self.skipped

    def add_holder(self, index: Index, node: str) -> None:
        """Add a node to those that have a stored value."""
        stored = self.stored.get(index)
        if stored is not None and node not in stored.holders:
            stored.holders.append(node)
            self._held_by.setdefault(node, set()).add(index)

    def remove_holder(self, index: Index, node: str) -> bool:
        """Take a node off those that have a stored value. The answer says whether it was the last one."""
        stored = self.stored[index]
        stored.holders.remove(node)
        if self.changed is not None:
            stored.told.add(node)
        self._held_by[node].discard(index)
        return not stored.holders

    def lose_holders(self, index: Index) -> None:
        """Take all nodes off those that have a stored value."""
        stored = self.stored.get(index)
        for node in list(stored.holders) if stored is not None else ():
            self.remove_holder(index, node)

    def held_by(self, node: str) -> list[Index]:
        """List the stored values that a node has, in order."""
        return sorted(self._held_by.get(node, ()))

    def holders(self) -> set[str]:
        """Name every node that has some stored value."""
        return {node for node, held in self._held_by.items() if held}

    def count_missing(self, index: Index) -> int:
        """Count afresh the inputs that can't be had, without those that have failed and that it can do without."""
        missing = sum(self.awaits(index, producer) for producer in self._plan.producers[index])
        self.missing[index] = missing
        return missing

    def awaits(self, index: Index, producer: Index) -> bool:
        """Tell whether the function waits for this input, or for ever lacks it."""
        if self.is_available(producer):
            return False
        return not (self.phase[producer] == FAILED and tolerates(self._plan, index, producer))

    def is_lost(self, index: Index) -> bool:
        """Tell whether the function is done and its value has no holder left."""
        return self.phase[index] == DONE and not self.is_available(index)

    def is_available(self, index: Index) -> bool:
        """Tell whether consumers can have the value of the function."""
        if self.phase[index] != DONE:
            return False
        stored = self.stored.get(index)
        return stored is None or bool(stored.holders)

    def is_needed(self, index: Index) -> bool:
        """Tell whether some function that takes the value has yet to be sent. One that has been sent may do without."""
        ended = {SENT, DONE, FAILED}
        return any(self.phase[dependent] not in ended for dependent in self._plan.dependents[index])

    def failure_before(self, index: Index) -> Index | None:
        """Return the function whose failure leaves this one in vain; None if there is none.

        It lacks an input for ever, or it is a serialize hook that has no consumer any more.
        """
        hook = self._plan.hook_of.get(index)
        if hook is not None and self.phase[hook.consumer] == FAILED:
            return self.failed_behind.get(hook.consumer, hook.consumer)
        for producer in self._plan.producers[index]:
            if self.phase[producer] == FAILED and not tolerates(self._plan, index, producer):
                return self.failed_behind.get(producer, producer)
        return None

    def is_unfinished(self, index: Index) -> bool:
        """Tell whether the function has yet to end, well or not."""
        return self.phase[index] < DONE

    def unfinished(self) -> Iterator[Index]:
        """List every function that has yet to end."""
        return (index for index, phase in enumerate(self.phase) if phase < DONE)
