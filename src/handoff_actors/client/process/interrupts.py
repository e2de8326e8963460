"""Ctrl-C, once: impatient further ones must not interrupt the cleanup that the first has begun."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import asyncio

#: Cleaning up takes less; after so many seconds an interrupt is an exception at once.
PATIENCE_S: Final = 10.0


@contextmanager
def after_interrupt() -> Iterator[None]:
    """Within the block, which cleans up after an interrupt, further ones do nothing. Whoever was interrupted raises it again."""
    stack = ExitStack()
    is_ready = False
    while not is_ready:
        # The next one may come before there is something that takes it.
        with suppress(KeyboardInterrupt):
            stack.enter_context(FirstInterrupt())
            is_ready = True
    with suppress(KeyboardInterrupt), stack:
        yield


class FirstInterrupt:
    """Within the block, the first SIGINT cancels `task`, if there is one, and later ones do nothing.

    Without a task, KeyboardInterrupt is raised at the end of the block. In other threads than the main one, and where the
    program has a handler of its own, nothing changes.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[object] | None = None
        #: When the first came.
        self.came_at: float | None = None
        self._is_installed = False

    def __enter__(self) -> Self:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            signal.signal(signal.SIGINT, self._take)
            self._is_installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.came_at is not None and self.task is None and error is None:
            raise KeyboardInterrupt from None

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.came_at is None:
            self.came_at = now
            if self.task is not None:
                self.task.cancel()
                # The loop may be asleep.
                self.task.get_loop().call_soon_threadsafe(lambda: None)
        elif now - self.came_at > PATIENCE_S:
            raise KeyboardInterrupt
