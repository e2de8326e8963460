"""Kinds of state that a function may leave changed in its process: how it is changed, and how it shows."""

import asyncio
import contextvars
import ctypes
import decimal
import gc
import inspect
import io
import locale
import os
import pickle
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = contextvars.ContextVar("VARIABLE", default="usual")


class State(NamedTuple):
    change: Callable[[], object]
    #: What is equal again for the next function.
    look: Callable[[], object]


def _handler(_number: int, _frame: object) -> None:
    raise AssertionError("a signal handler of an earlier function was called")


def _handlers() -> list[str]:
    return [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals())]


def _open_as(number: int) -> None:
    os.close(number)
    assert os.open(os.devnull, os.O_RDWR) == number


def _printing() -> str:
    print("still printed", file=sys.stderr)
    return type(sys.stderr).__name__


def _descriptors() -> list[tuple[int, int]]:
    return [(found.st_dev, found.st_ino) for found in map(os.fstat, (0, 1, 2))]


def _open_stdout_again() -> None:
    sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115 - and so descriptor 1 is closed with it


def _wrap_stdout() -> None:
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="latin-1")


def _close_all_streams() -> None:
    for stream in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.close()


def _replace_environ() -> None:
    os.environ = {"ONLY": "this"}  # type: ignore[assignment]  # noqa: B003 - as users do


def _clear_environ() -> None:
    os.environ.clear()


def _put_variable() -> None:
    os.putenv("PUT", "directly")


def _shell() -> str:
    return os.popen("/bin/echo ${PUT-unset}").read()


def _time_zone() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def _chdir() -> None:
    os.chdir(tempfile.gettempdir())


def _remove_directory() -> None:
    directory = tempfile.mkdtemp()
    os.chdir(directory)
    Path(directory).rmdir()


def _use_another_temporary_directory() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TMPDIR"] = directory
        tempfile.tempdir = None
        assert tempfile.gettempdir() == directory


def _lower_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))


def _precision() -> None:
    decimal.getcontext().prec = 3


def _leave_event_loop() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


