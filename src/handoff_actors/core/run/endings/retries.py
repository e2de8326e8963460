"""The bounds on how often a function may fail, and the pauses between its tries.

A user's exception and a time limit cost a retry, as far as `retry_on` allows one: about exceptions the worker asks the rule,
which has the exception itself; about time limits it is asked here. The death of a worker, the loss of a node and the loss of an input do
not: they have bounds of their own, so that no function is repeated for ever. A node that ends because of a bug of its own
is a lost node; but what makes one node crash may do so to the next, with another function in its place. So such nodes are
counted for the run as a whole, too, and the bound is low: no run walks through a cluster and ends node after node.
"""

from collections import defaultdict
from collections.abc import Iterable

from handoff_actors.core.backoff import Backoff, pause_s
from handoff_actors.core.run.facts.numbering import discard_all
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index
from handoff_actors.retry_on import RetryOn, reason_against_retry
from handoff_actors.wire.messages.runs import Failed

#: Worker deaths of one function after which the function is taken for their cause, and fails.
MAX_WORKER_DEATHS = 3
#: Losses of its node or of an input after which a function fails.
MAX_LOSSES = 20

#: Pauses in seconds before a function is tried again whose input is with a node that can't be reached. Together they are longer
#: than a node that is gone stays unnoticed: a value is not lost before its holders are.
UNREACHABLE_PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0)

#: Crashes of nodes that work for one run after which the run is taken for their cause, and ends.
MAX_NODE_CRASHES = 3


class Retries:
    """The failures of one run so far."""

    def __init__(self, plan: Plan, max_retries: int, backoff: Backoff, retry_on: RetryOn = None) -> None:
        self._plan = plan
        self._retry_on = retry_on
        self._max_retries = max_retries
        self._backoff = backoff
        self._failures: defaultdict[Index, int] = defaultdict(int)
        self._deaths: defaultdict[Index, int] = defaultdict(int)
        self._losses: defaultdict[Index, int] = defaultdict(int)
        self._unreached: defaultdict[Index, int] = defaultdict(int)
        self._node_crashes = 0

    def may_retry(self, failed: Failed) -> bool:
        """Count one more failure of the user's code, or of its place. True if the function gets another try."""
        index = failed.index
        self._failures[index] += 1
        return self.has_left(index) and not self.reason_against_retry(failed)

    def has_left(self, index: Index) -> bool:
        """True if the failures of the function that were counted leave it another try."""
        return self._failures[index] <= self._plan.max_retries.get(index, self._max_retries)

    def reason_against_retry(self, failed: Failed) -> str:
        """Return "" if another try might change this failure; else why not, for people."""
        if failed.kind == "deadlock":
            return "another try would wait for the same again"
        if failed.kind == "timeout":
            rule = self._plan.templates[self._plan.template_of[failed.index]].retry_on
            return reason_against_retry(self._retry_on if rule is None else rule, TimeoutError(failed.reason))
        return failed.traces.not_retried

    def may_retry_after_death(self, index: Index) -> bool:
        """Count one more dead worker. True if the function gets another try."""
        self._deaths[index] += 1
        return self._deaths[index] < MAX_WORKER_DEATHS

    def may_retry_after_loss(self, index: Index) -> bool:
        """Count one more lost node or input. True if the function gets another try."""
        self._losses[index] += 1
        return self._losses[index] < MAX_LOSSES

    def pause_before_next_reach(self, index: Index) -> float | None:
        """Count one more holder that could not be reached. Returns the pause before the next try; None if there is to be none."""
        self._unreached[index] += 1
        tries = self._unreached[index]
        return UNREACHABLE_PAUSES_S[tries - 1] if tries <= len(UNREACHABLE_PAUSES_S) else None

    def forget(self, indices: Iterable[Index]) -> None:
        """Forget functions that are no more in the plan."""
        discard_all(indices, self._failures, self._deaths, self._losses, self._unreached)

    def may_continue_after_crash(self) -> bool:
        """Count one more node that has crashed under the run. True if the run may continue."""
        self._node_crashes += 1
        return self._node_crashes < MAX_NODE_CRASHES

    def backoff_s(self, index: Index) -> float:
        """The pause in seconds after the latest failure."""
        backoff = self._plan.retry_backoff.get(index, self._backoff)
        return pause_s(backoff, self._failures[index], index)
