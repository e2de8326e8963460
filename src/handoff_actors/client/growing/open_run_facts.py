"""The questions that may be asked about an open run, while it goes on and afterwards."""

from collections import deque
from typing import TYPE_CHECKING, Any

from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.client.growing.going_run import GoingRun
from handoff_actors.client.growing.run_handle import RunHandle
from handoff_actors.client.process.tracebacks import InsideHidden
from handoff_actors.graph.function import Function, producer_ids
from handoff_actors.graph.growing_dag import GrowingDAG
from handoff_actors.graph.repeated_calls import RepeatedCalls
from handoff_actors.ids import FunctionId

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from handoff_actors.core.run.explain import Explanation
    from handoff_actors.core.run.facts.story import Story
    from handoff_actors.report.report import Report


class OpenRunFacts:
    """The part of an open run that only tells."""

    _going: GoingRun
    #: Functions that are not with the run yet.
    _calls: GrowingDAG
    _repeated: RepeatedCalls
    _graphs: deque[dict[FunctionId, Function]]
    _unfinished: dict[FunctionId, RunHandle[Any]]

    @property
    def dag_id(self) -> FunctionId:
        """The id of the run's graph, as for `get_result` and `explain`."""
        return self._going.runner.plan.dag_id

    @property
    def runner(self) -> RunnerActor:
        """The actor of the run. For this package."""
        return self._going.runner

    @property
    def report(self) -> "Report":
        """The report, as the run is when it is first read.

        It has an entry for each function that is there, which are those that have not ended and those that handles refer to,
        and for the last 10,000 others; its sums by code are over all functions that ever ran.
        """
        from handoff_actors.report.report import Report  # noqa: PLC0415 - few programs want one

        return Report(self._going.runner.view, self._going.runner.started_at)

    def to_trace(self, path: "str | os.PathLike[str]") -> None:
        """Write a trace of what the report has one by one, to be opened in Perfetto. See `Run.to_trace`. Raises OSError."""
        from handoff_actors.report.trace import write_trace  # noqa: PLC0415 - as above

        write_trace(self.report, path)

    def explain(self, function_id: FunctionId) -> "Explanation | None":
        """Explain why a function, named by its id or handle, is where it is. Returns None for one that has ended."""
        view = self._going.runner.view
        with InsideHidden():
            wanted = view.plan.id_of(function_id)
        index = view.plan.index_of.get(wanted)
        if index is not None:
            return view.explain_one(index)
        handle = self._unfinished.get(wanted)
        return None if handle is None or handle.done() else self._explain_held(wanted)

    def _explain_held(self, function_id: FunctionId) -> "Explanation":
        from handoff_actors.core.run.explain import Explanation  # noqa: PLC0415 - as above
        from handoff_actors.core.run.facts.story import NO_STORY  # noqa: PLC0415 - as above

        function = self._held_function(function_id)
        takes = () if function is None else producer_ids(function)
        waits_for = tuple(each for each in takes if each in self._unfinished)
        cost = {} if function is None else dict(function.cost or {})
        return Explanation(function_id, "held", waits_for, cost, None, 0, {}, NO_STORY)

    def _held_function(self, function_id: FunctionId) -> Function | None:
        """Find a function that is not with the run yet; None while it is on its way there."""
        held: list[Mapping[FunctionId, Function]] = [self._calls.functions, *self._graphs]
        found = next((functions[function_id] for functions in held if function_id in functions), None)
        return self._repeated.find(function_id) if found is None else found

    def story(self, function_id: FunctionId) -> "Story":
        """Tell what has happened to a function, named by its id or handle. Raises KeyError for one that is not there."""
        view = self._going.runner.view
        with InsideHidden():
            return view.story(view.plan.index(function_id))
