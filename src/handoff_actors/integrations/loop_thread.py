"""Event loops in threads of their own, for code that has none."""

import asyncio

# What is registered last ends first: the threads of loops have to end before those that they use.
import concurrent.futures.thread  # noqa: F401
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from handoff_actors.client.process.blocking import loop_factory
from handoff_actors.client.process.interrupts import after_interrupt

#: The threads that have not ended.
_running: set["LoopThread"] = set()
_completion = threading.Event()
# A fork has none of its parent's threads.
os.register_at_fork(after_in_child=_running.clear)


class LoopThread:
    """A thread with an event loop, which runs `main` to its end.

    Before the interpreter ends, `finish` is called, and the thread is waited for; after Ctrl-C, or once that comes,
    `abort` is called, too.
    """

    def __init__(
        self,
        name: str,
        main: Callable[[], Coroutine[Any, Any, None]],
        finish: Callable[[], None],
        abort: Callable[[], None] = lambda: None,
    ) -> None:
        self._main = main
        self._finish = finish
        self._abort = abort
        #: Done when `main` is, and never with an exception.
        self.end: Future[None] = Future()
        # Within a coroutine function, runs have to know the function that begins them.
        self._thread = threading.Thread(target=copy_context().run, args=(self._live,), name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. Raises RuntimeError when the interpreter is ending."""
        _running.add(self)
        try:
            self._thread.start()
        except RuntimeError:
            _running.discard(self)
            raise

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def finish(self) -> None:
        """Have the thread end, and wait for that."""
        self._finish()
        self.join()

    def abort(self) -> None:
        """Have the thread end at once, and wait for that."""
        self._abort()
        self.finish()

    def _live(self) -> None:
        try:
            # `main` may cancel itself.
            with suppress(asyncio.CancelledError), asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._main())
        finally:
            _running.discard(self)
            self.end.set_result(None)


def is_interpreter_ending() -> bool:
    """True if it is too late to start threads or processes."""
    return _completion.is_set()


def _finish_all() -> None:
    _completion.set()
    # The error that ends the program, if one does.
    is_interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    for thread in list(_running):
        if is_interrupted:
            with after_interrupt():
                thread.abort()
            continue
        try:
            thread.finish()
        except KeyboardInterrupt:
            with after_interrupt():
                thread.abort()
            raise


# At this time threads can still be started, unlike in functions of `atexit`; concurrent.futures does the same.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]  # noqa: SLF001
