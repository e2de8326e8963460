"""Canvases that runs are shown on: bars on a terminal, a notebook's cell, or lines now and then."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from handoff_actors.display.display import Canvas
from handoff_actors.display.live_progress import LiveProgress
from handoff_actors.notebooks import notebook_shell

#: Seconds between two lines about a run.
LINES_EVERY_S: Final = 10.0
_PARTS_IN_LINES: Final = 4
_MOST_PARTS: Final = 8


class Lines:
    """A line now and then, for logs and pipes."""

    def __init__(self) -> None:
        self._next_at: dict[LiveProgress, float] = {}

    def draw(self, views: Sequence[LiveProgress]) -> None:
        """See Canvas."""
        now = time.monotonic()
        for view in views:
            if now >= self._next_at.get(view, 0.0):
                self._next_at[view] = now + LINES_EVERY_S
                _write_line(_line_about(view, _PARTS_IN_LINES))

    def end(self, view: LiveProgress) -> None:
        """See Canvas."""
        self._next_at.pop(view, None)
        _write_line(view.last_line())

    def close(self) -> None:
        """See Canvas."""


class Notebook:
    """A bar below the cell that has begun the run. Works without widgets."""

    def __init__(self) -> None:
        self._shown: dict[LiveProgress, Any] = {}

    def draw(self, views: Sequence[LiveProgress]) -> None:
        """See Canvas."""
        for view in views:
            self._put(view, _line_about(view, _MOST_PARTS))

    def end(self, view: LiveProgress) -> None:
        """See Canvas."""
        self._put(view, view.last_line())
        self._shown.pop(view, None)

    def close(self) -> None:
        """See Canvas."""

    def _put(self, view: LiveProgress, text: str) -> None:
        # Modules that a notebook has imported anyway, and no other program needs.
        import html  # noqa: PLC0415

        from IPython.display import display  # noqa: PLC0415

        bar = "" if view.share is None else '<progress value="{:g}" max="{}"></progress> '.format(*view.share)
        data = {"text/plain": text, "text/html": f"<div>{bar}{html.escape(text)}</div>"}
        if view not in self._shown:
            self._shown[view] = view.context.run(display, data, raw=True, display_id=True)
        else:
            view.context.run(self._shown[view].update, data, raw=True)


def _line_about(view: LiveProgress, most: int) -> str:
    return "; ".join([f"{view.name}: {view.summary()}", *view.details(most)])


def _write_line(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"handoff: {line}\n")
        sys.stderr.flush()


def _terminal() -> Canvas:
    # rich takes as long to import as a small run takes.
    from handoff_actors.display.bars import Bars  # noqa: PLC0415

    return Bars()


class _Later:
    """A canvas that is made in the thread that draws on it."""

    def __init__(self, make: Callable[[], Canvas]) -> None:
        self._make = make
        self._made: Canvas | None = None

    def draw(self, views: Sequence[LiveProgress]) -> None:
        """See Canvas."""
        self._canvas().draw(views)

    def end(self, view: LiveProgress) -> None:
        """See Canvas."""
        self._canvas().end(view)

    def close(self) -> None:
        """See Canvas."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def _canvas(self) -> Canvas:
        if self._made is None:
            self._made = self._make()
        return self._made


#: One of each for all runs of this process.
LINES: Final = Lines()
NOTEBOOK: Final = Notebook()
TERMINAL: Final = _Later(_terminal)


def canvas() -> Canvas:
    """The canvas for this process, by its stderr and the shell that it runs in."""
    if notebook_shell() is not None:
        return NOTEBOOK
    with suppress(Exception):
        # The app may have closed it, have none, or have put in its place what is no stream.
        if (
            sys.stderr is not None
            and sys.stderr.isatty()
            and os.environ.get("TERM") not in {"dumb", "unknown"}
        ):
            return TERMINAL
    return LINES
