"""How far a run is, for whoever looks at stderr: a bar on a terminal, lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from handoff_actors.runs import RunEvent

if TYPE_CHECKING:
    from handoff_actors.ids import FunctionId

#: Where there is no bar, so many lines tell of functions that went well; each failure has its own.
LINES = 20


class Tally:
    """How many functions of a run are done, are running, and have failed."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done: set[FunctionId] = set()
        self.running: set[FunctionId] = set()
        #: Attempts, not functions.
        self.failures = 0

    def take(self, event: RunEvent) -> None:
        """Count one event."""
        self.running.discard(event.function_id)
        # What was done can be lost with the node that held its result, and is then run again.
        self.done.discard(event.function_id)
        match event.kind:
            case "assigned":
                self.running.add(event.function_id)
            case "completed" | "reused":
                self.done.add(event.function_id)
            case "failed" | "retried":
                self.failures += 1

    def __str__(self) -> str:
        failed = f", {self.failures} failed" if self.failures else ""
        return f"{len(self.done)}/{self.total} done, {len(self.running)} running{failed}"


@contextmanager
def shown_progress(total: int) -> Iterator[Callable[[RunEvent], None]]:
    """What the yielded function is told of is shown on stderr."""
    tally = Tally(total)
    if not sys.stderr.isatty():
        yield Lines(tally).take
        return
    from handoff_actors.cli.bar import shown_bar  # noqa: PLC0415 - rich takes as long as a small run

    with shown_bar(tally):
        yield tally.take


class Lines:
    """A line now and then."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._step = max(1, tally.total // LINES)

    def take(self, event: RunEvent) -> None:
        """Count one event, and tell of it if it is one to be told of."""
        self._tally.take(event)
        done = len(self._tally.done)
        if event.kind in {"failed", "retried"}:
            click.echo(
                f"{event.function_id!r} failed on {event.node}, attempt {event.attempt}: {event.reason}",
                err=True,
            )
        elif event.kind == "completed" and (done % self._step == 0 or done == self._tally.total):
            click.echo(f"{self._tally}: {event.function_id!r} on {event.node}", err=True)
