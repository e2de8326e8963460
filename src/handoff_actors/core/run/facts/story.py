"""The story of each function and node of a run: what happened to it, when, and why.

Only departures from the normal path are stored, the latest `MOST_DEPARTURES` of a run. When a function was ready, sent and
done in its latest attempt is in the arrays of the run's state, so that a run where nothing goes wrong stores nothing here. A
departure refers to its cause by number: the loss of a node causes the loss of a value, which causes a function to run again.
A cause that is no longer kept is left out of the story.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from handoff_actors.core.run.facts.origins import Origins
from handoff_actors.core.run.facts.phases import DONE, READY, SENT
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.escaping import escape_name
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Attempt, FunctionId, Index
from handoff_actors.text import repr_of

#: Departures that are kept of one run.
MOST_DEPARTURES: Final = 1_000
#: Characters that are kept of each reason.
MOST_OF_A_REASON: Final = 500
#: The number of no departure.
NO_CAUSE: Final = -1
_NO_FUNCTION: Final = -1

#: Steps of the normal path.
NormalStep: TypeAlias = Literal["ready", "sent", "done", "reused"]
#: "node lost" and "leaving" are also said of nodes themselves.
Departed: TypeAlias = Literal[
    "retried", "failed", "worker lost", "node lost", "input lost", "value lost",
    "recalled", "stolen", "drained", "leaving",
]  # fmt: skip
#: Why a function may come back unstarted: in a word for its story, and as a reason.
RECALLED: Final[tuple[Departed, str]] = ("recalled", "the node gave it back unasked")
SEPARATED: Final[tuple[Departed, str]] = ("recalled", "it was not to go with the others of its fused group")
STOLEN: Final[tuple[Departed, str]] = ("stolen", "")


class StoryEntry(Struct, frozen=True):
    """One thing that happened to a function or to a node. As text it is a line of English."""

    #: Seconds since the run began.
    at_s: float
    #: On the normal path "ready", "sent", "done", or "reused" from a journal. An attempt may end as "retried", "failed" for
    #: good, "worker lost", "node lost", "input lost", or unstarted as "recalled" or "stolen" for another node. A value may
    #: be "value lost", or "drained" from a node that leaves. A node may be "node lost" or "leaving".
    what: NormalStep | Departed
    #: None where it is about a node.
    function_id: FunctionId
    #: The number of the attempt; of "ready", of the one to come. 0 before the first one, and where it is about a node.
    attempt: Attempt
    #: The name of the node concerned; "" where there is none.
    node: str
    #: For people; "" where there is nothing to say.
    reason: str = ""
    #: The number of the entry that led to it, if that is known.
    cause: "StoryEntry | None" = None
    #: As `repr` shows it, the id that the function had in the graph with which `function_id` has returned it as its result, and
    #: that attempt and reason are about; "" where they are about `function_id` itself.
    stand_in: str = ""

    def __str__(self) -> str:
        return f"{self.at_s:.3f} s  {self.text}"

    @property
    def text(self) -> str:
        """The entry and its causes as a sentence, without the time."""
        reason = f": {escape_name(self.reason)}" if self.reason else ""
        cause = "" if self.cause is None else f", because {self.cause.text}"
        return f"{_SENTENCES[self.what](self)}{reason}{cause}"


class Story(Struct, frozen=True):
    """The entries about one function or one node, in the order of time. As text it has a line for each."""

    entries: tuple[StoryEntry, ...] = ()
    #: Departures of the whole run that were too many to keep: the oldest ones, which may have been about this one.
    dropped: int = 0

    def __iter__(self) -> Iterator[StoryEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __str__(self) -> str:
        lines = [str(entry) for entry in self.entries] or ["nothing has happened yet"]
        if self.dropped:
            lines.insert(0, f"({self.dropped} earlier departures of the run were not kept)")
        return "\n".join(lines)


NO_STORY: Final = Story()


class Departure(Struct):
    """One departure, with what the state's arrays say of its attempt until the next one overwrites that."""

    at: float
    what: Departed
    index: Index
    #: None where it is about a node. In a run that grows, other functions may have the same index later.
    function_id: FunctionId
    attempt: Attempt
    node: str
    reason: str
    cause: int
    #: The node that the attempt ran on, and the times when it was sent and done; the latter 0.0 where it was not.
    ran_on: str
    sent_at: float
    done_at: float
    #: As of `StoryEntry`.
    stand_in: str = ""


