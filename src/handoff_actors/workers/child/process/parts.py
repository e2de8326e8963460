"""The parts of a process's state that calls may change: how each is read, and how its usual value is put back."""

import _locale
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from operator import attrgetter, eq, is_
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

_STANDARD_DESCRIPTORS: Final = (0, 1, 2)
#: Streams over the descriptors themselves; the worker's own `stdout` and `stderr` can't be closed, see `output`.
_STREAMS: Final = {"stdin": 0, "__stdin__": 0, "__stdout__": 1, "__stderr__": 2}
_REPLACED: Final = (
    (sys, ("stdin", "stdout", "stderr", "excepthook", "unraisablehook", "displayhook")),
    (threading, ("excepthook",)),
)
_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_SIGNALS: Final = tuple(map(int, sorted(signal.valid_signals())))
_LIMITS: Final = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_DECIMAL_FIELDS: Final = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
#: Where `asyncio.events` has the policy.
LOOP_POLICY: Final = "_event_loop_policy"
#: How writing fails where that is not allowed, or where user code has left something odd.
_NOT_WRITTEN: Final = (OSError, ValueError, TypeError, RecursionError)

#: Without the enumerations of `signal`, which take a microsecond for each signal.
_c_signal: Any = sys.modules["_signal"]


#: Gives the fields of a decimal context.
decimal_fields: Final[Callable[[Any], tuple[Any, ...]]] = attrgetter(*_DECIMAL_FIELDS)


class Part(Generic[T]):
    """A part that can be read and written."""

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        write: Callable[[T], object],
        *,
        is_same: Callable[[T, T], bool] = eq,
        merge: Callable[[T, T, T], T] = lambda _usual, _before, after: after,
    ) -> None:
        """`merge(usual, before, after)` applies the change from `before` to `after` to the usual value."""
        #: For people.
        self.name = name
        self._read = read
        self._write = write
        self._is_same = is_same
        self._merge = merge
        self._usual = self._before = read()

    def note(self) -> None:
        """Take the present value as the usual one."""
        self._usual = self._read()

    def mark(self) -> None:
        """Remember the present value, for `keep`."""
        self._before = self._read()

    def keep(self) -> None:
        """Apply the change since `mark` to the usual value."""
        after = self._read()
        if not self._is_same(self._before, after):
            self._usual = self._merge(self._usual, self._before, after)

    def restore(self) -> bool:
        """Put the usual value back; False if that can't be done."""
        if self._is_same(self._usual, self._read()):
            return True
        with suppress(*_NOT_WRITTEN):
            self._write(self._usual)
        return self._is_same(self._usual, self._read())


class WorkingDirectory(Part[str]):
    """The working directory, held by a descriptor: it may be renamed, or be out of reach by its name."""

    def __init__(self) -> None:
        self._descriptor = -1
        super().__init__("the working directory", _working_directory, self._return)
        self.note()

    def note(self) -> None:
        """See Part."""
        super().note()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = os.open(".", os.O_PATH | os.O_DIRECTORY)

    def keep(self) -> None:
        """See Part."""
        if self._before != _working_directory():
            self.note()

    def _return(self, _usual: str) -> None:
        os.fchdir(self._descriptor)


class EnvironmentVariables(Part[dict[bytes, bytes]]):
    """The environment variables."""

    def __init__(self) -> None:
        #: The usual `os.environ`, whoever replaces it.
        self.object = os.environ
        self._variables: dict[bytes, bytes] = vars(self.object)["_data"]
        #: Names set or removed by `os.putenv` and `os.unsetenv`, which `os.environ` calls too.
        self.put: set[bytes] = set()
        super().__init__("environment variables", self._variables.copy, self._set, merge=_merged_variables)

    def note(self) -> None:
        """See Part."""
        super().note()
        self.put.clear()

    def mark(self) -> None:
        """See Part."""
        super().mark()
        self._put_before = self.put.copy()

    def keep(self) -> None:
        """See Part."""
        super().keep()
        self.put &= self._put_before

    def restore(self) -> bool:
        """See Part."""
        if os.environ is not self.object:
            os.environ = self.object  # noqa: B003 - the same one as before, with all its variables
        for name in self.put:
            _put(name, self._usual.get(name))
        self.put.clear()
        return super().restore()

    def _set(self, usual: dict[bytes, bytes]) -> None:
        present = self._variables
        for name in usual.keys() | present.keys():
            value = usual.get(name)
            if present.get(name) != value:
                _put(name, value)
        present.clear()
        present.update(usual)
        self.put.clear()


class _Umask(Part[int]):
    def restore(self) -> bool:
        # To read it is to change it for a moment.
        os.umask(self._usual)
        return True


class _DefaultDecimals(Part[tuple[Any, ...] | None]):
    def restore(self) -> bool:
        if self._usual is None:
            # The module may have been imported since.
            self.note()
        return super().restore()


