"""Errors of commands as JSON, for programs."""

import click

from handoff_actors.cli.failures import TracedFailure
from handoff_actors.cli.json_values import to_json
from handoff_actors.errors import FunctionFailed
from handoff_actors.text import str_of


def error_json(error: click.ClickException | KeyboardInterrupt) -> str:
    """Describe the error that ends a command, or the one that is behind it, as an object `error`."""
    return to_json({"error": _facts(error)}, indent=2)


def _facts(error: click.ClickException | KeyboardInterrupt) -> dict[str, object]:
    if isinstance(error, KeyboardInterrupt):
        return {"type": "KeyboardInterrupt", "message": "cancelled"}
    cause = None if isinstance(error, click.UsageError) else error.__cause__
    facts: dict[str, object] = {
        "type": type(cause or error).__name__,
        "message": error.format_message() if cause is None else str_of(cause),
    }
    if isinstance(cause, FunctionFailed):
        facts |= {"function": str_of(cause.function_id), "node": cause.node, "attempts": cause.attempts}
        if cause.__cause__ is not None:
            facts["cause"] = {"type": type(cause.__cause__).__name__, "message": str_of(cause.__cause__)}
    if isinstance(error, TracedFailure) and error.traceback is not None:
        facts["traceback"] = error.traceback
    return facts
