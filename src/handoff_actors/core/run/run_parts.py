"""The parts that a run is made of, put together."""

from functools import partial
from typing import TYPE_CHECKING

from handoff_actors.core.run.attempt_ends import AttemptEnds
from handoff_actors.core.run.endings.completion import Completion
from handoff_actors.core.run.endings.drain import Drain
from handoff_actors.core.run.endings.failures import Failures
from handoff_actors.core.run.endings.recovery import Recovery
from handoff_actors.core.run.endings.retries import Retries
from handoff_actors.core.run.facts.history import History
from handoff_actors.core.run.facts.origins import Origins
from handoff_actors.core.run.facts.state import RunState
from handoff_actors.core.run.facts.story import StoryLog
from handoff_actors.core.run.growing.expanding import Expanding
from handoff_actors.core.run.growing.growing_program import GrowingProgram
from handoff_actors.core.run.growing.growth import Growth, GrowthBooks
from handoff_actors.core.run.growing.growth_bound import GrowthBound
from handoff_actors.core.run.growing.retention import Retention
from handoff_actors.core.run.nested_run import NestedRun
from handoff_actors.core.run.observing import Observing
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.recording import Recording
from handoff_actors.core.run.result_fetch import ResultFetch
from handoff_actors.core.run.scheduling.feasibility import Feasibility
from handoff_actors.core.run.scheduling.program import Program
from handoff_actors.core.run.scheduling.scheduler import Scheduler
from handoff_actors.core.run.scheduling.work_stealing import WorkStealing
from handoff_actors.core.run.take_over import TakeOver
from handoff_actors.ids import Index, RunId

if TYPE_CHECKING:
    from handoff_actors.core.run.facts.part import ProgramPart


class RunParts:
    """The parts of one run. Each decides one thing, and none knows of the machine."""

    def __init__(self, run: RunId, program: Program, options: RunOptions) -> None:
        plan = self._plan = program.plan
        self._run = run
        self._part_of: dict[Index, ProgramPart] = {}
        self._origins = Origins(plan, self._part_of)
        self.state = RunState(plan)
        self.state.foreign = program.foreign
        self.scheduler = Scheduler(
            run, program, self.state, options.policy, options.load, options.max_concurrency, options.parent
        )
        self.scheduler.assume(options.durations)
        self.work_stealing = WorkStealing(run, self.scheduler, self.state)
        self.retries = Retries(plan, options.max_retries, options.backoff, options.retry_on)
        self.feasibility = Feasibility(
            plan,
            self.scheduler.needs,
            self.scheduler.time_left,
            self.state,
            self._origins,
            options.allocation_timeout_s,
            nodes_may_join=options.nodes_may_join,
        )
        self.result_fetch = ResultFetch(options.wanted, self.state)
        self.completion = Completion(run)
        self.stories = StoryLog(plan, self.state, self._origins)
        self.history = History(plan, self.state)
        self.observing = Observing(self.state, is_on=options.observe)
        self.recording = Recording(plan, self.state, self.result_fetch, is_on=options.is_journaled)
        self.take_over = TakeOver(program, self.state, self.result_fetch, self.observing, self.recording)
        self.recovery = self._make_recovery()
        self.drain = Drain(
            run, self.scheduler, self.recovery, self.result_fetch, self.completion, self.stories
        )
        self.failures = self._make_failures(end_run=options.on_failure == "stop")
        self.growth = self._make_growth(program, options)
        self.ends = self._make_ends()
        self.nested = NestedRun(run, plan, self.scheduler, options)

    def _make_recovery(self) -> Recovery:
        return Recovery(
            self._plan,
            self.state,
            self.scheduler,
            self.feasibility,
            self.result_fetch,
            self.stories,
            self.observing,
            self.recording,
        )

    def _make_failures(self, *, end_run: bool) -> Failures:
        return Failures(
            self._plan,
            self.state,
            self.retries,
            self.recovery,
            self.drain,
            self.result_fetch,
            self.completion,
            self.stories,
            self.observing,
            self._origins,
            end_run=end_run,
        )

    def _make_growth(self, program: Program, options: RunOptions) -> Growth:
        return Growth(
            self._run,
            self._plan,
            self.state,
            self.scheduler,
            self.feasibility,
            self.retries,
            self.recovery,
            self.drain,
            self.failures,
            self.result_fetch,
            self.completion,
            self.take_over,
            self.recording,
            # Not a method: growth would hold these parts, which hold it, until the garbage collector comes by.
            partial(
                _books,
                program,
                options,
                self._part_of,
                self.state,
                self.scheduler,
                self.feasibility,
                self.retries,
                self.recovery,
                self.failures,
                self.stories,
                self.observing,
                self.history,
                self.recording,
                self.take_over,
            ),
            is_open=options.is_open,
        )

    def _make_ends(self) -> AttemptEnds:
        return AttemptEnds(
            self._plan,
            self.state,
            self.scheduler,
            self.growth,
            self.recovery,
            self.drain,
            self.result_fetch,
            self.stories,
            self.observing,
            self.recording,
        )


def _books(
    program: Program,
    options: RunOptions,
    part_of: "dict[Index, ProgramPart]",
    state: RunState,
    scheduler: Scheduler,
    feasibility: Feasibility,
    retries: Retries,
    recovery: Recovery,
    failures: Failures,
    stories: StoryLog,
    observing: Observing,
    history: History,
    recording: Recording,
    take_over: TakeOver,
) -> GrowthBooks:
    growing, retention = GrowingProgram(program, part_of), Retention(program.plan, state)
    expanding = Expanding(
        program,
        growing,
        state,
        scheduler,
        feasibility,
        retries,
        recovery,
        failures,
        retention,
        stories,
        observing,
        history,
        recording,
        take_over,
        GrowthBound(options.max_functions, is_open=options.is_open),
    )
    return GrowthBooks(growing, retention, expanding, history)
