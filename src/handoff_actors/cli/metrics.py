"""The metrics of `handoff node`."""

import errno
from collections.abc import Callable

import click

from handoff_actors.actors.node.actor import NodeActor


def check_that_metrics_can_be_served() -> None:
    """Raise click.UsageError where the extra is missing."""
    try:
        import handoff_actors.integrations.prometheus  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise click.UsageError(f"--metrics-port: {error}") from error


def start_metrics(node: NodeActor, port: int, host: str) -> tuple[str, Callable[[], None]]:
    """Serve them; the answer is where, and what ends it. Raises click.ClickException where the address can't be had."""
    from handoff_actors.integrations.prometheus import serve_metrics  # noqa: PLC0415 - an extra

    try:
        return serve_metrics(node, port, host)
    except OSError as error:
        why = "is in use by another process" if error.errno == errno.EADDRINUSE else f"can't be had: {error}"
        raise click.ClickException(f"--metrics-port: port {port} of {host} {why}") from error
