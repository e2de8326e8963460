"""The part of a display of progress that runs and streams have in common."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Final

from handoff_actors.escaping import escape_name
from handoff_actors.ids import FunctionId
from handoff_actors.text import str_of

#: The rate is that of so many seconds.
_WINDOW_S: Final = 15.0
_MOST_OF_A_NAME: Final = 24


class LiveProgress(ABC):
    """Something that is being shown. Snapshots are taken in its loop, texts are made in the display's thread."""

    def __init__(self, dag_id: FunctionId, began_at: float) -> None:
        """Show what began at `began_at` on the monotonic clock."""
        self._loop = asyncio.get_running_loop()
        self._began_at = began_at
        self.context: Context = copy_context()
        self.name = shown_id(dag_id)
        #: The outcome, "done", "failed" or "cancelled"; "" while it goes on.
        self.outcome = ""
        self._ended_at = 0.0

    def ask(self) -> None:
        """Have another snapshot taken soon."""
        # A loop that has been closed runs nothing any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.look)

    def look(self) -> None:
        """Take a snapshot."""
        if not self.outcome:
            self._take_snapshot()

    def end(self, outcome: str) -> None:
        """Take the last snapshot."""
        self.look()
        self.outcome, self._ended_at = outcome, time.monotonic()

    @property
    def seconds(self) -> float:
        """The time since it began, or that it took."""
        return (self._ended_at if self.outcome else time.monotonic()) - self._began_at

    @property
    @abstractmethod
    def share(self) -> tuple[float, float] | None:
        """The amount that has ended, and the whole of it; None: it has no end that is known."""

    @abstractmethod
    def summary(self) -> str:
        """Say in a line how far it is, behind its name."""

    @abstractmethod
    def details(self, most: int) -> list[str]:
        """Say in further lines what its parts do, naming `most` of them."""

    @abstractmethod
    def last_line(self) -> str:
        """Return the line that stays when it has ended."""

    @abstractmethod
    def _take_snapshot(self) -> None: ...


class RecentRate:
    """The rate at which a count has grown of late."""

    def __init__(self, began_at: float, before: float) -> None:
        self._history: deque[tuple[float, float]] = deque([(began_at, before)])

    def at(self, count: float) -> float:
        """Return the growth per second of the last 15 seconds, with the count as it is now."""
        now, history = time.monotonic(), self._history
        history.append((now, count))
        while len(history) > 2 and history[1][0] < now - _WINDOW_S:  # noqa: PLR2004 - two make a span
            history.popleft()
        began_at, before = history[0]
        return max(0, count - before) / (now - began_at) if now > began_at else 0.0


def rate_text(rate: float) -> str:
    """Format a rate, as "0.5/s" or "340/s"."""
    return f"{rate:.{0 if rate >= 10 else 1}f}/s"  # noqa: PLR2004 - two digits do


def shown_id(function_id: FunctionId) -> str:
    """Shorten an id, and escape it for a terminal."""
    name = escape_name(str_of(function_id))
    return name if len(name) <= _MOST_OF_A_NAME else f"{name[: _MOST_OF_A_NAME - 3]}..."
