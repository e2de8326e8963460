"""The state of a worker's process that calls may change, put back after each: a call finds what the first one found.

Three things tell of a change, so that a call without one costs half a microsecond:
- Looks at what Python has at hand: identities, and comparisons of short lists.
- Recorders in front of the functions of `os`, `signal` and so on by which user code changes the rest: they set a flag.
- After a call that took long enough for that not to matter everything is compared, as C code may have changed it.

Modules stay in a worker, and so does what a module changes while it is imported, even by a call: later calls find the
module, and it is not executed again. A change that can't be put back ends with the worker.
"""

import os
import select
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import wraps
from importlib.machinery import SourceFileLoader
from itertools import chain
from types import ModuleType
from typing import Any, Final, ParamSpec, TypeVar

from handoff_actors.workers.child.process.parts import (
    LOOP_POLICY,
    EnvironmentVariables,
    WorkingDirectory,
    decimal_fields,
    event_loop_policy,
    irreversible_parts,
    parts_derived_from_variables,
    reversible_parts,
)

P = ParamSpec("P")
R = TypeVar("R")

#: Calls the code that is its first argument with the others.
CodeCaller = Callable[..., Any]

#: After a call of this length everything is compared, which takes some 20 µs.
LONG_S: Final = 1e-3
_STANDARD_DESCRIPTORS: Final = (0, 1, 2)
#: The functions that get recorders, by module. Those of `signal` that are written in Python call these of `_signal`.
_RECORDED: Final[Mapping[str, Sequence[str]]] = {
    "os": (
        "chdir", "fchdir", "chroot", "umask", "dup2", "closerange", "nice", "setpriority", "sched_setaffinity",
        "sched_setscheduler", "sched_setparam", "setuid", "seteuid", "setreuid", "setresuid", "setgid", "setegid",
        "setregid", "setresgid", "setgroups",
    ),
    "sys": ("setrecursionlimit", "set_int_max_str_digits", "setswitchinterval"),
    "gc": ("enable", "disable", "set_threshold"),
    "threading": ("stack_size",),
    "socket": ("setdefaulttimeout",),
    "signal": ("alarm", "setitimer"),
    "_signal": ("signal", "pthread_sigmask"),
    "_locale": ("setlocale",),
    "locale": ("_setlocale",),
    "resource": ("setrlimit", "prlimit"),
    "time": ("tzset",),
}  # fmt: skip


