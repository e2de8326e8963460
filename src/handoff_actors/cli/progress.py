"""What `handoff run` tells of functions while it runs; how far it is, every run can show."""

import click

from handoff_actors import events
from handoff_actors.escaping import escape_name, escape_text


def tell_failures(event: events.RunEvent) -> None:
    """A line on stderr for each attempt that has to be repeated; what fails for good is told by the error."""
    if isinstance(event, events.Retried | events.Lost):
        click.echo(
            escape_text(
                f"{event.function_id!r} failed on {escape_name(event.node)}, attempt {event.attempt}: {event.reason}"
            ),
            err=True,
        )
