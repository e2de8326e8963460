"""The pages of `handoff node`: probes and metrics."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from wsgiref.types import WSGIApplication

import click

from handoff_actors.actors.node.actor import NodeActor

log = logging.getLogger(__name__)


@contextmanager
def serving_pages(node: NodeActor, port: int, host: str) -> Iterator[tuple[str, bool]]:
    """Serve a node's pages on the running loop; give their address, and True if metrics are among them.

    Raises click.ClickException if the address can't be used.
    """
    from handoff_actors.integrations.probes import serve_pages  # noqa: PLC0415 - few nodes have them

    metrics = _metrics_page(node)
    try:
        address, close = serve_pages(node, port, host, metrics)
    except OSError as error:
        why = "is in use by another process" if error.errno == errno.EADDRINUSE else f"can't be used: {error}"
        raise click.ClickException(f"--metrics-port: port {port} of {host} {why}") from error
    try:
        yield address, not isinstance(metrics, str)
    finally:
        close()


def _metrics_page(node: NodeActor) -> WSGIApplication | str:
    try:
        from handoff_actors.integrations.prometheus import metrics_page  # noqa: PLC0415 - an extra
    except ImportError as error:
        log.warning("no metrics are served, only probes", extra={"node": node.name, "reason": str(error)})
        return str(error)
    return metrics_page(node)