STATES: dict[str, State] = {
    "working directory": State(_chdir, os.getcwd),
    "working directory, removed": State(_remove_directory, os.getcwd),
    "working directory by descriptor": State(lambda: os.fchdir(os.open("/", os.O_RDONLY)), os.getcwd),
    "umask": State(lambda: os.umask(0o077), lambda: [os.umask(0o022), os.umask(0o022)][0]),
    "variable": State(lambda: os.environ.update(HOME="elsewhere", ADDED="1"), lambda: dict(os.environ)),
    "variables, cleared": State(_clear_environ, lambda: dict(os.environ)),
    "variables, replaced": State(_replace_environ, lambda: dict(os.environ)),
    "variable, put": State(_put_variable, _shell),
    "time zone": State(_time_zone, lambda: (time.tzname, time.localtime(0).tm_hour)),
    "recursion limit": State(lambda: sys.setrecursionlimit(5000), sys.getrecursionlimit),
    "recursion limit, low": State(lambda: sys.setrecursionlimit(60), sys.getrecursionlimit),
    "decimal context": State(_precision, lambda: str(decimal.Decimal(1) / 3)),
    "decimal context, set": State(
        lambda: decimal.setcontext(decimal.Context(prec=5)), lambda: decimal.getcontext().prec
    ),
    "default decimal context": State(
        lambda: setattr(decimal.DefaultContext, "prec", 4), lambda: decimal.DefaultContext.prec
    ),
    "warning filters": State(
        lambda: warnings.simplefilter("error"),
        lambda: (list(warnings.filters), warnings.warn("", stacklevel=1)),
    ),
    "warning filters, reset": State(warnings.resetwarnings, lambda: list(warnings.filters)),
    "locale": State(
        lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"), lambda: locale.setlocale(locale.LC_ALL)
    ),
    "signal handler": State(lambda: signal.signal(signal.SIGUSR1, _handler), _handlers),
    "signal handler, ignored": State(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), _handlers),
    "handler of the worker's signal": State(lambda: signal.signal(signal.SIGIO, signal.SIG_IGN), _handlers),
    "signal mask": State(
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGIO}),
        lambda: sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    ),
    "alarm": State(lambda: signal.alarm(1), lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 0),
    "interval timer": State(
        lambda: (signal.signal(signal.SIGPROF, _handler), signal.setitimer(signal.ITIMER_PROF, 60)),
        lambda: (signal.getitimer(signal.ITIMER_PROF)[0] > 0, signal.getsignal(signal.SIGPROF)),
    ),
    "stdout": State(lambda: setattr(sys, "stdout", io.StringIO()), lambda: type(sys.stdout).__name__),
    "stdout, none": State(lambda: setattr(sys, "stdout", None), lambda: type(sys.stdout).__name__),
    "stdout, over its descriptor": State(
        _open_stdout_again, lambda: (type(sys.stdout).__name__, _descriptors())
    ),
    "stdout, wrapped": State(_wrap_stdout, lambda: (sys.stdout.encoding, print())),
    "stdout, deleted": State(lambda: delattr(sys, "stdout"), lambda: hasattr(sys, "stdout")),
    "stderr": State(lambda: setattr(sys, "stderr", Path(os.devnull).open("w")), _printing),  # noqa: SIM115
    "stdin": State(lambda: setattr(sys, "stdin", io.StringIO()), lambda: type(sys.stdin).__name__),
    "descriptor 0, closed": State(lambda: os.close(0), lambda: Path("/proc/self/fd/0").exists()),
    "descriptors, closed": State(lambda: os.closerange(0, 3), lambda: Path("/proc/self/fd/1").exists()),
    "descriptor 1, another": State(lambda: _open_as(1), _descriptors),
    "descriptor 2, another": State(lambda: os.dup2(os.open("/", os.O_RDONLY), 2), _descriptors),
    "context variable": State(lambda: VARIABLE.set("another"), VARIABLE.get),
    "sys.argv": State(lambda: sys.argv.append("--verbose"), lambda: list(sys.argv)),
    "sys.argv, replaced": State(lambda: setattr(sys, "argv", ["prog"]), lambda: list(sys.argv)),
    "excepthook": State(lambda: setattr(sys, "excepthook", _handler), lambda: sys.excepthook.__name__),
    "excepthook of threads": State(
        lambda: setattr(threading, "excepthook", _handler), lambda: threading.excepthook.__name__
    ),
    "garbage collection": State(gc.disable, gc.isenabled),
    "thresholds of garbage collection": State(lambda: gc.set_threshold(1), gc.get_threshold),
    "switch interval": State(lambda: sys.setswitchinterval(0.5), sys.getswitchinterval),
    "stack size of threads": State(lambda: threading.stack_size(1 << 20), threading.stack_size),
    "directory of temporary files": State(_use_another_temporary_directory, tempfile.gettempdir),
    "event loop": State(_leave_event_loop, lambda: asyncio.events._event_loop_policy),  # type: ignore[attr-defined]
    "timeout of sockets": State(lambda: socket.setdefaulttimeout(3), socket.getdefaulttimeout),
    "profiling": State(lambda: sys.setprofile(lambda *_: None), lambda: sys.getprofile() is None),
    "limit of digits": State(lambda: sys.set_int_max_str_digits(0), sys.get_int_max_str_digits),
    "soft limit": State(_lower_limit, lambda: resource.getrlimit(resource.RLIMIT_NOFILE)),
    "cores": State(
        lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}), lambda: len(os.sched_getaffinity(0))
    ),
}


def look(name: str) -> Any:
    """Give what shows of a kind of state."""
    return STATES[name].look()


def change(name: str) -> None:
    """Leave the state changed."""
    STATES[name].change()


def change_and_fail(name: str) -> None:
    """Leave the state changed, and raise."""
    STATES[name].change()
    raise LookupError(name)


