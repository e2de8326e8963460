"""Runs and their functions as spans in the app's own trace, which goes on within the functions.

The app makes all spans of ours: one for a run, whose parent is the span that is current when the run is started, and one
for each function, with the time that its worker measured. A worker makes none: there the function's span is current, so
that the user's own spans become its children. Only the run's own context has to be sent for that, because both sides
compute the id of a function's span from the run's and from the function's number.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, Self

from msgspec.structs import replace

from handoff_actors import events
from handoff_actors.actors.driver import clock
from handoff_actors.client import instrumentation
from handoff_actors.graph.plan import Plan
from handoff_actors.ids import FunctionId, Index
from handoff_actors.integrations.continuation import Carrier, Continued, function_span_id, propagator
from handoff_actors.report.naming import code_of
from handoff_actors.report.timeline import WorkerKey, in_order, laid_out
from handoff_actors.text import encodable, str_of
from handoff_actors.wire.versions import VERSION

try:
    from opentelemetry import trace
except ImportError as error:
    from handoff_actors.extras import how_to_install

    raise ImportError(f"spans need the API of OpenTelemetry: {how_to_install('opentelemetry')}") from error

_chosen_id: ContextVar[int | None] = ContextVar("chosen_id", default=None)


def instrument(tracer_provider: trace.TracerProvider | None = None) -> None:
    """Make spans of every run that begins from now on in this process, with a provider or with the global one."""
    instrumentation.watch_with(lambda plan: _TracedRun(plan, tracer_provider or trace.get_tracer_provider()))


def uninstrument() -> None:
    """Make no more spans of runs that begin from now on."""
    instrumentation.watch_with(None)


class _Failure(NamedTuple):
    at_ns: int
    node: str
    attempt: int
    reason: str


class _TracedRun(instrumentation.RunInstrumentation):
    """The spans of one run."""

    def __init__(self, plan: Plan, provider: trace.TracerProvider) -> None:
        super().__init__(plan)
        self._tracer = provider.get_tracer("handoff_actors", VERSION)
        self._may_choose_ids = _let_ids_be_chosen(self._tracer)
        #: The offset of the wall clock from the run's clock.
        self._offset_ns = time.time_ns() - round(clock() * 1e9)
        self._failures: dict[Index, list[_Failure]] = {}
        #: Functions whose ends have been heard in this turn of the loop.
        self._finished: dict[Index, events.RunEvent] = {}
        #: By worker: the end of the last span of a plain function.
        self._free_at: dict[WorkerKey, float] = {}
        self._index_of: dict[FunctionId, Index] = {}
        #: By stage of a stream and number of the worker.
        self._stages: dict[tuple[FunctionId, int], trace.Span] = {}

    async def __aenter__(self) -> Self:
        attributes: dict[str, Any] = {
            "handoff.dag": encodable(str_of(self.plan.dag_id)),
            "handoff.functions": len(self.plan.index_of),
        }
        self._span = self._tracer.start_span("handoff run", attributes=attributes)
        self._context = trace.set_span_in_context(self._span)
        if self._span.get_span_context().is_valid:
            carrier: dict[str, str] = {}
            propagator().inject(carrier, self._context)
            self.plan = _continued(self.plan, carrier, by_function=self._chooses_ids)
            self._index_of = {function_id: index for index, function_id in enumerate(self.plan.ids)}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_: TracebackType | None
    ) -> None:
        self._end_finished()
        for index, failures in self._failures.items():
            self._end_in_failure(index, failures)
        for stage in self._stages.values():
            stage.end()
        if error is not None:
            self._span.record_exception(error)
            self._span.set_status(trace.StatusCode.ERROR, str(error) or type(error).__name__)
        self._span.end()

    def observer(self, on_event: events.OnEvent | None) -> events.OnEvent:
        """See RunInstrumentation."""

        def observe(event: events.RunEvent) -> None:
            self._note(event)
            if on_event is not None:
                on_event(event)

        return observe

    @property
    def _chooses_ids(self) -> bool:
        return self._may_choose_ids and self._span.is_recording()

    def _note(self, event: events.RunEvent) -> None:
        if not self._span.is_recording():
            return
        if isinstance(event, events.StageUp | events.StageDown):
            self._note_stage(event)
            return
        index = self._index_of.get(event.function_id)
        if index is None:
            # It was added to an open run, whose functions have no spans; or the event is about no function.
            return
        if isinstance(event, events.Finished):
            if not self._finished:
                asyncio.get_running_loop().call_soon(self._end_finished)
            self._finished[index] = event
        elif isinstance(event, events.Failed | events.Retried | events.Lost):
            failure = _Failure(self._wall_ns(), event.node, event.attempt, event.reason)
            self._failures.setdefault(index, []).append(failure)

    def _note_stage(self, event: events.StageUp | events.StageDown) -> None:
        """Make a span of the time for which a worker of a stage takes items."""
        key = (event.function_id, event.worker)
        before = self._stages.pop(key, None)
        if before is not None:
            before.set_attribute("handoff.reason", event.reason)
            before.end()
        if isinstance(event, events.StageUp):
            attributes: dict[str, Any] = {
                "handoff.function": encodable(str_of(event.function_id)),
                "handoff.node": event.node,
                "handoff.worker": event.worker,
            }
            name = f"stage {encodable(str_of(event.function_id))}"
            self._stages[key] = self._tracer.start_span(name, self._context, attributes=attributes)

    def _end_finished(self) -> None:
        """End the spans of functions whose ends have been heard together, one after the other on each worker."""
        finished, self._finished = self._finished, {}
        if not finished:
            return
        assert self.runner is not None
        view = self.runner.view
        workers: dict[WorkerKey, list[Index]] = {}
        for index in in_order(view, finished):
            workers.setdefault(WorkerKey(finished[index].node, view.worker[index]), []).append(index)
        for worker, indices in workers.items():
            for index, began_at, ended_at in reversed(list(laid_out(view, indices))):
                # The spans of those heard of before are there already.
                is_async = self.plan.templates[self.plan.template_of[index]].is_async
                free_at = began_at if is_async else max(began_at, self._free_at.get(worker, 0.0))
                self._free_at[worker] = max(free_at, ended_at)
                self._end_well(index, finished[index], free_at, max(free_at, ended_at))

    def _end_well(self, index: Index, event: events.RunEvent, began_at: float, finished_at: float) -> None:
        assert self.runner is not None
        view = self.runner.view
        attributes = {
            **self._attributes(index, event.node, event.attempt),
            "handoff.worker": view.worker[index],
            "handoff.waited_s": max(0.0, began_at - view.ready_at[index]),
            "handoff.moved_bytes": view.moved.get(index, 0),
        }
        with self._function_span(index, began_at, attributes) as span:
            _record_failures(span, self._failures.pop(index, []))
            span.end(self._wall_ns(finished_at))

    def _end_in_failure(self, index: Index, failures: list[_Failure]) -> None:
        assert self.runner is not None
        last = failures[-1]
        view = self.runner.view
        # One that can't be sent was never sent.
        began_at = view.sent_at[index] or view.finished_at[index]
        with self._function_span(index, began_at, self._attributes(index, last.node, last.attempt)) as span:
            _record_failures(span, failures)
            span.set_status(trace.StatusCode.ERROR, last.reason)
            span.end(last.at_ns)

    @contextmanager
    def _function_span(
        self, index: Index, began_at: float, attributes: dict[str, Any]
    ) -> Iterator[trace.Span]:
        run = self._span.get_span_context()
        token = _chosen_id.set(function_span_id(run.span_id, index))
        try:
            yield self._tracer.start_span(
                code_of(self.plan, index),
                self._context,
                attributes=attributes,
                start_time=self._wall_ns(began_at),
            )
        finally:
            _chosen_id.reset(token)

    def _attributes(self, index: Index, node: str, attempt: int) -> dict[str, Any]:
        return {
            "handoff.function": str(self.plan.ids[index]),
            "handoff.node": node,
            "handoff.attempt": attempt,
        }

    def _wall_ns(self, moment: float | None = None) -> int:
        return time.time_ns() if moment is None else self._offset_ns + round(moment * 1e9)


def _record_failures(span: trace.Span, failures: list[_Failure]) -> None:
    for failure in failures:
        attributes: dict[str, Any] = {
            "handoff.node": failure.node,
            "handoff.attempt": failure.attempt,
            "handoff.reason": failure.reason,
        }
        span.add_event("attempt failed", attributes, failure.at_ns)


# --- Plans ------------------------------------------------------------------------------------------------------


def _continued(plan: Plan, carrier: Carrier, *, by_function: bool) -> Plan:
    """Return the plan with functions that continue the trace that they belong to."""
    templates = list(plan.templates)
    numbers: dict[int, int] = {}
    codes: dict[tuple[int, bool], Continued] = {}
    for number in dict.fromkeys(plan.template_of):
        spec = plan.templates[number]
        # One object per code, so that it is encoded once.
        key = (id(spec.code), spec.as_list)
        code = codes[key] = codes.get(key) or Continued(spec.code, as_list=spec.as_list)
        # Inline functions may share the template, and are called without a carrier.
        numbers[number] = len(templates)
        placed_from = None if spec.placed_from is None else spec.placed_from + 2
        templates.append(replace(spec, code=code, placed_from=placed_from))
    values = [*plan.values, carrier, *(range(plan.size) if by_function else [None])]
    first = len(plan.values)
    args = [
        (~first, ~(first + 1 + (index if by_function else 0)), *specs)
        for index, specs in enumerate(plan.args)
    ]
    template_of = [numbers[number] for number in plan.template_of]
    return replace(plan, templates=templates, template_of=template_of, values=values, args=args)


# --- Ids --------------------------------------------------------------------------------------------------------


class _ChosenIds:
    """The id generator of a tracer, except for spans whose ids have been chosen."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual

    def __getattr__(self, name: str) -> Any:
        return getattr(self._usual, name)

    def generate_span_id(self) -> int:
        chosen = _chosen_id.get()
        return int(self._usual.generate_span_id()) if chosen is None else chosen


def _let_ids_be_chosen(tracer: Any) -> bool:
    """Replace a tracer's id generator; False if the tracer is not the SDK's, as the API does not control ids.

    The tracer is ours alone, so it may be changed.
    """
    usual = getattr(tracer, "id_generator", None)
    if usual is not None and not isinstance(usual, _ChosenIds):
        tracer.id_generator = _ChosenIds(usual)
    return usual is not None
