"""Progress of a stream, stage by stage, read from the counters that it keeps for its report."""

import time

from handoff_actors.core.stream.view import StreamView
from handoff_actors.display.live_progress import LiveProgress, RecentRate, rate_text, shown_id
from handoff_actors.ids import FunctionId
from handoff_actors.report.pipeline_report import StageReport, report_on
from handoff_actors.report.table import count, seconds


class StreamProgressView(LiveProgress):
    """A stream that is being shown."""

    def __init__(self, view: StreamView, dag_id: FunctionId, began_at: float) -> None:
        super().__init__(dag_id, began_at)
        self._view = view
        self._rate = RecentRate(began_at, 0)
        self._rates = {stage.function_id: RecentRate(began_at, 0) for stage in view.stages()}
        self._take_snapshot()

    def _take_snapshot(self) -> None:
        view = self._view
        self.latest = report_on(view, self._began_at, time.monotonic())
        self._out, self._failed = view.pushed - view.in_flight, view.failed

    @property
    def share(self) -> None:
        """See LiveProgress."""
        return

    def summary(self) -> str:
        """See LiveProgress."""
        bottleneck = self.latest.bottleneck
        waits = "" if bottleneck is None else f", waits for {shown_id(bottleneck)}"
        return f"{self._counts()}, {self.latest.in_flight} in flight, {rate_text(self._rate.at(self._out))}{waits}"

    def details(self, most: int) -> list[str]:
        """See LiveProgress."""
        stages = list(self.latest.stages.values())
        more = [count(len(stages) - most, "more stage")] if len(stages) > most else []
        return [*map(self._about, stages[:most]), *more]

    def last_line(self) -> str:
        """See LiveProgress."""
        return f"{self.name}: {self.outcome} in {seconds(self.seconds)}, {self._counts()}"

    def _counts(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{count(self._out, 'item')} done{failed}"

    def _about(self, stage: StageReport) -> str:
        failed = f", {stage.failed} failed" if stage.failed else ""
        retried = f", {stage.retried} retried" if stage.retried else ""
        rate = rate_text(self._rates[stage.function_id].at(stage.items))
        waiting = f"{stage.queued} queued, {stage.with_workers} with {count(stage.workers, 'worker')}"
        return f"{shown_id(stage.function_id)}: {stage.items} done{failed}{retried}, {rate}, {stage.busy:.0%} busy, {waiting}"