async def look_async(name: str) -> Any:
    """Do as `look`."""
    return STATES[name].look()


async def change_async(name: str) -> None:
    """Do as `change`."""
    STATES[name].change()


def import_and_change() -> None:
    """Import a module that changes the process, and change more, before and after."""
    warnings.filterwarnings("ignore", message="before")
    os.environ.update(BEFORE="1", HOME="elsewhere")
    import tests.workers.changes_on_import  # noqa: F401, PLC0415

    decimal.getcontext().prec = 7
    os.environ["SET_ON_IMPORT"] = "2"
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


async def import_and_change_async() -> None:
    """Do as `import_and_change`."""
    import_and_change()


def imported() -> tuple[object, ...]:
    """Give what the module has changed, and then what the function has."""
    filters = {str(entry[1].pattern) for entry in warnings.filters if entry[1] is not None}
    return (
        decimal.getcontext().prec,
        os.environ.get("SET_ON_IMPORT"),
        sys.getrecursionlimit(),
        signal.getsignal(signal.SIGUSR2),
        "set on import" in filters,
        "before" in filters,
        os.environ.get("BEFORE"),
        signal.getsignal(signal.SIGUSR1),
    )


async def imported_async() -> tuple[object, ...]:
    """Do as `imported`."""
    return imported()


def import_broken() -> str:
    """Give the traceback of an import that fails."""
    try:
        import tests.workers.broken_on_import  # noqa: F401, PLC0415
    except ZeroDivisionError:
        return traceback.format_exc()
    raise AssertionError("it can't be imported")


def change_by_c() -> None:
    """Change what Python does not see, and take some time."""
    library = ctypes.CDLL(None)
    library.chdir(b"/")
    library.umask(0o077)
    library.close(0)
    library.alarm(1)
    time.sleep(0.002)


def seen_of_c() -> tuple[object, ...]:
    """Give what `change_by_c` changes."""
    umask = os.umask(0o022)
    return (
        str(Path.cwd()),
        os.umask(umask),
        signal.getitimer(signal.ITIMER_REAL),
        Path("/proc/self/fd/0").exists(),
    )


def recorders() -> list[str]:
    """Give the functions that can't be found by pickle, or don't tell of their parameters."""
    functions = (os.chdir, os.umask, os.close, os.putenv, signal.signal, signal.alarm, locale.setlocale)
    assert os.chdir in os.supports_fd
    return [
        function.__name__
        for function in functions
        if pickle.loads(pickle.dumps(function)) is not function or not inspect.signature(function).parameters
    ]


def seen_variable() -> str:
    """Give the context variable."""
    return VARIABLE.get()


def set_variable() -> str:
    """Set a context variable where the next one who asks may see it."""
    VARIABLE.set("set within")
    return VARIABLE.get()


def seen_by(earlier: str) -> tuple[str, str]:
    """Give an argument, and the variable."""
    return earlier, VARIABLE.get()


def awaited() -> Coroutine[object, object, str]:
    """Return a coroutine that sees what was set before it."""
    VARIABLE.set("for the coroutine")

    async def seen() -> str:
        return await asyncio.create_task(asyncio.sleep(0, VARIABLE.get()))

    return seen()


def change_environment() -> None:
    """Leave the environment of the run changed."""
    os.environ["OF_RUN"] = "changed"
    _chdir()


def seen_environment() -> tuple[str | None, str]:
    """Give the environment of the run."""
    return os.environ.get("OF_RUN"), str(Path.cwd())


def ignore_signals_until(announcement: str, permission: str) -> None:
    """Ignore the signal by which a worker is told of a recall, until a file appears."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    Path(announcement).write_text("it is ignored", encoding="utf-8")
    while not Path(permission).exists():
        time.sleep(0.001)


def lose_privileges() -> int:
    """Change what this process can't change back."""
    if os.geteuid() == 0:
        os.setuid(65534)
    else:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    return os.getpid()
