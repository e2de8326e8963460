"""The report of a run: how each function went, one by one, by code and in sum."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from handoff_actors.core.run.view import RunView
from handoff_actors.escaping import escape_name
from handoff_actors.graph.naming import code_name
from handoff_actors.ids import FunctionId, Index
from handoff_actors.report.breakdown import NOTHING, Breakdown
from handoff_actors.report.critical import CriticalPath, critical_path_of
from handoff_actors.report.table import Row, aligned, count, nbytes, seconds
from handoff_actors.report.timeline import Timeline
from handoff_actors.text import repr_of, str_of

if TYPE_CHECKING:
    from handoff_actors.core.run.facts.history import CodeHistory
    from handoff_actors.graph.plan import Plan
    from handoff_actors.report.facts import RunFacts
    from handoff_actors.report.function_report import FunctionReport
    from handoff_actors.report.recorded_run import RecordedRun

#: A report on more functions than these is printed by code.
MOST_ROWS = 40
#: The most functions of the critical path that the last line names.
NAMED_STEPS = 6


class CodeReport(Struct, frozen=True):
    """The report of all functions of one code that ran, those that an open run has forgotten included."""

    #: Its name.
    code: str
    #: Those that are done.
    count: int
    #: Names, in order.
    nodes: tuple[str, ...]
    #: Sums over its functions, as all below.
    time: Breakdown
    #: Of those that the report has one by one.
    median_ran_s: float
    #: The number of times that these, and those that have failed, were sent to nodes.
    attempts: int
    moved_nbytes: int
    result_nbytes: int
    #: Its functions that have failed for good, which are not in `count`, nor in times and bytes.
    failed: int = 0
    longest_ran_s: float = 0.0


class Report(Mapping[FunctionId, "FunctionReport"]):
    """The reports of a run's functions by id. Printed, a table of functions, or of codes where there are many."""

    def __init__(self, view: RunView, began_at: float) -> None:
        self._live = view
        self._began_at = began_at

    @cached_property
    def _view(self) -> "RunFacts":
        """The facts of the run; of one that grows a picture of them, since it goes on and forgets functions."""
        return self._live if self._recorded is None else self._recorded

    @cached_property
    def _recorded(self) -> "RecordedRun | None":
        if not (self._live.forgets or self._live.history):
            return None
        from handoff_actors.report.recorded_run import RecordedRun  # noqa: PLC0415 - most runs don't grow

        return RecordedRun(self._live)

    @property
    def _plan(self) -> "Plan":
        return self._view.plan

    def __getitem__(self, function_id: FunctionId) -> "FunctionReport":
        return self._report(self._plan.index(function_id))

    def __iter__(self) -> Iterator[FunctionId]:
        return iter(self._plan.index_of)

    def __len__(self) -> int:
        return len(self._plan.index_of)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"<Report: {self._totals()}>"

    # --- In sum -------------------------------------------------------------------------------------------------

    @cached_property
    def timeline(self) -> Timeline:
        """The times at which each function waited and ran; made when it is first asked for."""
        added_by = {} if self._recorded is None else self._recorded.added_by()
        return Timeline(self._view, self._began_at, added_by)

    @property
    def duration_s(self) -> float:
        """From the beginning of the run until its last result was there."""
        return self.timeline.duration_s

    @cached_property
    def time(self) -> Breakdown:
        """The parts of the time of all functions, in sum."""
        return Breakdown.total(entry.time for entry in self.by_code)

    @property
    def relayed_nbytes(self) -> int:
        """Bytes of values that went through the app, between nodes that get no connection to one another."""
        return sum(self._view.relayed.values())

    @cached_property
    def critical_path(self) -> CriticalPath:
        """The functions that set the length of the run, and the parts of its time."""
        return critical_path_of(self.timeline)

    @cached_property
    def by_code(self) -> list[CodeReport]:
        """Functions of the same code together, those that ran longest in sum first. Serialize hooks are among them."""
        names = [code_name(template.code) for template in self._plan.templates]
        groups: dict[str, _CodeGroup] = {}

        def group_of(code: str) -> _CodeGroup:
            return groups.get(code) or groups.setdefault(code, _CodeGroup([], [], []))

        for index in self.timeline.indices:
            group_of(names[self._plan.template_of[index]]).done.append(index)
        for index in self._view.failures:
            group_of(names[self._plan.template_of[index]]).failed.append(index)
        for sums in () if self._recorded is None else self._recorded.sums:
            group_of(sums.code).sums.append(sums)
        reports = [self._code_report(code, group) for code, group in groups.items()]
        return sorted(reports, key=lambda report: -report.time.ran_s)

    # --- Tables -------------------------------------------------------------------------------------------------

    def table(self, by: str | None = None) -> str:
        """The report as text: by "function" or by "code"; by itself it chooses by the number of functions.

        `room` is time lost to waiting for room on a node or for a worker. Raises ValueError.
        """
        if by not in {None, "function", "code"}:
            raise ValueError(f"by={repr_of(by)}: it is 'function', 'code' or None")
        by_function = len(self) <= MOST_ROWS if by is None else by == "function"
        heads, rows = self._rows_by_function() if by_function else self._rows_by_code()
        return f"{aligned(heads, rows)}\n\n{self._lines_below()}"

    def _repr_html_(self) -> str:
        from handoff_actors.report.html_table import paragraph, picked, table  # noqa: PLC0415 - few programs are notebooks

        heads, rows = self._rows_by_function() if len(self) <= MOST_ROWS else self._rows_by_code()
        # Functions are few here, but each may have a code of its own.
        shown, left_out = (rows, 0) if len(rows) <= MOST_ROWS else picked(rows)
        return table(heads, shown, left_out) + paragraph(self._lines_below())

    def _lines_below(self) -> str:
        return f"{self._totals()}\n{self._losses()}\n{self._critical_line()}{self._relays()}{self._retirements()}{self._left_out()}"

    def _rows_by_function(self) -> tuple[Row, list[Row]]:
        heads = ("function", "node", "worker", "tries", "began", "ran", "room", "moving", "overhead")
        outcomes = [self._view.outcome(index) for index in self._plan.index_of.values()]
        are_all_done = {"done", "reused"}.issuperset(outcomes)
        has_parents = any(self._view.parent(index) is not None for index in self._plan.index_of.values())
        rows: list[Row] = [
            (
                str_of(entry.function_id),
                entry.node,
                str(entry.worker),
                str(entry.attempts),
                *map(seconds, (entry.started_at, entry.ran_s, *_lost(entry.time))),
                nbytes(entry.moved_nbytes),
                nbytes(entry.result_nbytes),
                *(() if are_all_done else (entry.outcome,)),
                *(("" if entry.parent is None else str_of(entry.parent),) if has_parents else ()),
            )
            for entry in self.values()
        ]
        further = (*(() if are_all_done else ("outcome",)), *(("parent",) if has_parents else ()))
        return (*heads, "moved in", "result", *further), rows

    def _rows_by_code(self) -> tuple[Row, list[Row]]:
        heads = ("code", "count", "tries", "nodes", "ran", "median", "room", "moving", "overhead")
        have_failed = any(entry.failed for entry in self.by_code)
        rows: list[Row] = [
            (
                entry.code,
                str(entry.count),
                str(entry.attempts),
                str(len(entry.nodes)),
                *map(seconds, (entry.time.ran_s, entry.median_ran_s, *_lost(entry.time))),
                nbytes(entry.moved_nbytes),
                nbytes(entry.result_nbytes),
                *((str(entry.failed),) if have_failed else ()),
            )
            for entry in self.by_code
        ]
        return (*heads, "moved in", "results", *(("failed",) if have_failed else ())), rows

    def _totals(self) -> str:
        workers = self.timeline.workers
        nodes = {worker.node for worker in workers}
        outcomes = Counter(map(self._view.outcome, self._plan.index_of.values()))
        named = [f"{outcomes[outcome]:,} {outcome}" for outcome in sorted(outcomes) if outcome != "done"]
        sparing = f" ({', '.join(named)})" if named else ""
        return (
            f"{count(len(self), 'function')}{sparing} in {seconds(self.duration_s)} "
            f"on {count(len(nodes), 'node')}, {count(len(workers), 'worker')}"
        )

    def _losses(self) -> str:
        time = self.time
        return (
            f"in sum: ran {seconds(time.ran_s)}; waited for inputs {seconds(time.inputs_s)}, "
            f"for room {seconds(time.resources_s)}, for data {seconds(time.moving_s)}; "
            f"overhead {seconds(time.overhead_s)}; tried again {seconds(time.retries_s)}"
        )

    def _critical_line(self) -> str:
        path = self.critical_path
        names = [escape_name(str_of(function_id)) for function_id in path.function_ids]
        if len(names) > NAMED_STEPS:
            half = NAMED_STEPS // 2
            names = [*names[:half], f"... {len(names) - 2 * half} more ...", *names[-half:]]
        ran = f"of which {seconds(path.time.ran_s)} ran" if names else "nothing ran"
        return f"critical path: {seconds(path.time.all_s)}, {ran}: {' > '.join(names)}".rstrip(": ")

    def _relays(self) -> str:
        return "".join(
            f"\nthe app relayed {nbytes(amount)} from node {escape_name(repr(holder))} to node {escape_name(repr(node))}, "
            "which gets no connection to it"
            for (holder, node), amount in sorted(self._view.relayed.items())
        )

    def _retirements(self) -> str:
        ids = self._plan.ids
        return "".join(
            f"\na worker was retired after {escape_name(repr_of(ids[index]))}: {escape_name(reason)}"
            for index, reason in sorted(self._view.retired.items())
        )

    def _left_out(self) -> str:
        summed = 0 if self._recorded is None else self._recorded.summed
        return f"\n{count(summed, 'earlier function')} in the sums by code alone" if summed else ""

    # --- One by one ---------------------------------------------------------------------------------------------

    def _report(self, index: Index) -> "FunctionReport":
        from handoff_actors.report.function_report import FunctionReport  # noqa: PLC0415 - few reports are read

        view, timeline = self._view, self.timeline
        if not view.is_done(index):
            return self._report_without_result(index)
        has_run = timeline.has(index)
        finished_at = timeline.ended_at[index] if has_run else timeline.received_at(index)
        return FunctionReport(
            function_id=self._plan.ids[index],
            node=timeline.node_of(index),
            worker=view.worker[index],
            attempts=view.tries(index),
            queued_at=timeline.ready_at[index] if has_run else finished_at,
            started_at=timeline.started_at[index] if has_run else finished_at,
            finished_at=finished_at,
            ran_s=view.ran_s[index],
            moved_nbytes=view.moved.get(index, 0),
            result_nbytes=view.result_nbytes(index),
            sent_at=timeline.sent_at[index] if has_run else finished_at,
            time=timeline.breakdown(index) if has_run else NOTHING,
            outcome=view.outcome(index),
            retired=view.retired.get(index, ""),
            parent=view.parent(index),
        )

    def _report_without_result(self, index: Index) -> "FunctionReport":
        from handoff_actors.report.function_report import FunctionReport  # noqa: PLC0415 - as above

        view = self._view
        moments = (view.ready_at[index], view.sent_at[index], view.finished_at[index])
        ready_at, sent_at, ended_at = (max(0.0, moment - self._began_at) for moment in moments)
        has_begun = view.outcome(index) == "failed" and sent_at > 0.0
        return FunctionReport(
            function_id=self._plan.ids[index],
            node=view.node[index] or "",
            worker=0,
            attempts=view.tries(index),
            queued_at=ready_at,
            started_at=max(sent_at, ended_at - view.ran_s[index]) if has_begun else 0.0,
            finished_at=ended_at,
            ran_s=view.ran_s[index] if has_begun else 0.0,
            moved_nbytes=view.moved.get(index, 0),
            result_nbytes=0,
            sent_at=sent_at,
            outcome=view.outcome(index),
            retired=view.retired.get(index, ""),
            parent=view.parent(index),
        )

    def _code_report(self, code: str, group: "_CodeGroup") -> CodeReport:
        # `statistics` imports decimals and fractions, 2 ms that only readers of reports need to pay.
        from statistics import median  # noqa: PLC0415

        view, (done, failed, sums) = self._view, group
        ran_s = [view.ran_s[index] for index in done]
        nodes = set(map(self.timeline.node_of, done)).union(*[each.nodes for each in sums])
        return CodeReport(
            code=code,
            count=len(done) + sum(each.count for each in sums),
            nodes=tuple(sorted(nodes)),
            time=Breakdown.total([*map(self.timeline.breakdown, done), *map(_time_of, sums)]),
            median_ran_s=median(ran_s) if ran_s else 0.0,
            attempts=sum(map(view.tries, (*done, *failed))) + sum(each.attempts for each in sums),
            moved_nbytes=sum(view.moved.get(index, 0) for index in done)
            + sum(each.moved_nbytes for each in sums),
            result_nbytes=sum(map(view.result_nbytes, done)) + sum(each.result_nbytes for each in sums),
            failed=len(failed) + sum(each.failed for each in sums),
            longest_ran_s=max((*ran_s, *[each.longest_ran_s for each in sums]), default=0.0),
        )


class _CodeGroup(NamedTuple):
    """The functions of one code: those that are done, those that have failed, and sums over further ones."""

    done: list[Index]
    failed: list[Index]
    sums: "list[CodeHistory]"


def _time_of(sums: "CodeHistory") -> Breakdown:
    return Breakdown(
        sums.inputs_s, sums.retries_s, sums.resources_s, overhead_s=sums.overhead_s, ran_s=sums.ran_s
    )


def _lost(time: Breakdown) -> tuple[float, float, float]:
    return time.resources_s, time.moving_s, time.overhead_s
