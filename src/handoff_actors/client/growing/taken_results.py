"""Results of an open run that functions take which are not with the run yet: they must not be let go of."""

from collections.abc import Iterable

from handoff_actors.graph.function import Function, producer_ids
from handoff_actors.ids import FunctionId


class TakenResults:
    """The results that are taken so, with the number of functions that take each."""

    def __init__(self) -> None:
        self._counts: dict[FunctionId, int] = {}
        #: Functions without handles whose results are taken so.
        self._let_go: set[FunctionId] = set()
        #: Those of them whose results are not any more.
        self._free: list[FunctionId] = []

    def count(self, function: Function, by: int) -> None:
        """Count the results that a function takes: 1 when it is added, -1 when it is with the run."""
        for producer_id in producer_ids(function):
            taken = self._counts.get(producer_id, 0) + by
            if taken > 0:
                self._counts[producer_id] = taken
            else:
                self._counts.pop(producer_id, None)
                if producer_id in self._let_go:
                    self._let_go.discard(producer_id)
                    self._free.append(producer_id)

    @property
    def has_free(self) -> bool:
        """True if `let_go` has earlier functions to return."""
        return bool(self._free)

    def let_go(self, function_ids: Iterable[FunctionId]) -> list[FunctionId]:
        """Let go of functions that have no handles any more. Returns those, of earlier ones too, whose results nothing takes."""
        free, self._free = self._free, []
        let_go: list[FunctionId] = []
        for function_id in (*free, *function_ids):
            if function_id in self._counts:
                self._let_go.add(function_id)
            else:
                let_go.append(function_id)
        return let_go
