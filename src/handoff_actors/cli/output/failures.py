"""The end of a command that can't do its work: one line on stderr and exit status 1."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from handoff_actors.errors import HandoffError, InvalidAddressError, RemoteTraceback, reason_of
from handoff_actors.escaping import escape_text


class TracedFailure(click.ClickException):
    """A failure that is shown with the traceback of the user's code."""

    def __init__(self, message: str, traceback: str | None) -> None:
        super().__init__(message)
        #: As Python prints it; None where there is none.
        self.traceback = traceback

    def show(self, file: IO[Any] | None = None) -> None:
        """See click.ClickException."""
        super().show(file)
        if self.traceback is not None:
            click.echo(escape_text(self.traceback.rstrip()), file=file, err=file is None)


def remote_traceback(error: BaseException) -> str | None:
    """The traceback on a node, if the error was raised there."""
    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, RemoteTraceback):
            return cause.text
        cause = cause.__cause__
    return None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn expected errors into one line and exit status 1. Bugs of ours keep their traceback."""
    try:
        yield
    except InvalidAddressError as error:
        # Only an option can have brought it.
        raise click.UsageError(str(error)) from error
    except HandoffError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(escape_text(reason_of(error))) from error