class ProcessState:
    """The state of this process. Make it in the main thread, before any user code runs."""

    def __init__(self) -> None:
        #: A recorder has seen a call.
        self._is_touched = False
        self._main_thread = threading.get_ident()
        self._is_keeping = False
        self._environment = EnvironmentVariables()
        self._directory = WorkingDirectory()
        self._derived = parts_derived_from_variables()
        self._reversible = reversible_parts(self._environment, self._derived, self._directory)
        self._irreversible = irreversible_parts()
        #: Context variables that imports within calls have set, for the calls that follow.
        self._kept: dict[ContextVar[Any], object] = {}
        self._variables_before: dict[ContextVar[Any], object] = {}
        poll = select.poll()
        for descriptor in _STANDARD_DESCRIPTORS:
            poll.register(descriptor, 0)
        self._poll = poll.poll
        #: The context of the latest call.
        self.context = copy_context()
        #: What can't be put back, for people; "" as long as there is no such thing.
        self.damage = ""
        self._look()
        self._record()
        self._keep_imports()
        _ThisProcess.state = self

    # --- Around a call ------------------------------------------------------------------------------------------

    def prepare(self) -> CodeCaller:
        """Get ready for a call; returns what calls the code that is its first argument, with context variables of its own."""
        if self._is_touched or len(sys.modules) != self._modules:
            # Loading the code, or decoding its arguments, has executed something.
            self.note()
        if self._kept:
            self.take_over_variables()
        self.context = context = copy_context()
        if "_decimal" in sys.modules:
            context.run(isolate_decimals)
        return context.run

    def restore(self, seconds: float) -> bool:
        """Put everything back after a call of that length, or note the `damage`; False if a look was enough."""
        try:
            is_as_before = not (
                self._is_touched
                or seconds > LONG_S
                or sys.stdout is not self._stdout
                or sys.stderr is not self._stderr
                or sys.stdin is not self._stdin
                or os.environ is not self._environ
                or warnings.filters != self._filters
                or sys.argv != self._argv
                or sys.excepthook is not self._excepthook
                or threading.excepthook is not self._threading_excepthook
                or sys.getprofile() is not self._profile
                or sys.gettrace() is not self._trace
                or (self._loops is not None and self._loops.get(LOOP_POLICY) is not self._loop_policy)
                or (self._decimals is not None and decimal_fields(self._decimals) != self._decimal_fields)
                # Events of hung-up peers are there again and again.
                or ((events := self._poll(0)) and any(event & select.POLLNVAL for _, event in events))
            )
        except AttributeError:
            # Deleted by the call.
            is_as_before = False
        if not is_as_before:
            self._put_back()
        return not is_as_before

    def note(self) -> None:
        """Take the present state as the usual one."""
        for part in chain(self._reversible, self._irreversible):
            part.note()
        self._look()

    def note_environment(self) -> None:
        """Between calls: take the present environment variables and working directory as the usual ones."""
        for part in (self._environment, *self._derived, self._directory):
            part.note()
        self._is_touched = False

    # --- Changes that stay --------------------------------------------------------------------------------------

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Let what changes within stay for the calls that follow."""
        is_outermost = self._begin_keeping()
        try:
            yield
        finally:
            if is_outermost:
                self._end_keeping()

    def take_over_variables(self) -> None:
        """Set the context variables that are to stay in the present context, which those of later calls are copies of."""
        for variable, value in self._kept.items():
            variable.set(value)
        self._kept.clear()

    def _begin_keeping(self) -> bool:
        # Of two threads that run at once it can't be told which of them has changed something.
        if self._is_keeping or threading.get_ident() != self._main_thread:
            return False
        self._is_keeping = True
        for part in chain(self._reversible, self._irreversible):
            part.mark()
        self._variables_before = _variables()
        return True

    def _end_keeping(self) -> None:
        self._is_keeping = False
        for part in chain(self._reversible, self._irreversible):
            part.keep()
        before = self._variables_before
        self._kept |= {
            variable: value
            for variable, value in _variables().items()
            if not _is_same_value(before.get(variable), value)
        }
        # The call may have changed other parts before, which shows in comparison with the new usual ones only.
        self._is_touched = True

    def _keep_imports(self) -> None:
        load = SourceFileLoader.exec_module

        def exec_module(self_: SourceFileLoader, module: ModuleType) -> None:
            is_outermost = self._begin_keeping()
            try:
                load(self_, module)
            finally:
                if is_outermost:
                    self._end_keeping()

        # Python leaves frames of its import system out of tracebacks, and knows them by the name of their file.
        exec_module.__code__ = exec_module.__code__.replace(co_filename=load.__code__.co_filename)
        SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign, assignment]  # it is inherited

    # --- Noticing and putting back ------------------------------------------------------------------------------

    def _put_back(self) -> None:
        try:
            changed = self._restore_parts()
        except BaseException:  # noqa: BLE001 - a signal handler that the call has left may raise until it is replaced
            changed = self._restore_parts()
        self._look()
        if changed:
            self.damage = ", ".join(changed)

    def _restore_parts(self) -> list[str]:
        parts = chain(self._reversible, self._irreversible if self._is_touched else ())
        # Twice: see above.
        return [part.name for part in parts if not part.restore() and not part.restore()]

    def _look(self) -> None:
        """Remember what `restore` compares."""
        self._stdout, self._stderr, self._stdin = sys.stdout, sys.stderr, sys.stdin
        self._environ = os.environ
        self._filters = list(warnings.filters)
        self._argv = list(sys.argv)
        self._excepthook, self._threading_excepthook = sys.excepthook, threading.excepthook
        self._profile, self._trace = sys.getprofile(), sys.gettrace()
        decimals = sys.modules.get("_decimal")
        self._decimals = None if decimals is None else decimals.DefaultContext
        self._decimal_fields = None if decimals is None else decimal_fields(decimals.DefaultContext)
        loops = sys.modules.get("asyncio.events")
        self._loops = None if loops is None else vars(loops)
        self._loop_policy = event_loop_policy()
        self._modules = len(sys.modules)
        self._is_touched = False

    def _record(self) -> None:
        for name, functions in _RECORDED.items():
            module = sys.modules.get(name)
            for function in functions:
                original = getattr(module, function, None)
                if original is not None:
                    _put_in_place(module, function, original, self._recorder(original))
        _put_in_place(os, "close", os.close, self._recorder_of_close(os.close))
        for change in (os.putenv, os.unsetenv):
            _put_in_place(os, change.__name__, change, self._recorder_of_variables(change))

    def _recorder(self, original: Callable[P, R]) -> Callable[P, R]:
        @wraps(original)
        def recorder(*args: P.args, **kwargs: P.kwargs) -> R:
            self._is_touched = True
            return original(*args, **kwargs)

        return recorder

    def _recorder_of_close(self, original: Callable[[int], None]) -> Callable[[int], None]:
        @wraps(original)
        def close(fd: int) -> None:
            if fd in _STANDARD_DESCRIPTORS:
                self._is_touched = True
            original(fd)

        return close

    def _recorder_of_variables(self, original: Callable[..., None]) -> Callable[..., None]:
        @wraps(original)
        def recorder(name: str | bytes, /, *value: str | bytes) -> None:
            original(name, *value)
            self._environment.put.add(os.fsencode(name))
            self._is_touched = True

        return recorder


def isolate_decimals() -> None:
    """Give the present context a decimal context of its own: the variable's value is mutable, and copies of contexts share it."""
    decimals = sys.modules.get("_decimal")
    if decimals is not None:
        decimals.setcontext(decimals.getcontext().copy())


