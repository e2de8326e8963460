"""Messages of `handoff run` about failed attempts; progress itself is shown by every run."""

import click

from handoff_actors import events
from handoff_actors.escaping import escape_name, escape_text


def print_failures(event: events.RunEvent) -> None:
    """Print a line on stderr for each attempt that has to be repeated; the run's error covers final failures."""
    if isinstance(event, events.Retried | events.Lost):
        click.echo(
            escape_text(
                f"{event.function_id!r} failed on {escape_name(event.node)}, attempt {event.attempt}: {event.reason}"
            ),
            err=True,
        )
