"""The bounds on how often a function may fail, and the pauses between its tries.

A user's exception and a time limit cost a retry. The death of a worker, the loss of a node and the loss of an input do
not: they have bounds of their own, so that no function is repeated for ever. A node that ends because of a bug of its own
is a lost node; but what makes one node crash may do so to the next, with another function in its place. So such nodes are
counted for the run as a whole, too, and the bound is low: no run walks through a cluster and ends node after node.
"""

from collections import Counter

from handoff_actors.graph.plan import Plan
from handoff_actors.ids import Index

#: Worker deaths of one function after which the function is taken for their cause, and fails.
MAX_WORKER_DEATHS = 3
#: Losses of its node or of an input after which a function fails.
MAX_LOSSES = 20

#: Crashes of nodes that work for one run after which the run is taken for their cause, and ends.
MAX_NODE_CRASHES = 3

#: First pause in seconds, factor for each further one, longest pause in seconds.
Backoff = tuple[float, float, float]
NO_BACKOFF: Backoff = (0.0, 1.0, 0.0)


class Retries:
    """The failures of one run so far."""

    def __init__(self, plan: Plan, max_retries: int, backoff: Backoff) -> None:
        self._plan = plan
        self._max_retries = max_retries
        self._backoff = backoff
        #: Attempts that were counted against their functions.
        self.failed = 0
        self._failures: Counter[Index] = Counter()
        self._deaths: Counter[Index] = Counter()
        self._losses: Counter[Index] = Counter()
        self._node_crashes = 0

    def may_retry(self, index: Index) -> bool:
        """Count one more failure of the user's code. True if the function gets another try."""
        self.failed += 1
        self._failures[index] += 1
        return self._failures[index] <= self._plan.max_retries.get(index, self._max_retries)

    def may_retry_after_death(self, index: Index) -> bool:
        """Count one more dead worker. True if the function gets another try."""
        self.failed += 1
        self._deaths[index] += 1
        return self._deaths[index] < MAX_WORKER_DEATHS

    def may_retry_after_loss(self, index: Index) -> bool:
        """Count one more lost node or input. True if the function gets another try."""
        self._losses[index] += 1
        return self._losses[index] < MAX_LOSSES

    def may_continue_after_crash(self) -> bool:
        """Count one more node that has crashed under the run. True if the run may continue."""
        self._node_crashes += 1
        return self._node_crashes < MAX_NODE_CRASHES

    def backoff_s(self, index: Index) -> float:
        """The pause in seconds after the latest failure: exponential, with jitter between half and all of that.

        Source of the jitter: "Exponential Backoff And Jitter" (AWS, 2015), the equal variant; the random part is made
        from the function and the attempt, so that the same run does the same thing.
        """
        first, factor, longest = self._plan.retry_backoff.get(index, self._backoff)
        pause = min(longest, first * factor ** (self._failures[index] - 1))
        jitter = (index * 2654435761 + self._failures[index] * 40503) % 65536 / 65536
        return pause * (1 + jitter) / 2
