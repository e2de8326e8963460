"""The errors that a run's caller sees, made from nodes' messages about failed attempts."""

from handoff_actors.core.run.story import Story
from handoff_actors.errors import (
    EnvironmentFailed,
    FunctionFailed,
    HandoffError,
    SerializationError,
    WorkerDied,
)
from handoff_actors.ids import FunctionId
from handoff_actors.text import repr_of
from handoff_actors.wire.messages.runs import Failed

MEGABYTE = 1e6


def could_not_run(failed: Failed, function_id: FunctionId, node: str) -> HandoffError:
    """The error for a function that would fail again wherever it is tried."""
    if failed.kind == "environment":
        return EnvironmentFailed(function_id, node, failed.reason)
    return SerializationError(
        f"function {repr_of(function_id)} on node {node!r}: {failed.reason}", function_id
    )


def function_failed(
    failed: Failed, function_id: FunctionId, node: str, attempts: int, story: Story | None = None
) -> FunctionFailed:
    """Make the error for a function that has failed too often."""
    traces = failed.traces
    error_type = WorkerDied if failed.kind == "worker" else FunctionFailed
    error = error_type(
        function_id,
        node,
        attempts,
        failed.reason,
        failed.signal,
        failed.exit_code,
        kind=failed.kind,
        peak_memory_mb=traces.peak_nbytes / MEGABYTE if traces.peak_nbytes else None,
        memory_was_short=traces.memory_was_short,
        printed=traces.printed,
    )
    if story is not None:
        error.set_story(story)
    if failed.kind == "timeout":
        error.__cause__ = TimeoutError(failed.reason)
    return error
