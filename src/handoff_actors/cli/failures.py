"""The end of a command that can't do its work: one line on stderr and exit status 1."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from handoff_actors.errors import HandoffError, reason_of
from handoff_actors.escaping import escape_text


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn expected errors into one line and exit status 1. Bugs of ours keep their traceback."""
    try:
        yield
    except HandoffError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(escape_text(reason_of(error))) from error
