"""The continuation of a trace within a function. Workers import this half, with or without OpenTelemetry there."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator

#: Headers such as traceparent, of the run's own span.
Carrier = Mapping[str, str]


def function_span_id(run_span_id: int, index: int) -> int:
    """Compute the id of a function's span, in the app and in the worker alike, without a message between them."""
    digest = blake2b(index.to_bytes(8), digest_size=8, key=run_span_id.to_bytes(8)).digest()
    return int.from_bytes(digest) or 1


class Continued:
    """A function that is called within the trace of its run.

    The first two arguments, or the first two in its list, are the carrier and the function's index; without an index the
    function is called within the run's span.
    """

    def __init__(self, code: Callable[..., Any], *, as_list: bool) -> None:
        #: The user's own code.
        self.__wrapped__ = code
        self._as_list = as_list

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function with the remaining arguments."""
        if self._as_list:
            (carrier, index, *values), *extra = args
            args = (values, *extra)
        else:
            carrier, index, *rest = args
            args = tuple(rest)
        within = _within(tuple(sorted(carrier.items())), index)
        with within():
            result = self.__wrapped__(*args, **kwargs)
        return _finish(result, within) if hasattr(type(result), "__await__") else result


async def _finish(result: Awaitable[Any], within: "Callable[[], AbstractContextManager[Any]]") -> Any:
    with within():
        return await result


def _within(
    carrier: tuple[tuple[str, str], ...], index: int | None
) -> "Callable[[], AbstractContextManager[Any]]":
    try:
        from opentelemetry import trace  # noqa: PLC0415, F401 - the worker may not have it
    except ImportError:
        return nullcontext
    context = _context_of(carrier)
    return lambda: _Attached(_at_function(context, index))


@lru_cache(maxsize=64)
def _context_of(carrier: tuple[tuple[str, str], ...]) -> "Context":
    return propagator().extract(dict(carrier))


def propagator() -> "TextMapPropagator":
    """Return the propagator of W3C trace context and baggage, independent of either side's configuration."""
    from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415
    from opentelemetry.propagators.composite import CompositePropagator  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


def _at_function(context: "Context", index: int | None) -> "Context":
    from opentelemetry import trace  # noqa: PLC0415

    run = trace.get_current_span(context).get_span_context()
    if index is None or not run.is_valid:
        return context
    span_id = function_span_id(run.span_id, index)
    own = trace.SpanContext(run.trace_id, span_id, True, run.trace_flags, run.trace_state)
    return trace.set_span_in_context(trace.NonRecordingSpan(own), context)


class _Attached:
    """Makes a context the current one, within `with`."""

    def __init__(self, context: "Context") -> None:
        self._context = context

    def __enter__(self) -> None:
        from opentelemetry.context import attach  # noqa: PLC0415

        self._token = attach(self._context)

    def __exit__(self, *_: object) -> None:
        from opentelemetry.context import detach  # noqa: PLC0415

        detach(self._token)
