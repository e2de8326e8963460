"""Runs a coroutine for code that has no event loop, or whose loop has to wait meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from handoff_actors.client.process.interrupts import FirstInterrupt
from handoff_actors.process.standard_descriptors import hold_standard_descriptors

ResultT = TypeVar("ResultT")


def run_blocking(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine on a loop of its own and return its result; in a thread of its own if this thread runs a loop already.

    Notebooks have such a loop; it stands still until this returns. Ctrl-C cancels the coroutine in both cases.
    """
    return _run_beside(main) if _has_running_loop() else _run(main)


def _run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    make_loop = loop_factory()
    with FirstInterrupt() as interrupt, asyncio.Runner(loop_factory=make_loop) as runner:

        async def interruptible() -> ResultT:
            interrupt.task = asyncio.current_task()
            if interrupt.came_at is not None:
                main.close()
                raise asyncio.CancelledError
            return await main

        try:
            return runner.run(interruptible())
        except asyncio.CancelledError:
            if interrupt.came_at is None:
                raise
            # Where the run was cancelled is no news.
            raise KeyboardInterrupt from None


def _run_beside(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    started: list[asyncio.Task[Any]] = []

    async def known() -> ResultT:
        task = asyncio.current_task()
        assert task is not None
        started.append(task)
        return await main

    with ThreadPoolExecutor(1, "handoff") as thread:
        # Within a coroutine function, the run has to know the function that begins it.
        running = thread.submit(copy_context().run, _run, known())
        try:
            return running.result()
        except KeyboardInterrupt:
            for task in started:
                # It may have ended at this very moment, and its loop with it.
                with suppress(RuntimeError):
                    task.get_loop().call_soon_threadsafe(task.cancel)
            raise


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a factory of the fastest event loop that is installed, and prepare this process for it."""
    hold_standard_descriptors()
    try:
        import uvloop  # noqa: PLC0415 - only scripts need it
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
