"""The metrics of `handoff node`."""

import errno
from collections.abc import Callable

import click

from handoff_actors.actors.node.actor import NodeActor


def check_that_metrics_can_be_served() -> None:
    """Raise click.UsageError if the extra `prometheus` is not installed."""
    try:
        import handoff_actors.integrations.prometheus  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise click.UsageError(f"--metrics-port: {error}") from error


def start_metrics(node: NodeActor, port: int, host: str) -> tuple[str, Callable[[], None]]:
    """Serve a node's metrics; return the address and a function that ends it.

    Raises click.ClickException if the address can't be used.
    """
    from handoff_actors.integrations.prometheus import serve_metrics  # noqa: PLC0415 - an extra

    try:
        return serve_metrics(node, port, host)
    except OSError as error:
        why = "is in use by another process" if error.errno == errno.EADDRINUSE else f"can't be used: {error}"
        raise click.ClickException(f"--metrics-port: port {port} of {host} {why}") from error
