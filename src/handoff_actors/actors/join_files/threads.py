"""Runs work that a file server may hold up for ever, so that neither the event loop nor the end of the process waits for it."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from handoff_actors.errors import HandoffError

T = TypeVar("T")


def in_own_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run work in a thread of its own, which goes on alone if the future is cancelled. The future has what the work raises."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Sequence[T], error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            [value] = result
            done.set_result(value)

    def run() -> None:
        result: list[T] = []
        failure: Exception | None = RuntimeError("a thread has met a bug, whose traceback is on stderr")
        try:
            result.append(work())
            failure = None
        except (HandoffError, OSError) as error:
            failure = error
        finally:
            # The loop may have ended meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, failure)

    # The threads of `to_thread` are waited for at the end of the process.
    threading.Thread(target=run, name="join file", daemon=True).start()
    return done