class StoryLog:
    """The departures of one run, and the stories that follow from them and from the run's state."""

    def __init__(self, plan: Plan, state: RunState, origins: Origins) -> None:
        self._plan = plan
        self._state = state
        self._origins = origins
        self._kept: deque[Departure] = deque(maxlen=MOST_DEPARTURES)
        self._count = 0
        #: Departures of functions by kind, dropped ones included.
        self.counts: defaultdict[Departed, int] = defaultdict(int)
        #: On the clock of the run's state.
        self.began_at = 0.0

    # --- Writing ------------------------------------------------------------------------------------------------

    def note(
        self, what: Departed, index: Index, node: str, now: float, reason: str = "", cause: int = NO_CAUSE
    ) -> int:
        """Note that a function departs from the normal path. The answer is a number to refer to this as a cause."""
        state = self._state
        self.counts[what] += 1
        done_at = state.finished_at[index] if state.phase[index] == DONE else 0.0
        return self._keep(
            Departure(
                now,
                what,
                index,
                self._plan.ids[index],
                state.tries(index),
                node,
                reason[:MOST_OF_A_REASON],
                cause,
                state.node[index] or "",
                state.sent_at[index],
                done_at,
                self._origins.stand_in(index),
            )
        )

    def note_node(self, what: Departed, name: str, now: float, reason: str = "") -> int:
        """Note that a node is lost or leaves. The answer is a number to refer to this as a cause."""
        return self._keep(
            Departure(
                now, what, _NO_FUNCTION, None, 0, name, reason[:MOST_OF_A_REASON], NO_CAUSE, name, 0.0, 0.0
            )
        )

    def _keep(self, departure: Departure) -> int:
        self._kept.append(departure)
        self._count += 1
        return self._count - 1

    # --- Reading ------------------------------------------------------------------------------------------------

    @property
    def dropped(self) -> int:
        """The number of departures that are no longer kept."""
        return self._count - len(self._kept)

    def by_function(self) -> dict[Index, list[Departure]]:
        """Sort the departures by function, each list in the order of time."""
        found: dict[Index, list[Departure]] = {}
        for departure in self._kept:
            if self._is_of(departure, departure.index):
                found.setdefault(departure.index, []).append(departure)
        return found

    def _is_of(self, departure: Departure, index: Index) -> bool:
        """True if it is about the function that has the index now."""
        return departure.index == index != _NO_FUNCTION and departure.function_id == self._plan.ids[index]

    def has_departed(self, index: Index) -> bool:
        """Tell whether a departure of the function is kept."""
        return any(self._is_of(departure, index) for departure in self._kept)

    def story_of(self, index: Index, departures: Sequence[Departure] | None = None) -> Story:
        """Tell the story of a function; `departures` are its own, for a caller that has sorted them."""
        if departures is None:
            departures = [departure for departure in self._kept if self._is_of(departure, index)]
        entries = [*self._entries_of_attempts(departures), *self._latest_attempt(index)]
        return self._story(entries)

    def of_failure(self, index: Index, node: str, now: float, reason: str) -> Story | None:
        """Record that a function has failed for good. Returns its story, or None where the failure is the whole story."""
        has_departed = self.has_departed(index)
        self.note("failed", index, node, now, reason)
        return self.story_of(index) if has_departed else None

    def story_of_node(self, name: str) -> Story:
        """Tell the story of a node: its attempts, values that were lost with it or brought to it, and its own end."""
        departures = [departure for departure in self._kept if name in {departure.node, departure.ran_on}]
        entries = [
            entry
            for index in dict.fromkeys(departure.index for departure in departures)
            for entry in self._entries_of_attempts([each for each in departures if each.index == index])
        ]
        for index, node in enumerate(self._state.node):
            if node == name and not self._state.is_reused(index):
                entries += self._latest_attempt(index)
        return self._story([entry for entry in entries if entry.node == name])

    def _story(self, entries: list[StoryEntry]) -> Story:
        # An attempt may have been sent and have departed more than once: its value may be lost after a copy of it.
        in_order = sorted(dict.fromkeys(entries), key=lambda entry: entry.at_s)
        return Story(tuple(in_order), self.dropped)

    def _entries_of_attempts(self, departures: Sequence[Departure]) -> Iterator[StoryEntry]:
        for departure in departures:
            if departure.attempt:
                yield self._step_before("sent", departure, departure.sent_at)
            if departure.attempt and departure.done_at:
                yield self._step_before("done", departure, departure.done_at)
            yield self._entry(departure)

    def _step_before(self, what: NormalStep, departure: Departure, at: float) -> StoryEntry:
        return StoryEntry(
            self._since_began(at),
            what,
            departure.function_id,
            departure.attempt,
            departure.ran_on,
            stand_in=departure.stand_in,
        )

    def _latest_attempt(self, index: Index) -> Iterator[StoryEntry]:
        """Tell what the state's arrays say of a function."""
        state = self._state
        phase, attempt, node = state.phase[index], state.tries(index), state.node[index] or ""
        if state.is_reused(index):
            yield self._step("reused", index, attempt, node, state.finished_at[index])
            return
        if phase == READY:
            yield self._step("ready", index, attempt + 1, "", state.ready_at[index])
        elif phase in {SENT, DONE}:
            # A member of a fused group is sent before its inputs are there.
            ready_at = min(state.ready_at[index], state.sent_at[index])
            yield self._step("ready", index, attempt, "", ready_at)
            yield self._step("sent", index, attempt, node, state.sent_at[index])
        if phase == DONE:
            yield self._step("done", index, attempt, node, state.finished_at[index])

    def _step(self, what: NormalStep, index: Index, attempt: Attempt, node: str, at: float) -> StoryEntry:
        function_id, stand_in = self._plan.ids[index], self._origins.stand_in(index)
        return StoryEntry(self._since_began(at), what, function_id, attempt, node, stand_in=stand_in)

    def _entry(self, departure: Departure) -> StoryEntry:
        return StoryEntry(
            self._since_began(departure.at),
            departure.what,
            departure.function_id,
            departure.attempt,
            departure.node,
            departure.reason,
            self._cause(departure.cause),
            departure.stand_in,
        )

    def _cause(self, number: int) -> StoryEntry | None:
        place = number - self.dropped
        return None if number == NO_CAUSE or place < 0 else self._entry(self._kept[place])

    def _since_began(self, at: float) -> float:
        return max(0.0, at - self.began_at)


