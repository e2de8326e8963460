"""The runs of one session: begins them, passes on what nodes say, and finds them again by DAG id."""

import asyncio
import secrets
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from msgspec.structs import replace

from handoff_actors.actors.app.blame import Blame, PlanPart
from handoff_actors.actors.app.encoding import Encoded, EncodingOptions, encode_program
from handoff_actors.actors.app.foreign_arguments import ForeignArgument
from handoff_actors.actors.app.listening import Listening
from handoff_actors.actors.app.run_host import RunHost
from handoff_actors.actors.app.run_records import records_of
from handoff_actors.actors.app.runner import RunnerActor
from handoff_actors.actors.driver import clock
from handoff_actors.actors.node.actor import INLINE_LIMIT
from handoff_actors.actors.offload import offload
from handoff_actors.client import instrumentation
from handoff_actors.client.event_callbacks import EventCallback, EventObserver
from handoff_actors.client.growing.going_run import GoingRun
from handoff_actors.client.nested_wait import FunctionWait
from handoff_actors.client.options import RunSettings, calling_function
from handoff_actors.client.run import Run
from handoff_actors.core.nodes import NodeDown, NodeUp
from handoff_actors.core.run.events import RoomFreed
from handoff_actors.core.run.facts.resumption import FoundResults
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.core.run.options import RunOptions
from handoff_actors.core.run.scheduling.backlog import backlogs
from handoff_actors.core.run.scheduling.durations import Durations
from handoff_actors.core.run.scheduling.session_load import SessionLoad
from handoff_actors.display.options import DisplayOptions
from handoff_actors.display.run_display import RunDisplay
from handoff_actors.errors import HandoffError, ValueLost
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index, RunId
from handoff_actors.text import repr_of
from handoff_actors.wire.messages.members import Advert, Backlog, RunProgress
from handoff_actors.wire.messages.runs import Output
from handoff_actors.wire.payload import decode

if TYPE_CHECKING:
    from handoff_actors.core.run.explain import Explanation
    from handoff_actors.core.stream.view import StreamView
    from handoff_actors.wire.messages.stages import StageInputLost, StageOutput


#: Encodes the plan of functions that are added to a run, and finds out which of them need not run.
EncodePart = Callable[[RunnerActor, Plan], Coroutine[Any, Any, tuple[Encoded, FoundResults]]]
Began = Callable[[RunnerActor, EncodePart], None]

#: Runs of which nodes are told the progress, with each beat.
MOST_RUNS_TOLD = 100


class Cluster(RunHost, Protocol):
    """The nodes, as far as runs use them."""

    def ups(self) -> list[NodeUp]:
        """Every node that can be used now, by name."""

    def adverts(self) -> list[Advert]:
        """The latest advert of each of them, by name."""

    @property
    def may_start_node(self) -> bool:
        """True if a run that would wait for ever may have a node in this process."""

    def is_elsewhere(self, nodes: Collection[str] | None) -> bool:
        """True if a run may use nodes of other processes; `nodes`: the only ones that it may use."""

    @property
    def closings(self) -> int:
        """The number of times that the session has been closed."""

    def check_not_closed_since(self, closings: int) -> None:
        """Raise HandoffError if the session has been closed since `closings` was read."""


