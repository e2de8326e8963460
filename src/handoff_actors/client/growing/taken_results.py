"""Results of an open run that functions take which are not with the run yet: they must not be let go of."""

from handoff_actors.graph.function import Function, producer_ids
from handoff_actors.ids import FunctionId


class TakenResults:
    """The results that are taken so, with the number of functions that take each."""

    def __init__(self) -> None:
        self._counts: dict[FunctionId, int] = {}

    def __contains__(self, function_id: FunctionId) -> bool:
        return function_id in self._counts

    def count(self, function: Function, by: int) -> None:
        """Count the results that a function takes: 1 when it is added, -1 when it is with the run."""
        for producer_id in producer_ids(function):
            taken = self._counts.get(producer_id, 0) + by
            if taken > 0:
                self._counts[producer_id] = taken
            else:
                self._counts.pop(producer_id, None)
