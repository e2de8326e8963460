"""The questions that may be asked about an open run, while it goes on and afterwards."""

from typing import TYPE_CHECKING

from handoff_actors.client.going_run import GoingRun
from handoff_actors.ids import FunctionId

if TYPE_CHECKING:
    from handoff_actors.core.run.explain import Explanation
    from handoff_actors.core.run.story import Story
    from handoff_actors.report.report import Report


class OpenRunFacts:
    """The part of an open run that only tells."""

    _going: GoingRun

    @property
    def dag_id(self) -> FunctionId:
        """The id of the run's graph, as for `get_result` and `explain`."""
        return self._going.runner.plan.dag_id

    @property
    def report(self) -> "Report":
        """The report on the functions that are there: those that have not ended, and those that handles refer to."""
        from handoff_actors.report.report import Report  # noqa: PLC0415 - few programs want one

        return Report(self._going.runner.view, self._going.runner.started_at)

    def explain(self, function_id: FunctionId) -> "Explanation | None":
        """Explain why a function, named by its id or handle, is where it is. Returns None for one that has ended."""
        wanted = self._going.runner.plan.id_of(function_id)
        return next((each for each in self._going.runner.explain() if each.function_id == wanted), None)

    def story(self, function_id: FunctionId) -> "Story":
        """Tell what has happened to a function, named by its id or handle. Raises KeyError for one that is not there."""
        view = self._going.runner.view
        return view.story(view.plan.index(function_id))