class RunRegistry:
    """The runs that are going on, and finished ones that are still referred to."""

    def __init__(
        self, cluster: Cluster, seen: DisplayOptions, modules_by_value: Sequence[ModuleType]
    ) -> None:
        self._cluster = cluster
        self._seen = seen
        self._modules_by_value = tuple(modules_by_value)
        #: Runs of which some node may still hold something.
        self._runs: dict[RunId, RunnerActor] = {}
        #: Runs that anybody still refers to, in the order of their start.
        self._known: WeakValueDictionary[RunId, RunnerActor] = WeakValueDictionary()
        #: Names of the nodes that a run may use; None: all.
        self._allowed: dict[RunId, Collection[str] | None] = {}
        #: Runs that may not use every node.
        self._limited: set[RunId] = set()
        #: Code by value has its globals in common within a session.
        self._session = secrets.token_hex(8)
        #: Names of the app's own modules that values of the session may refer to.
        self.own_modules: set[str] = set()
        #: Gets what stages of a run say, with the name of their node.
        self.stage_listeners: dict[RunId, Callable[[str, StageOutput | StageInputLost], None]] = {}
        self._durations = Durations()
        self._load = _new_load()
        self._will_tell_of_room = False
        #: Hear of nodes that drain or are gone.
        self._node_listeners: dict[RunId, Callable[[NodeUp | NodeDown], None]] = {}
        self._streams: dict[RunId, StreamView] = {}

    async def execute(
        self, plan: Plan, settings: RunSettings, *, nodes_may_join: bool, began: Began | None = None
    ) -> Run:
        """Run a plan to its end. Raises the error that ended it, once no node has anything of it any more.

        With `began`, which is called as soon as the run goes on, functions may be added to it.
        """
        run = RunId(secrets.randbits(62))
        self._find_foreign_values(plan)
        async with AsyncExitStack() as on_failure:
            # The run may have ended well by then: no one else would let go of its values.
            on_failure.push_async_exit(partial(self._give_up, run))
            try:
                runner = await self._execute(run, plan, settings, began, nodes_may_join=nodes_may_join)
            except HandoffError as error:
                failed = self._known.get(run)
                if failed is not None:
                    error.run = Run(failed)
                    on_failure.pop_all()
                raise
            on_failure.pop_all()
        return Run(runner)

    async def open(self, dag_id: FunctionId, settings: RunSettings, *, nodes_may_join: bool) -> GoingRun:
        """Begin a run to which functions may be added, and that goes on until it is told that nothing more comes."""
        begun: asyncio.Future[GoingRun] = asyncio.get_running_loop().create_future()
        plan = Plan.empty(dag_id)
        wait = FunctionWait(calling_function(), is_elsewhere=self._cluster.is_elsewhere(settings.nodes))

        def began(runner: RunnerActor, encode: EncodePart) -> None:
            if not begun.done():
                begun.set_result(GoingRun(runner, partial(encode, runner), task, wait))

        execution = self.execute(plan, settings, nodes_may_join=nodes_may_join, began=began)
        task = asyncio.create_task(execution, name="open run")
        # If it ends before it has begun, there is an error.
        task.add_done_callback(lambda _: begun.cancel())
        try:
            return await begun
        except asyncio.CancelledError:
            if task.done():
                task.result()
            task.cancel()
            raise

    async def _give_up(self, run: RunId, kind: type[BaseException] | None, *_: object) -> None:
        runner = self._runs.get(run)
        if runner is None:
            return
        runner.give_up()
        # A coroutine that is being closed can't wait.
        if kind is not GeneratorExit:
            await runner.until_forgotten()

    async def _execute(
        self, run: RunId, plan: Plan, settings: RunSettings, began: Began | None, *, nodes_may_join: bool
    ) -> RunnerActor:
        closings = self._cluster.closings
        plan, seen = settings.surrounded(plan), settings.seen(self._seen)
        observe = seen.on_event is not None or instrumentation.is_on()
        may_join, is_open = nodes_may_join, began is not None
        options = self._options(settings, plan, observe=observe, nodes_may_join=may_join, is_open=is_open)
        encoding = self._encoding(settings, seen.listening(is_observed=observe))
        callback = nullcontext() if seen.on_event is None else EventCallback(seen.on_event, plan.dag_id)
        recording = records_of(settings.journal, INLINE_LIMIT, is_open=is_open)
        async with callback as notify, instrumentation.watch(plan) as watch, recording as records:
            found = await records.begin(plan, options.wanted)
            listening = replace(encoding.listening, digests=records.has_journal)
            encoding = replace(encoding, listening=listening)
            may_refuse = settings.on_failure == "continue"
            encoded = await encode_program(watch.plan, encoding, may_refuse=may_refuse)
            self.own_modules |= encoded.own_modules
            encoded.program.fingerprints.update(enumerate(found.fingerprints))
            watching = watch.observer(notify)
            on_event = None if watching is None else EventObserver(watching, plan.dag_id)
            machine = await offload(
                plan.size, partial(RunMachine.prepared, run, encoded.program, options, clock())
            )
            # From here on the run is known to the one that closes the session.
            self._cluster.check_not_closed_since(closings)
            runner = RunnerActor(
                run, encoded, machine, found.in_app, self._cluster, on_event, records, settings.on_result
            )
            watch.runner = self._runs[run] = self._known[run] = runner
            usable = self._usable(run, options)
            shown = RunDisplay(runner, seen, on_event, self._cluster.adverts, reused=len(found.reused))
            if began is not None:
                # Once the runner has started, which takes no turn of the loop.
                encode = partial(self._encode_part, settings=settings, encoding=encoding)
                asyncio.get_running_loop().call_soon(began, runner, encode)
            async with shown, self._wait(options):
                await runner.execute(usable, found.reused)
            return runner

    def _options(
        self, settings: RunSettings, plan: Plan, *, observe: bool, nodes_may_join: bool, is_open: bool
    ) -> RunOptions:
        options = settings.options(
            plan, self._durations, self._load, observe=observe, nodes_may_join=nodes_may_join
        )
        return replace(options, may_start_node=self._cluster.may_start_node, is_open=is_open)

    def _encoding(self, settings: RunSettings, listening: Listening) -> EncodingOptions:
        return EncodingOptions(
            INLINE_LIMIT,
            listening,
            self.by_value(settings),
            self._session,
            settings.retry_on,
            self.own_modules,
        )

    def by_value(self, settings: RunSettings) -> tuple[ModuleType, ...]:
        """The modules whose code is sent along with a run. Raises ImportError, TypeError."""
        return (*settings.modules(), *self._modules_by_value)

    async def _encode_part(
        self, runner: RunnerActor, plan: Plan, *, settings: RunSettings, encoding: EncodingOptions
    ) -> tuple[Encoded, FoundResults]:
        """Encode functions that are added, and look them up. What can't be encoded is refused, and ends nothing else."""
        refused = self._find_foreign_values(plan, may_refuse=True)
        plan = settings.surrounded(plan)
        found, not_cached = await runner.look_up(plan)
        encoded = await encode_program(plan, encoding, runner.growth.encoded_so_far, may_refuse=True)
        self.own_modules |= encoded.own_modules
        encoded.refused.update(not_cached | refused)
        return encoded, found

    def _wait(self, options: RunOptions) -> FunctionWait:
        """The wait of the function that has begun a run. For an open run, `OpenRun` says when."""
        is_elsewhere = self._cluster.is_elsewhere(options.nodes)
        return FunctionWait(None if options.is_open else options.parent, is_elsewhere=is_elsewhere)

    def _find_foreign_values(self, plan: Plan, *, may_refuse: bool = False) -> dict[Index, HandoffError]:
        """Take values of other runs into a plan, before anything else is done. Raises ValueLost and TypeError.

        With `may_refuse` none raises, and the functions concerned are returned with their errors. The plan no longer refers to
        the arguments themselves, else each run would keep the one before it alive.
        """
        refused: dict[Index, HandoffError] = {}
        for number, value in enumerate(plan.values):
            if isinstance(value, ForeignArgument):
                try:
                    plan.values[number] = value.find(self._cluster)
                except (ValueLost, TypeError) as error:
                    if not may_refuse:
                        raise
                    plan.values[number] = None
                    ours = error if isinstance(error, ValueLost) else HandoffError(str(error))
                    refused |= dict.fromkeys(Blame(plan).users(PlanPart.VALUE, number), ours)
        return refused

    def _usable(self, run: RunId, options: RunOptions) -> list[NodeUp]:
        if options.nodes is not None:
            self._limited.add(run)
        # A nested run needs to know of all nodes, and knows which ones it may use.
        allowed = self._allowed[run] = None if options.parent is not None else options.nodes
        return [up for up in self._cluster.ups() if allowed is None or up.name in allowed]

    @property
    def shows_progress(self) -> bool | None:
        """The default of the option `progress`."""
        return self._seen.progress

    def get(self, run: RunId) -> RunnerActor | None:
        """A run that is going on; None for any other."""
        return self._runs.get(run)

    def add_stream(
        self,
        run: RunId,
        stage_said: "Callable[[str, StageOutput | StageInputLost], None]",
        node_event: Callable[[NodeUp | NodeDown], None],
        view: "StreamView",
    ) -> None:
        """Have a stream hear what the functions of its run say, and which nodes drain or are gone. `view` is for monitors."""
        self._streams[run] = view
        self.stage_listeners[run] = stage_said
        self._node_listeners[run] = node_event

    def remove_stream(self, run: RunId) -> None:
        """Undo `add_stream`."""
        self.stage_listeners.pop(run, None)
        self._node_listeners.pop(run, None)
        self._streams.pop(run, None)

    def said(self, name: str, output: Output) -> None:
        """Pass on lines that functions on a node have printed or logged."""
        runner = self._runs.get(output.run)
        if runner is not None and runner.printing is not None:
            runner.printing.output_received(name, output.said)

    def all(self) -> list[RunnerActor]:
        """All runs of which some node may still hold something."""
        return list(self._runs.values())

    def going_on(self) -> list[RunnerActor]:
        """All runs that have not ended yet."""
        return [runner for runner in self._runs.values() if runner.is_going_on]

    async def result(self, dag_id: FunctionId, function_id: FunctionId, within_s: float) -> Any:
        """The value of a function of the latest run of a DAG. Raises KeyError, and TimeoutError after `within_s` seconds."""
        runners = [runner for runner in self._known.values() if runner.plan.dag_id == dag_id]
        if not runners:
            raise KeyError(
                f"no run of DAG {repr_of(dag_id)} is going on, or is referred to by its Run object"
            )
        async with asyncio.timeout(within_s):
            return decode(await runners[-1].result(function_id))

    def explain(self, dag_id: FunctionId) -> "list[Explanation]":
        """Why each function that is not done is where it is, over all runs of a DAG."""
        return [
            entry
            for runner in self._runs.values()
            if runner.plan.dag_id == dag_id
            for entry in runner.explain()
        ]

    def progress(self) -> list[RunProgress]:
        """Tell how far the runs are, those that go on first, and no more of them than a message should carry."""
        runners = sorted(self._runs.values(), key=lambda runner: runner.view.remaining == 0)
        return [self._progress_of(runner) for runner in runners[:MOST_RUNS_TOLD]]

    def _progress_of(self, runner: RunnerActor) -> RunProgress:
        progress, stream = runner.view.progress(runner.run), self._streams.get(runner.run)
        return progress if stream is None else replace(progress, stages=stream.progress())

    def backlogs(self) -> list[Backlog]:
        """Tell what waits for nodes with room, for nodes that can start others."""
        ready = (
            entry
            for run, runner in self._runs.items()
            # A run that may only use certain nodes has no use for another.
            if runner.is_going_on and run not in self._limited
            for entry in runner.view.waiting()
        )
        return backlogs(ready, self._load)

    def forget(self, run: RunId) -> None:
        """Drop a run of which no node holds anything any more."""
        self._load.forget(run)
        self._runs.pop(run, None)
        self._allowed.pop(run, None)
        self._limited.discard(run)

    def close(self) -> None:
        """End all runs at once, since their session has ended."""
        for runner in self.all():
            runner.close()
        self._runs.clear()
        self._allowed.clear()
        self._limited.clear()
        self._load = _new_load()

    def node_event(self, event: NodeUp | NodeDown) -> None:
        """Tell the runs that may use a node that it is up or down; a mere change of load, only those for which it may mean room."""
        if self._load.take(event):
            for run, runner in list(self._runs.items()):
                allowed = self._allowed.get(run)
                if allowed is None or event.name in allowed:
                    runner.feed(event)
        if isinstance(event, NodeDown) or event.leaving:
            # Their runs have begun to start other workers.
            for listener in list(self._node_listeners.values()):
                listener(event)
        self.tell_of_room()

    def tell_of_room(self) -> None:
        """Have the runs place again for which there may be room now, soon."""
        if not self._will_tell_of_room:
            self._will_tell_of_room = True
            asyncio.get_running_loop().call_soon(self._tell_of_room)

    def _tell_of_room(self) -> None:
        self._will_tell_of_room = False
        for run in self._load.runs_to_tell():
            runner = self._runs.get(run)
            if runner is not None:
                runner.feed(RoomFreed())


def _new_load() -> SessionLoad:
    return SessionLoad(salt=secrets.token_hex(4))
