"""Progress of a run, read from its counters: nothing is counted for the sake of being shown."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.core.run.view import FunctionCounts
from handoff_actors.display.function_progress import FunctionProgress, progress_text
from handoff_actors.display.live_progress import LiveProgress, RecentRate, rate_text, shown_id
from handoff_actors.escaping import escape_name
from handoff_actors.report.table import count, seconds
from handoff_actors.wire.messages.members import Advert

#: Functions whose own progress is shown.
_MOST_REPORTS: Final = 4
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


class NodeSnapshot(NamedTuple):
    """One node of a run."""

    name: str
    #: Functions of this run that run there, and that are there or on their way and wait.
    running: int
    queued: int


class RunSnapshot(NamedTuple):
    """One run at one moment."""

    functions: FunctionCounts
    nodes: list[NodeSnapshot]
    #: Functions that run and have reported progress.
    reports: Sequence[FunctionProgress] = ()

    @property
    def running(self) -> int:
        """Functions that run."""
        return sum(node.running for node in self.nodes)

    @property
    def ended(self) -> float:
        """Functions that have ended; one that runs counts by the share of it that is done."""
        return self.functions.ended + sum(report.fraction for report in self.reports)


def look_at(
    runner: RunnerActor, adverts: Iterable[Advert], reports: Sequence[FunctionProgress]
) -> RunSnapshot:
    """Take a snapshot of a run, in its own loop."""
    view = runner.view
    busy = {advert.name: advert.running for advert in adverts}
    nodes = []
    for name, in_flight in view.in_flight().items():
        # A node says how many functions run there, not whose they are.
        running = min(in_flight, busy.get(name, 0))
        nodes.append(NodeSnapshot(name, running, in_flight - running))
    return RunSnapshot(view.counts(), nodes, reports)


class ProgressView(LiveProgress):
    """A run that is being shown."""

    def __init__(
        self,
        runner: RunnerActor,
        adverts: Callable[[], Iterable[Advert]],
        reports: Callable[[], Sequence[FunctionProgress]],
        began_at: float,
        done_before: int,
    ) -> None:
        """Show a run that began at `began_at` on the monotonic clock, with `done_before` functions done already."""
        super().__init__(runner.plan.dag_id, began_at)
        self._runner = runner
        self._adverts = adverts
        self._reports = reports
        self._rate = RecentRate(began_at, done_before)
        self._take_snapshot()

    def _take_snapshot(self) -> None:
        self.latest = look_at(self._runner, self._adverts(), self._reports())

    @property
    def share(self) -> tuple[float, float]:
        """See LiveProgress."""
        return self.latest.ended, max(1, self.latest.functions.total)

    def summary(self) -> str:
        """See LiveProgress."""
        return f"{self.counts()}, {self.speed()}"

    def details(self, most: int) -> list[str]:
        """See LiveProgress."""
        return [self.doings(most), *self.reports(_MOST_REPORTS)]

    def counts(self) -> str:
        """Count the functions that are done, run, were retried, or have failed, as text."""
        functions = self.latest.functions
        running = f", {self.latest.running} running" if not self.outcome else ""
        retried = f", {functions.retried} retried" if functions.retried else ""
        failed = f", {functions.failed} failed" if functions.failed else ""
        skipped = f", {functions.skipped} skipped" if functions.skipped else ""
        return f"{functions.done}/{functions.total} done{running}{retried}{failed}{skipped}"

    def speed(self) -> str:
        """Say the functions per second, and the time left at that rate."""
        rate = self._rate.at(self.latest.ended)
        if not rate:
            return "? left"
        left_s = (self.latest.functions.total - self.latest.ended) / rate
        return f"{rate_text(rate)}, {_clock(left_s)} left"

    def last_line(self) -> str:
        """Return the line that stays when the run has ended."""
        return f"{self.name}: {self.outcome} in {seconds(self.seconds)}, {self.counts()}"

    def reports(self, most: int) -> list[str]:
        """Say how far functions are that have reported it, naming `most` of them."""
        reports = self.latest.reports
        shown = [
            f"{shown_id(report.function_id)}: {progress_text(report.done, report.total)}"
            for report in reports[:most]
        ]
        more = [count(len(reports) - most, "more function")] if len(reports) > most else []
        return [*shown, *more]

    def doings(self, most: int) -> str:
        """Say what the nodes do, naming `most` of them."""
        nodes = self.latest.nodes
        shown = [
            f"{escape_name(node.name)}: {node.running} running"
            + (f" {node.queued} queued" if node.queued else "")
            for node in nodes[:most]
        ]
        more = [count(len(nodes) - most, "more node")] if len(nodes) > most else []
        return "; ".join([*shown, *more]) or "no nodes"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
