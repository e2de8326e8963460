"""The options of a daemon's log."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click

from handoff_actors.actors.node.logs.formats import LogFormat
from handoff_actors.actors.node.logs.setup import set_up_log

LEVELS = ("debug", "info", "warning", "error")

_level_option = click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    envvar="HANDOFF_LOG_LEVEL",
    show_envvar=True,
)
_format_option = click.option(
    "--log-format",
    type=click.Choice(get_args(LogFormat)),
    default="text",
    show_default=True,
    envvar="HANDOFF_LOG_FORMAT",
    show_envvar=True,
    help="Format of log lines; json: an object on each line.",
)
_file_option = click.option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="HANDOFF_LOG_FILE",
    show_envvar=True,
    help="Append the log to this file, not to stderr. SIGHUP has the file opened anew, as does its renaming.",
)


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for the log, which is set up before the command."""

    @_level_option
    @_format_option
    @_file_option
    @wraps(command)
    def with_log(
        *args: Any, log_level: str, log_format: LogFormat, log_file: Path | None, **options: Any
    ) -> None:
        try:
            logs = set_up_log(log_level, log_format, log_file)
        except OSError as error:
            raise click.UsageError(f"--log-file: {log_file} can't be written to: {error.strerror}") from error
        try:
            command(*args, **options)
        finally:
            # Before an error is shown, which would wait for a reader that stands still.
            logs.close()

    return with_log
