"""Calls of users' code that hold up their caller for a short time only, whatever that code does."""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

#: Seconds for code that takes less than a millisecond where it is sound.
LIMIT_S: Final = 2.0
#: Attempts at ending a call that is late, and how many seconds each waits for the end.
_ATTEMPTS: Final = 3
_PAUSE_S: Final = 0.05


class CallFailed(Exception):
    """The call has raised its cause; or it has no cause, and was late."""


def run_within_limit(work: Callable[[], T]) -> T:
    """Call `work` in a thread of its own and return its result.

    Raises CallFailed. A call that is late is ended, unless it hangs in C: then the thread stays, and the process ends
    without it.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - it may even be the SystemExit of `_end`
            errors.append(error)

    thread = threading.Thread(target=call, name="handoff exception", daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if results:
        return results[0]
    if errors:
        raise CallFailed from errors[0]
    attempts = 0
    while thread.is_alive() and attempts < _ATTEMPTS:
        attempts += 1
        _end(thread)
        thread.join(_PAUSE_S)
    raise CallFailed


def _end(thread: threading.Thread) -> None:
    """Raise SystemExit in a thread, as soon as it is at a bytecode."""
    import ctypes  # noqa: PLC0415 - few programs have such code

    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
    )
