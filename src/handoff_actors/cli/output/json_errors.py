"""Errors of commands as JSON, for programs."""

import click

from handoff_actors.cli.output.failures import TracedFailure
from handoff_actors.cli.output.json_values import to_json
from handoff_actors.errors import DependencyFailed, FunctionFailed
from handoff_actors.text import str_of


def error_json(error: click.ClickException | KeyboardInterrupt) -> str:
    """Describe the error that ends a command, or the one that is behind it, as an object `error`."""
    return to_json({"error": _fields(error)}, indent=2)


def _fields(error: click.ClickException | KeyboardInterrupt) -> dict[str, object]:
    if isinstance(error, KeyboardInterrupt):
        return {"type": "KeyboardInterrupt", "message": "cancelled"}
    cause = None if isinstance(error, click.UsageError) else error.__cause__
    if cause is None:
        return {"type": type(error).__name__, "message": error.format_message()}
    return error_fields(cause, error.traceback if isinstance(error, TracedFailure) else None)


def error_fields(error: BaseException, traceback: str | None) -> dict[str, object]:
    """Describe an error, and the user's own exception behind it."""
    fields: dict[str, object] = {"type": type(error).__name__, "message": str_of(error)}
    if isinstance(error, FunctionFailed):
        fields |= {"function": str_of(error.function_id), "node": error.node, "attempts": error.attempts}
        if error.__cause__ is not None:
            fields["cause"] = {"type": type(error.__cause__).__name__, "message": str_of(error.__cause__)}
    if isinstance(error, DependencyFailed):
        fields |= {"function": str_of(error.function_id), "failed": str_of(error.failed_id)}
    elif traceback is not None:
        fields["traceback"] = traceback
    return fields