@contextmanager
def keeping_changes() -> Iterator[None]:
    """Let what a call changes within, in the process and in context variables, stay in its worker for the calls that follow."""
    state = _ThisProcess.state
    if state is None:
        yield
        return
    with state.keeping():
        yield


def damage_reason(damage: str) -> str:
    """Say why a worker is retired that has this damage."""
    return f"it left {damage} of its worker changed, which can't be put back; change that in a process of its own"


class _ThisProcess:
    """The worker that this process is, if it is one."""

    state: ProcessState | None = None


def _put_in_place(
    module: ModuleType | None, name: str, original: Callable[..., Any], recorder: object
) -> None:
    """Replace a function where it is found by name, also by pickle."""
    for place in {module, sys.modules.get(original.__module__)}:
        if getattr(place, name, None) is original:
            setattr(place, name, recorder)
    for supporting in (
        os.supports_fd,
        os.supports_dir_fd,
        os.supports_effective_ids,
        os.supports_follow_symlinks,
    ):
        if original in supporting:
            supporting.add(recorder)  # type: ignore[arg-type]


def _variables() -> dict[ContextVar[Any], object]:
    return {variable: _as_it_is(value) for variable, value in copy_context().items()}


def _as_it_is(value: Any) -> object:
    return value.copy() if _is_decimal_context(value) else value


def _is_same_value(before: object, after: object) -> bool:
    return before is after or (_is_decimal_context(after) and repr(before) == repr(after))


def _is_decimal_context(value: object) -> bool:
    decimals = sys.modules.get("_decimal")
    return decimals is not None and type(value) is decimals.Context
