"""Performs the effects of a run's machine: sends to nodes, fetches results, and completes the run for its caller."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from handoff_actors.actors.app.blame import Blame, users_of_package
from handoff_actors.actors.app.encoding import Encoded
from handoff_actors.actors.app.failure_log import log_failures
from handoff_actors.actors.app.journal import Entry
from handoff_actors.actors.app.observer import Observer
from handoff_actors.actors.app.packages import Packages
from handoff_actors.actors.app.parted_results import fetch_whole
from handoff_actors.actors.app.record_keeper import RecordKeeper
from handoff_actors.actors.app.run_errors import RunErrors, as_ours
from handoff_actors.actors.app.run_growth import RunGrowth
from handoff_actors.actors.app.run_host import Buffer, OutputSink, RunHost
from handoff_actors.actors.app.run_records import RunRecords
from handoff_actors.actors.app.splitting import Unsent, split
from handoff_actors.actors.app.stored_fetches import StoredFetches
from handoff_actors.actors.driver import Driver, clock
from handoff_actors.actors.fetcher import FetchFailure
from handoff_actors.core.nodes import NodeUp
from handoff_actors.core.run.events import (
    Cancel,
    FetchResult,
    FindResults,
    FunctionObserved,
    FunctionsEnded,
    FunctionsForgotten,
    FunctionsRefused,
    MessageFromNode,
    NodeJoinObserved,
    NodeLeaveObserved,
    RecordResults,
    RelayObserved,
    Release,
    ResultFetched,
    ResultFetchFailed,
    ResultsTakenOver,
    RunEffect,
    RunEnded,
    RunForgotten,
    SendToNode,
    StartNode,
    TellOfRoom,
    TransferObserved,
)
from handoff_actors.core.run.facts.resumption import NO_FINGERPRINTS, FoundResults, ReusedResult
from handoff_actors.core.run.facts.state import APP, Transfer
from handoff_actors.core.run.grow import RunMachineEvent
from handoff_actors.core.run.machine import RunMachine
from handoff_actors.errors import (
    EnvironmentFailed,
    FunctionCancelled,
    HandoffError,
    SerializationError,
)
from handoff_actors.events import OnEvent
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index, RunId
from handoff_actors.text import repr_of, str_of
from handoff_actors.wire.messages.directions import AboutRun, ToNode
from handoff_actors.wire.messages.runs import Assign, Close, Recalled
from handoff_actors.wire.payload import decode

if TYPE_CHECKING:
    from handoff_actors.core.run.endings.abort import AbortMachine
    from handoff_actors.core.run.explain import Explanation

log = logging.getLogger(__name__)


class RunnerActor:
    """One run."""

    #: Why its results could not be handed to `on_result`.
    _refusal: HandoffError | None = None
    #: True once nodes may drop the stored values.
    is_released = False
    _has_crashed = False
    started_at = 0.0

    def __init__(
        self,
        run: RunId,
        encoded: Encoded,
        machine: RunMachine,
        in_app: Mapping[Index, Buffer],
        host: RunHost,
        on_event: OnEvent | None,
        records: RunRecords,
        on_result: Callable[[FunctionId, Any], object] | None = None,
    ) -> None:
        self.run = run
        self.plan = encoded.program.plan
        self._program = encoded.program
        self._refused = encoded.refused
        #: Values in the app: large constants, packed directories, definitions of modules, and results fetched from nodes.
        self.values: dict[Index, Buffer] = {**encoded.large, **in_app}
        self._packages = Packages(encoded.directories, encoded.definitions, self.values.__setitem__)
        self.machine = machine
        self.view = machine.view
        self.printing: OutputSink | None = None
        self.host = self._host = host
        #: Hears of each change; None: nobody does.
        self.on_event = on_event
        self._observer = None if on_event is None else Observer(self.view, on_event)
        self._on_result = on_result
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[RunEnded] = self._loop.create_future()
        self.errors = RunErrors(self.view)
        self._give_up: dict[Index, Callable[[], None]] = {}
        self._driver: Driver[RunMachineEvent, RunEffect] = Driver(self.machine, self._perform, self._crashed)
        self.growth = RunGrowth(
            self.view, self.values, self._packages, self.errors, self._driver.feed, self._give_up
        )
        self._keeper = RecordKeeper(records, self._program, self._driver.feed)
        #: Wakes the callers that wait for one value.
        self._changed = asyncio.Event()
        #: Set once no node holds anything of the run any more.
        self.forgotten: asyncio.Future[None] = self._loop.create_future()
        self._fetches = StoredFetches(run, self.view, host, self.forgotten)

    async def execute(self, nodes: list[NodeUp], reused: Mapping[Index, ReusedResult]) -> None:
        """Run to the end, except for what is `reused`. Raises what ended it, or CancelledError.

        If the task that awaits this is cancelled, so is the run; that is passed on once every node has confirmed it. A run
        that has ended well just before keeps its values, until `give_up` or `release`.
        """
        self.started_at = clock()
        if self._observer is not None:
            self._observer.began()
        refused, error_of = self._refused, self.errors.encoded
        self._driver.start(lambda now: self.machine.start(now, nodes, reused, refused, error_of))
        try:
            end = await asyncio.shield(self._finished)
        except asyncio.CancelledError:
            self._driver.feed(Cancel())
            await _even_if_cancelled(self._finished)
            raise
        if end.error is not None:
            raise self.errors.take_raised()

    @property
    def is_going_on(self) -> bool:
        """True until the run has ended, well or not."""
        return not self._finished.done()

    @property
    def has_large_values(self) -> bool:
        """True if there are values, in the app or on nodes, that are not inline."""
        return bool(self.values) or self.view.has_stored

    def feed(self, event: RunMachineEvent) -> None:
        """Have the machine handle an event."""
        self._driver.feed(event)

    def message_received(self, name: str, message: AboutRun) -> None:
        """Handle a message from a node about this run."""
        self._driver.feed(MessageFromNode(name, message))
        self._wake_waiters()

    def release(self) -> None:
        """Let go of the stored values, which no one will ask for any more."""
        self.is_released = True
        self._driver.feed(Release())

    def fingerprint(self, index: Index) -> bytes:
        """The fingerprint of a function; b"" in a run without a journal and without cached functions."""
        known = self._program.fingerprints.get(index, NO_FINGERPRINTS)
        return known.cache or known.journal

    def look_up(self, plan: Plan) -> Awaitable[tuple[FoundResults, dict[Index, HandoffError]]]:
        """Look up functions that are about to be added. Also returns those that can't be cached, with the errors."""
        return self._keeper.look_up(plan)

    def expect_cached(self) -> None:
        """Have functions that are added from now on fingerprinted for the cache."""
        self._keeper.expect_cached()

    def give_up(self) -> None:
        """Let go of everything: nobody will have the run. It may have ended, or not even have been started."""
        self._driver.feed(Cancel())
        self._driver.feed(Release())

    async def until_forgotten(self) -> None:
        """Wait until no node holds anything of the run any more, even if cancelled."""
        await _even_if_cancelled(self.forgotten)

    def stop(self) -> None:
        """Cancel the run, if it is still going, because its session ends, and release its values."""
        self._driver.feed(Cancel(HandoffError("the session was closed while the run went on")))
        self._driver.feed(Release())

    def close(self) -> None:
        """End the run at once, since its session has ended."""
        self._abandon(
            HandoffError("the session was closed before all nodes had confirmed the end of the run")
        )
        for give_up in self._give_up.values():
            give_up()
        self._give_up.clear()
        self._fetches.close()

    def explain(self) -> "list[Explanation]":
        """Explain the state of each function that is not done."""
        return self.view.explain()

    async def fetch(self, index: Index) -> Buffer:
        """The encoded value of a function that is done. Raises KeyError where no node has it any more."""
        inline = self.view.inline.get(index)
        if inline is not None:
            return inline
        if index not in self.values:
            self.values[index] = await self._fetches.fetch(index)
        return self.values[index]

    async def result(self, function_id: FunctionId) -> Buffer:
        """The encoded value of a function, once it is done.

        Raises KeyError for an unknown id, or if it can't be had; the function's error if it has failed.
        """
        index = self.plan.index(function_id)
        while not self.view.is_available(index):
            if self.view.has_failed(index):
                raise self.errors.of(index)
            if self._finished.done():
                raise KeyError(
                    f"function {repr_of(function_id)} has no result: its run has ended without one"
                )
            await self._changed.wait()
        return await self.fetch(index)

    def pack(self, index: Index, then: Callable[[], None]) -> bool:
        """Pack a directory for a node that lacks it, then call `then`. Returns False if the value is no directory."""
        return self._packages.pack(index, then, self._not_packed)

    def _not_packed(self, index: Index, reason: str) -> None:
        """End the functions that need a directory or modules which some node lacks, and which can't be sent there."""
        concerned = users_of_package(self.plan, self._program.templates, index)
        nodes = self.view.node
        # First those that are out: one of them has shown it.
        in_order = sorted(concerned, key=lambda user: (nodes[user] is None, user))
        self._driver.feed(
            FunctionsRefused(
                {user: EnvironmentFailed(self.plan.ids[user], nodes[user] or "", reason) for user in in_order}
            )
        )

    def _perform(self, effect: RunEffect) -> None:  # noqa: C901, PLR0912 - one table
        # Each case is a question: first those that every function of an open run brings.
        match effect:
            case SendToNode(name, message):
                self._send(name, message)
            case FunctionsEnded(indices):
                self.growth.ended(indices)
            case FunctionsForgotten():
                self.growth.forgotten(effect)
            case FetchResult(index, nbytes, holders):
                self._fetch_result(index, nbytes, list(holders))
            case (
                FunctionObserved()
                | TransferObserved()
                | RelayObserved()
                | NodeJoinObserved()
                | NodeLeaveObserved()
            ):
                if self._observer is not None:
                    self._observer.observed(effect)
            case FindResults():
                self._keeper.find(effect)
            case ResultsTakenOver(values):
                self.values |= values
            case RecordResults(indices):
                self._record(indices)
            case TellOfRoom():
                self._host.tell_of_room()
            case StartNode():
                self._host.node_wanted()
            case RunEnded():
                self._finish(effect)
            case RunForgotten():
                self._driver.close()
                self._host.forget(self.run)
                self._set_forgotten()
            case _:
                assert_never(effect)

    def _send(self, name: str, message: ToNode) -> None:
        try:
            self._host.send(name, message)
        except SerializationError as error:
            if not isinstance(message, Assign):
                raise
            unsent = Unsent(self.plan, Blame(self.plan))
            self._send_parts(name, message, error, unsent)
            if unsent.refused:
                self._driver.feed(FunctionsRefused(unsent.refused))
            if unsent.separated:
                self._driver.feed(
                    MessageFromNode(name, Recalled(self.run, unsent.separated, is_separated=True))
                )

    def _send_parts(self, name: str, message: Assign, error: SerializationError, unsent: Unsent) -> None:
        """Send a message that is too long in parts, without the functions that no message can hold."""
        parts = split(message)
        if not parts:
            unsent.add(message, error)
        for part in parts:
            # A node rejects jobs whose template it lacks.
            rest = unsent.without(part)
            try:
                if rest.templates or rest.jobs:
                    self._host.send(name, rest)
            except SerializationError as too_long:
                self._send_parts(name, rest, too_long, unsent)

    def _record(self, indices: Sequence[Index]) -> None:
        view, known = self.view, self._program.fingerprints
        entries: list[Entry] = []
        for index in indices:
            value = view.inline.get(index, self.values.get(index))
            nbytes = view.stored_nbytes(index) if value is None else len(value)
            fingerprints = known.get(index, NO_FINGERPRINTS)
            entries.append(Entry(self.plan.ids[index], fingerprints, view.node[index] or "", nbytes, value))
        self._keeper.record(entries)
        if self._on_result is not None:
            self._report_results(entries, self._on_result)

    def _report_results(self, entries: list[Entry], report: Callable[[FunctionId, Any], object]) -> None:
        for entry in entries:
            if entry.value is None:
                continue
            function_id = entry.function_id
            try:
                value = decode(entry.value)
            except SerializationError as error:
                self._fail_soon(
                    SerializationError(f"the result of function {repr_of(function_id)}: {error}", function_id)
                )
                continue
            try:
                report(function_id, value)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - a user's callback raises what it likes
                raised = f"{type(error).__name__}: {str_of(error)}"
                self._fail_soon(
                    HandoffError(
                        f"on_result raised for the result of function {repr_of(function_id)}: {raised}"
                    ),
                    error,
                )

    def _fail_soon(self, error: HandoffError, cause: BaseException | None = None) -> None:
        """End the run, once what is being done now has been; even if that is its end, and it was to end well."""
        error.__cause__ = cause
        if self._refusal is None:
            self._refusal = error
            self._loop.call_soon(self._driver.feed, Cancel(error))

    def _fetch_result(self, index: Index, nbytes: int, holders: list[str]) -> None:
        earlier = self._give_up.pop(index, None)
        if earlier is not None:
            earlier()
        began_at = clock()

        def done(value: Buffer | FetchFailure) -> None:
            was_on_its_way = self._give_up.pop(index, None) is not None
            if isinstance(value, FetchFailure):
                is_unreachable = value.kind == "unreachable"
                self._driver.feed(ResultFetchFailed(index, value.reason, is_unreachable))
            else:
                self.values[index] = value
                # What this process's own node holds is mapped at once.
                transfer = Transfer(index, APP, nbytes, began_at, clock())
                self._driver.feed(ResultFetched(index, transfer if was_on_its_way else None))
                self.growth.arrived(index)

        self._give_up[index] = fetch_whole(self._host, self.view, self.run, index, nbytes, holders, done)

    def _finish(self, end: RunEnded) -> None:
        if not self.errors.load_beside(end.cause, partial(self._finish_now, end)):
            self._finish_now(end)

    def _finish_now(self, end: RunEnded) -> None:
        if not self._finished.done():
            if self._refusal is not None and end.error is None and not end.cancelled:
                end = RunEnded(self._refusal)
            self._finished.set_result(end)
            self._keeper.end()
            # No function will need values of other runs any more: else each run would keep the one before it alive.
            self._program.foreign.clear()
            self._host.run_ended(self.run)
            if self.printing is not None:
                self.printing.end()
            raised = self.errors.raised_for(end)
            if self._observer is not None:
                self._observer.ended(end, raised)
            log_failures(self.run, self.view)
            self.growth.over(
                raised if raised is not None or not end.cancelled else FunctionCancelled(self.plan.dag_id)
            )
        self._wake_waiters()

    def _set_forgotten(self) -> None:
        if not self.forgotten.done():
            self.forgotten.set_result(None)

    def _wake_waiters(self) -> None:
        self._changed.set()
        self._changed.clear()

    def _crashed(self, error: Exception) -> "AbortMachine | None":
        log.error("run %s has failed", self.run, exc_info=error)
        nodes = sorted(self.view.in_flight())
        if not self._has_crashed:
            self._has_crashed = True
            from handoff_actors.core.run.endings.abort import AbortMachine  # noqa: PLC0415 - few runs need it

            return AbortMachine(self.run, as_ours(error), nodes)
        # Not even that could be carried out: nobody waits for what nodes answer.
        self._abandon(as_ours(error))
        self._host.forget(self.run)
        for name in nodes:
            self._host.send(name, Close(self.run))
        return None

    def _abandon(self, error: HandoffError) -> None:
        self._driver.close()
        self._finish(RunEnded(error))
        self._set_forgotten()


async def _even_if_cancelled(future: "asyncio.Future[Any]") -> None:
    """Wait for a future that is sure to be done: claims have to be freed before a cancellation is passed on."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(future)
