"""The progress of a run, or of a stream, is shown if the user wants it, or once it has taken a while."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from handoff_actors.display.canvases import LINES, canvas
from handoff_actors.display.display import Canvas, display
from handoff_actors.display.live_progress import LiveProgress
from handoff_actors.display.options import wanted_by_environment

#: A run that is over sooner is not worth a bar,
LIVE_AFTER_S: Final = 0.5
#: or a line.
LINES_AFTER_S: Final = 5.0


class ProgressDisplay:
    """The progress of one run or stream. `start` and `end` take a microsecond or two where nothing is shown."""

    def __init__(
        self,
        make_view: Callable[[float], LiveProgress],
        wanted: bool | None,
    ) -> None:
        """`make_view` makes a view of what began then, on the monotonic clock. `wanted` is the option `progress`."""
        self._make_view = make_view
        self._wanted = wanted
        self._began_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._view: LiveProgress | None = None
        self._canvas: Canvas = LINES

    def start(self) -> None:
        """Begin to show it, at once or after a while."""
        if self._wanted is None:
            self._wanted = wanted_by_environment()
        if self._wanted is False:
            return
        self._began_at = time.monotonic()
        # At once is when the run has sent out what it can. Most runs are over before anybody has to know where to show them.
        self._timer = asyncio.get_running_loop().call_later(
            0.0 if self._wanted else LIVE_AFTER_S, self._look_where
        )

    def _look_where(self) -> None:
        self._canvas = canvas()
        if self._wanted or self._canvas is not LINES:
            self._show()
            return
        self._timer = asyncio.get_running_loop().call_later(LINES_AFTER_S - LIVE_AFTER_S, self._show)

    def end(self, outcome: str) -> bool:
        """End with an outcome: "done", "failed" or "cancelled". The answer says whether anything was shown."""
        if self._timer is not None:
            self._timer.cancel()
        if self._view is None and not self._wanted:
            return False
        if self._view is None:
            self._canvas = canvas()
        view = self._view or self._show()
        view.end(outcome)
        display.hide(view, self._canvas)
        return True

    def _show(self) -> LiveProgress:
        view = self._view = self._make_view(self._began_at)
        display.show(view, self._canvas)
        return view
