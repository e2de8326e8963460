"""Functions that run on daemons whose PYTHONPATH has this directory's parent."""

import asyncio
import os
import signal
from pathlib import Path

from opentelemetry import baggage
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id


def fail(*_: object) -> None:
    raise ValueError("as it should")


def die_once(marker: str) -> None:
    """Takes its worker with it, the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def span_within(*_: object) -> tuple[str, str]:
    """Trace and parent of a span that this function makes, in hexadecimal."""
    return _own_span()


async def span_within_coroutine(*_: object) -> tuple[str, str]:
    await asyncio.sleep(0)
    return _own_span()


def _own_span() -> tuple[str, str]:
    # A provider of the worker's own, as a user would have it.
    with TracerProvider().get_tracer("user").start_as_current_span("within") as span:
        assert isinstance(span, ReadableSpan)
        assert span.parent is not None
        return format_trace_id(span.context.trace_id), format_span_id(span.parent.span_id)


def baggage_of(*_: object) -> object:
    return baggage.get_baggage("tenant")


def fail_once(marker: str) -> tuple[str, str]:
    """Raises ValueError the first time that it is called with a path."""
    if not Path(marker).exists():
        Path(marker).touch()
        raise ValueError("not the first time")
    return _own_span()


def add(*numbers: int) -> int:
    return sum(numbers)


def total(numbers: list[int], more: int = 0) -> int:
    return sum(numbers) + more


def wrap(value: int, _source: str, _target: str) -> tuple[int]:
    return (value,)


def unwrap(value: tuple[int], _source: str, _target: str) -> int:
    return value[0]
