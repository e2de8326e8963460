"""The outcome of a function, as reports have it: how it has ended, and how large its result is."""

from typing import Literal

from handoff_actors.core.run.facts.phases import DONE
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.ids import Index

#: The end of a function; "skipped": it did not run, since one that it depends on has failed or was skipped, or since a condition
#: of it is false; or it has returned SKIP.
FunctionOutcome = Literal["done", "reused", "failed", "skipped", "unfinished"]


def outcome_of(state: RunState, index: Index) -> FunctionOutcome:
    """Say how a function has ended, if it has."""
    if index in state.skipped:
        return "skipped"
    if state.phase[index] == DONE:
        return "reused" if state.is_reused(index) else "done"
    if index in state.failures:
        return "failed"
    return "skipped" if index in state.failed_behind else "unfinished"


def result_nbytes(state: RunState, index: Index) -> int:
    """Return the encoded size of a value; 0 where there is none."""
    inline = state.inline.get(index)
    if inline is not None:
        return len(inline)
    stored = state.stored.get(index)
    return 0 if stored is None else stored.nbytes
