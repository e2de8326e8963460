"""Bars on a terminal, one below the other, redrawn in place. What is printed meanwhile goes above them."""

import logging
import sys
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from handoff_actors.display.display import display
from handoff_actors.display.live_progress import LiveProgress

_WIDTH: Final = 30
_PARTS: Final = 8
#: With more runs than that at once, the others are only counted.
_MOST_BARS: Final = 6


class Bars:
    """A live display on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._views: Sequence[LiveProgress] = ()
        self._live: Live | None = None
        #: Handlers of the app's that write to the terminal, and the streams that they have.
        self._diverted: list[tuple[logging.StreamHandler[Any], Any]] = []

    def draw(self, views: Sequence[LiveProgress]) -> None:
        """See Canvas."""
        self._views = views
        if self._live is None:
            self._open()
        else:
            self._live.refresh()

    def end(self, view: LiveProgress) -> None:
        """See Canvas."""
        self._views = [other for other in self._views if other is not view]
        self._console.print(Text(view.last_line()), soft_wrap=True)

    def close(self) -> None:
        """See Canvas."""
        if self._live is not None:
            display.above = None
            self._live.stop()
            self._live = None
        for handler, stream in self._diverted:
            handler.setStream(stream)
        self._diverted.clear()

    def _open(self) -> None:
        stdout, stderr = sys.stdout, sys.stderr
        self._live = Live(
            get_renderable=self._picture,
            console=self._console,
            auto_refresh=False,
            transient=True,
            # A file should keep what is written to it.
            redirect_stdout=stdout is not None and stdout.isatty(),
        )
        self._live.start(refresh=True)
        display.above = self._print
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (stdout, stderr):
                self._diverted.append((handler, handler.stream))
                handler.setStream(sys.stdout if handler.stream is stdout else sys.stderr)

    def _print(self, text: str) -> None:
        self._console.print(Text.from_ansi(text.removesuffix("\n")), soft_wrap=True)

    def _picture(self) -> RenderableType:
        rows = [_row(view) for view in self._views[:_MOST_BARS]]
        more = len(self._views) - _MOST_BARS
        return Group(*rows, *([Text(f"{more} more runs", style="dim")] if more > 0 else []))


def _row(view: LiveProgress) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    bars = []
    if view.share is not None:
        ended, total = view.share
        bars.append(ProgressBar(total=total, completed=ended, width=_WIDTH))
    row.add_row(Text(view.name), *bars, Text(view.summary()))
    lines = view.details(_PARTS)
    texts = [Text(f"  {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in lines]
    return Group(row, *texts)