class _Descriptors(Part[tuple[tuple[int, int] | None, ...]]):
    """The files that are open as 0, 1 and 2, held by copies."""

    def __init__(self) -> None:
        self._copies = [_copy(number) for number in _STANDARD_DESCRIPTORS]
        super().__init__("standard descriptors", _standard_descriptors, self._reopen)

    def note(self) -> None:
        """Change nothing: they are the process's from its start."""

    def keep(self) -> None:
        """Change nothing, likewise."""

    def _reopen(self, usual: tuple[tuple[int, int] | None, ...]) -> None:
        for number, copy, is_open in zip(_STANDARD_DESCRIPTORS, self._copies, usual, strict=True):
            if is_open:
                os.dup2(copy, number)


def parts_derived_from_variables() -> "list[Part[Any]]":
    """Give the parts that environment variables determine."""
    return [
        Part("the time zone", _time_zone, lambda _usual: time.tzset()),
        Part("the directory of temporary files", _temporary_directory, _set_temporary_directory),
    ]


def renew_what_variables_determine() -> None:
    """Derive those parts from the present environment variables."""
    time.tzset()
    _set_temporary_directory(None)


def reversible_parts(
    environment: EnvironmentVariables, derived: "Iterable[Part[Any]]", directory: WorkingDirectory
) -> "list[Part[Any]]":
    """Give the parts that can be put back, in the order for that."""
    return [
        Part("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        Part("timers", _running_timers, _stop_timers, merge=lambda usual, _before, _after: usual),
        Part("signal handlers", _handlers, _handle, is_same=_are_identical, merge=_merged_handlers),
        Part("blocked signals", _blocked_signals, _block_signals),
        environment,
        *derived,
        directory,
        _Umask("the umask", _umask, os.umask),
        # Before the descriptors: one of them may be closed when a stream that replaced another is dropped.
        Part("standard streams and hooks", _replaceable, _replace, is_same=_are_identical),
        _Descriptors(),
        Part("standard streams", _closed_streams, _reopen_streams, merge=lambda usual, _before, _after: usual),
        Part("sys.argv", lambda: list(sys.argv), lambda usual: setattr(sys, "argv", list(usual))),
        Part("warning filters", lambda: list(warnings.filters), _set_filters, merge=_merged_filters),
        Part("the locale", lambda: _locale.setlocale(_locale.LC_ALL), lambda usual: _locale.setlocale(_locale.LC_ALL, usual)),
        _DefaultDecimals("the default decimal context", _decimal_default, _set_decimal_default),
        Part("garbage collection", gc.isenabled, lambda usual: gc.enable() if usual else gc.disable()),
        Part("the thresholds of garbage collection", gc.get_threshold, lambda usual: gc.set_threshold(*usual)),
        Part("the switch interval", sys.getswitchinterval, sys.setswitchinterval),
        Part("the stack size of threads", threading.stack_size, threading.stack_size),
        Part("the event loop policy", event_loop_policy, _set_event_loop_policy, is_same=is_),
        Part("tracing", sys.gettrace, sys.settrace, is_same=is_),
        Part("profiling", sys.getprofile, sys.setprofile, is_same=is_),
        Part("the timeout of sockets", socket.getdefaulttimeout, socket.setdefaulttimeout),
        Part("the limit of digits", sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    ]  # fmt: skip


def irreversible_parts() -> "list[Part[Any]]":
    """Give the parts that can be put back in some cases only; no C code changes them by the way."""
    return [
        Part("the priority", lambda: os.getpriority(os.PRIO_PROCESS, 0), _set_priority),
        Part("the limits", lambda: [resource.getrlimit(limit) for limit in _LIMITS], _set_limits),
        Part(
            "the set of cores", lambda: os.sched_getaffinity(0), lambda usual: os.sched_setaffinity(0, usual)
        ),
        Part("the scheduling policy", lambda: os.sched_getscheduler(0), lambda _usual: None),
        Part("the user or groups", _identity, _set_identity),
        Part("the root directory", lambda: _identity_of(Path("/").stat()), lambda _usual: None),
    ]


def event_loop_policy() -> object:
    """Give the policy, which has the current event loop; None as long as nobody has asked for that."""
    loops = sys.modules.get("asyncio.events")
    return None if loops is None else vars(loops).get(LOOP_POLICY)


# --- How they are read and written ------------------------------------------------------------------------------------


def _working_directory() -> str:
    with suppress(OSError):
        return os.getcwd()  # noqa: PTH109 - pathlib takes longer
    return ""


def _put(name: bytes, value: bytes | None) -> None:
    if value is None:
        os.unsetenv(name)
    else:
        os.putenv(name, value)


def _merged_variables(
    usual: dict[bytes, bytes], before: dict[bytes, bytes], after: dict[bytes, bytes]
) -> dict[bytes, bytes]:
    removed = before.keys() - after.keys()
    kept = {name: value for name, value in usual.items() if name not in removed}
    return kept | dict(after.items() - before.items())


def _time_zone() -> tuple[object, ...]:
    return time.tzname, time.timezone, time.altzone, time.daylight


def _temporary_directory() -> str | None:
    tempfile = sys.modules.get("tempfile")
    return None if tempfile is None else vars(tempfile).get("tempdir")


def _set_temporary_directory(usual: str | None) -> None:
    if "tempfile" in sys.modules:
        # None: to be looked up in the variables when it is needed.
        vars(sys.modules["tempfile"])["tempdir"] = usual


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _running_timers() -> list[bool]:
    return [signal.getitimer(timer)[0] > 0 for timer in _TIMERS]


def _stop_timers(_usual: list[bool]) -> None:
    for timer in _TIMERS:
        signal.setitimer(timer, 0)


def _handlers() -> tuple[Any, ...]:
    return tuple(map(_c_signal.getsignal, _SIGNALS))


def _handle(usual: Iterable[Any]) -> None:
    for number, handler in zip(_SIGNALS, usual, strict=True):
        if _c_signal.getsignal(number) is not handler:
            _c_signal.signal(number, handler)


def _merged_handlers(usual: Iterable[Any], before: Iterable[Any], after: Iterable[Any]) -> tuple[Any, ...]:
    changes = zip(usual, before, after, strict=True)
    return tuple(new if new is not old else kept for kept, old, new in changes)


def _blocked_signals() -> set[Any]:
    blocked: set[Any] = _c_signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return blocked


def _block_signals(usual: set[Any]) -> None:
    _c_signal.pthread_sigmask(signal.SIG_SETMASK, usual)


def _are_identical(some: Iterable[object], others: Iterable[object]) -> bool:
    return all(map(is_, some, others))


def _replaceable() -> list[object]:
    return [getattr(module, name, None) for module, names in _REPLACED for name in names]


def _replace(usual: Iterable[object]) -> None:
    values = iter(usual)
    for module, names in _REPLACED:
        for name in names:
            setattr(module, name, next(values))


def _copy(number: int) -> int:
    try:
        copy = os.dup(number)
    except OSError:
        return -1
    return copy


def _standard_descriptors() -> tuple[tuple[int, int] | None, ...]:
    found: list[tuple[int, int] | None] = []
    for number in _STANDARD_DESCRIPTORS:
        try:
            found.append(_identity_of(os.fstat(number)))
        except OSError:
            found.append(None)
    return tuple(found)


def _identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _closed_streams() -> list[str]:
    streams = {name: getattr(sys, name, None) for name in _STREAMS}
    return [name for name, stream in streams.items() if stream is not None and _is_closed(stream)]


def _is_closed(stream: object) -> bool:
    try:
        return bool(getattr(stream, "closed", False))
    except ValueError:
        # It has been detached.
        return True


def _reopen_streams(_usual: list[str]) -> None:
    for name in _closed_streams():
        number = _STREAMS[name]
        setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _set_filters(usual: list[Any]) -> None:
    # This also makes warnings that were compared with the old filters be compared again.
    warnings.resetwarnings()
    warnings.filters[:] = usual  # type: ignore[index]  # a list, though typeshed promises only a sequence


def _merged_filters(usual: list[Any], before: list[Any], after: list[Any]) -> list[Any]:
    known = set(map(id, before))
    # Filters go in front, but for those that were asked to be appended.
    first = next((position for position, entry in enumerate(after) if id(entry) in known), len(after))
    added = [entry for entry in after if id(entry) not in known]
    return [*added[:first], *usual, *added[first:]]


def _decimal_default() -> tuple[Any, ...] | None:
    decimals = sys.modules.get("_decimal")
    return None if decimals is None else decimal_fields(decimals.DefaultContext)


def _set_decimal_default(usual: tuple[Any, ...] | None) -> None:
    for field, value in zip(_DECIMAL_FIELDS, usual or (), strict=True):
        setattr(sys.modules["_decimal"].DefaultContext, field, value)


def _set_event_loop_policy(usual: object) -> None:
    # The official way is deprecated, and will go.
    vars(sys.modules["asyncio.events"])[LOOP_POLICY] = usual


def _set_priority(usual: int) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, usual)


def _set_limits(usual: list[tuple[int, int]]) -> None:
    for limit, value in zip(_LIMITS, usual, strict=True):
        if resource.getrlimit(limit) != value:
            resource.setrlimit(limit, value)


def _identity() -> tuple[object, ...]:
    return os.getresuid(), os.getresgid(), sorted(os.getgroups())


def _set_identity(usual: tuple[Any, ...]) -> None:
    users, groups, more_groups = usual
    os.setresuid(*users)
    os.setresgid(*groups)
    os.setgroups(more_groups)
