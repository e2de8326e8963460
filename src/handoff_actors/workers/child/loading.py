"""Loads code, and refuses nodes, sessions and runs that code would start while it is only being loaded.

A worker loads code when it imports the module of a function, and when it unpickles code, arguments or results. A module
that starts a run when it is imported would start one in each worker that needs a function of it, and that run's workers
would import the module again, without end. The same goes for processes of `multiprocessing`, which import the main module.
A function that runs may start what it likes. The stack tells the two apart, so that functions pay nothing for it: code that
is being loaded has been called by one of the functions that load.
"""

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final
from weakref import WeakKeyDictionary

from handoff_actors.errors import UnguardedStart
from handoff_actors.wire.payload import Sealed, bring_globals, decode, load_code, load_main
from handoff_actors.workers.child.running_job import is_worker

#: By identity: code objects are compared by all that they contain.
_LOADERS: Final = frozenset(
    id(loader.__code__) for loader in (load_code, bring_globals, load_main, decode, Sealed.open)
)
#: The name of the code of a module's body.
_BODY: Final = "<module>"
#: In the errors of asyncio and uvloop about a loop that is started where one runs already, as in an async worker.
_SECOND_LOOP: Final = ("cannot be called from a running event loop", "while another loop is running")


class _Loading:
    """The loading of a function that goes on, or was the last one."""

    is_on = False
    #: The function's module, if it is loaded by reference.
    module = ""
    threads_before: frozenset[threading.Thread] = frozenset()
    #: The last start that was refused.
    refused: UnguardedStart | None = None


#: Threads that code has started while it was loaded, and the module of the function that it was loaded for.
_threads: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()


def load(module: str, load_function: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """Load a function of a module by calling `load_function`; the module is "" for code by value.

    Raises SerializationError, and UnguardedStart if the code would start a run.
    """
    _Loading.is_on, _Loading.refused = True, None
    _Loading.module = repr(module) if module else ""
    _Loading.threads_before = frozenset(threading.enumerate())
    try:
        return load_function()
    except BaseException as error:
        # A module that handles the refusal may end with sys.exit(1).
        refused = _Loading.refused or refusal_behind(error) or _second_loop(error)
        if refused is None:
            raise
        raise refused from error
    finally:
        _Loading.is_on = False
        for thread in threading.enumerate():
            if thread not in _Loading.threads_before:
                _threads[thread] = _Loading.module


def check_may_start(what: str) -> None:
    """Raise UnguardedStart if the calling code is only being loaded; `what` it would start is named for people."""
    if is_worker():
        module = _module_that_is_loaded()
        by = "a worker"
    elif _is_bootstrapping():
        module = _body(sys._getframe(1))[0]  # noqa: SLF001 - no other way to see who calls
        by = "a process that multiprocessing has started"
    else:
        return
    if module is not None:
        _Loading.refused = _refusal(what, module, by)
        raise _Loading.refused


def refusal_behind(error: BaseException) -> UnguardedStart | None:
    """Find the refusal that has led to an error of code that was loaded."""
    pending, seen = [error], set[int]()
    while pending:
        found = pending.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        kind = type(found)
        if issubclass(kind, UnguardedStart):
            return found  # type: ignore[return-value]
        if issubclass(kind, BaseExceptionGroup):
            pending += found.exceptions  # type: ignore[attr-defined]
        pending += [cause for cause in (found.__context__, found.__cause__) if cause is not None]
    return None


def _second_loop(error: BaseException) -> UnguardedStart | None:
    """Say it where a module would run its program with asyncio, which fails in an async worker before all else does."""
    cause = error.__cause__
    if type(cause) is not RuntimeError or not str(cause).endswith(_SECOND_LOOP):
        return None
    return _refusal("an event loop", _Loading.module, "a worker")


def _refusal(what: str, module: str, by: str) -> UnguardedStart:
    loaded = f"module {module} would start {what} while {by} imports it"
    return UnguardedStart(what, loaded if module else f"code would start {what} while {by} loads it", module)


def _module_that_is_loaded() -> str | None:
    """The module whose import has called this, "" if it is not known, None if no code is being loaded."""
    module, is_loaded = _body(sys._getframe(2))  # noqa: SLF001 - see above
    if is_loaded:
        return module
    thread = threading.current_thread()
    if _Loading.is_on and thread not in _Loading.threads_before:
        return _Loading.module
    return _threads.get(thread)


def _body(frame: FrameType | None) -> tuple[str, bool]:
    """The innermost module whose body is running, with file and line, and whether it runs because code is loaded."""
    module = ""
    while frame is not None:
        code = frame.f_code
        if not module and code.co_name == _BODY:
            module = f"{frame.f_globals.get('__name__')!r} ({code.co_filename}, line {frame.f_lineno})"
        if id(code) in _LOADERS:
            return module, True
        frame = frame.f_back
    return module, False


def _is_bootstrapping() -> bool:
    """True in a process of multiprocessing that imports the main module, where multiprocessing starts nothing, either."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and hasattr(process.current_process(), "_inheriting")