# --- Sentences --------------------------------------------------------------------------------------------------


def _name(entry: StoryEntry) -> str:
    name = escape_name(repr_of(entry.function_id))
    return f"{escape_name(entry.stand_in)} in place of {name}" if entry.stand_in else name


def _attempt(entry: StoryEntry) -> str:
    return f"attempt {entry.attempt} of {_name(entry)} on {_node(entry)}"


def _node(entry: StoryEntry) -> str:
    return f"node {escape_name(repr(entry.node))}"


def _node_lost(entry: StoryEntry) -> str:
    return f"{_node(entry) if entry.function_id is None else _attempt(entry)} was lost"


def _input_lost(entry: StoryEntry) -> str:
    return f"{_attempt(entry)} lacked an input" if entry.node else f"{_name(entry)} lost an input"


_SENTENCES: Final[dict[str, Callable[[StoryEntry], str]]] = {
    "ready": lambda entry: f"{_name(entry)} had all of its inputs",
    "sent": lambda entry: f"{_name(entry)} was sent to {_node(entry)} as attempt {entry.attempt}",
    "done": lambda entry: f"{_attempt(entry)} was done",
    "reused": lambda entry: f"the result of {_name(entry)} was in the journal",
    "retried": lambda entry: f"{_attempt(entry)} failed and was tried again",
    "failed": lambda entry: f"{_attempt(entry) if entry.node else _name(entry)} failed for good",
    "worker lost": lambda entry: f"{_attempt(entry)} was lost with its worker",
    "node lost": _node_lost,
    "input lost": _input_lost,
    "value lost": lambda entry: f"the value of {_name(entry)} was lost",
    "recalled": lambda entry: f"{_attempt(entry)} came back unstarted",
    "stolen": lambda entry: f"{_attempt(entry)} was called back for a node with room",
    "drained": lambda entry: f"the value of {_name(entry)} was copied to {_node(entry)}",
    "leaving": lambda entry: f"{_node(entry)} began to leave",
}
