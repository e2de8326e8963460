"""Calls as an executor sends them to workers, and their outcomes. No error in a user's code fails the run that it is in.

A call is `fn(*args, **kwargs)`, all of it sealed. Its outcome is a tuple (kind, content, seconds that fn took).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from inspect import CO_COROUTINE
from time import perf_counter
from types import FunctionType
from typing import Any, Final, TypeVar

from handoff_actors.errors import SerializationError
from handoff_actors.graph.checks import is_coroutine_code
from handoff_actors.integrations.chaining import check_captures
from handoff_actors.wire.code.namespaces import current
from handoff_actors.wire.code.unchanging import UnchangingCode
from handoff_actors.wire.exceptions import encode_exception
from handoff_actors.wire.loaded_code import LoadedCode
from handoff_actors.wire.payload import Sealed, encode_code
from handoff_actors.workers.child.loading import refusal_behind

T = TypeVar("T")

#: Types that certainly can be encoded and decoded, and cost least as they are.
_PLAIN: Final = frozenset({int, float, bool, str, bytes, type(None)})

#: Wrapped functions that are kept for further calls, and the size of each at most.
_CALLERS_KEPT: Final = 64
_NBYTES_KEPT: Final = 100_000


class Kind:
    """The kinds of an outcome's content. Numbers, as those of an enum take ten times as long to decode."""

    #: The return value of fn.
    PLAIN: Final = 0
    #: The return value of fn, sealed.
    SEALED: Final = 1
    #: The exception that fn raised, encoded.
    RAISED: Final = 2
    #: The exception that the initializer raised, encoded.
    NOT_INITIALIZED: Final = 3


CallOutcome = tuple[int, Any, float]


class Initializer:
    """Called once in each worker process, before the first function of its executor."""

    def __init__(self, executor: str, code: Callable[..., object], arguments: Sequence[object]) -> None:
        self._executor = executor
        self._call = Sealed.of((code, tuple(arguments)))

    def failure(self) -> CallOutcome | None:
        """Call it, unless it was called before in this process; return the outcome of its failure, or None."""
        initialized: dict[str, CallOutcome | None] = current().initialized
        if self._executor not in initialized:
            initialized[self._executor] = self._attempt()
        return initialized[self._executor]

    def _attempt(self) -> CallOutcome | None:
        # The app needs none of it.
        from handoff_actors.workers.child.process.state import keeping_changes  # noqa: PLC0415

        try:
            with keeping_changes():
                code, arguments = self._call.open()
                code(*arguments)
        except BaseException as error:  # noqa: BLE001 - whatever it raises, the app is to know
            return Kind.NOT_INITIALIZED, encode_exception(error), 0.0
        return None


class SealedCall:
    """A user's function, as workers get it."""

    #: See wire.code.captures: `open` gives each call what the function captures.
    _keeps_captures_pristine = True

    def __init__(
        self, by_reference: bool, fn: bytes, initializer: Initializer | None, modules: Sequence[str] = ()
    ) -> None:
        self._by_reference = by_reference
        self._modules = modules
        self._fn = fn
        self._initializer = initializer
        self._loaded = LoadedCode(by_reference=by_reference, encoded=fn)

    @property
    def code_modules(self) -> set[str]:
        """See wire.code.by_value_pickler: modules that the function may import, which its bytes don't show."""
        return set(self._modules)

    def open(self) -> Callable[..., Any]:
        """Give the function for one call. Raises SerializationError, each time."""
        return self._loaded.load()

    def refusal(self) -> CallOutcome | None:
        """Return the outcome of any call, if the initializer has failed, else None."""
        return None if self._initializer is None else self._initializer.failure()

    def __reduce__(self) -> tuple[Any, ...]:
        return SealedCall, (self._by_reference, self._fn, self._initializer)


def call(code: SealedCall, arguments: Sealed) -> CallOutcome | Coroutine[Any, Any, CallOutcome]:
    """Run in a worker: call a function. Where that gives an awaitable, so does this."""
    started = perf_counter()
    try:
        prepared = _prepared(code, arguments)
        if isinstance(prepared, tuple):
            return prepared
        started = perf_counter()
        result = prepared()
        if hasattr(type(result), "__await__"):
            return _outcome_of(result, started)
        return _returned(result, perf_counter() - started)
    except BaseException as error:  # noqa: BLE001 - it is the future's
        return _raised(error, perf_counter() - started)


async def call_async(code: SealedCall, arguments: Sealed) -> CallOutcome:
    """Run in a worker: call a coroutine function, and await its coroutine."""
    started = perf_counter()
    try:
        prepared = _prepared(code, arguments)
        if isinstance(prepared, tuple):
            return prepared
        started = perf_counter()
        awaitable = prepared()
    except BaseException as error:  # noqa: BLE001 - it is the future's
        return _raised(error, perf_counter() - started)
    return await _outcome_of(awaitable, started)


async def _outcome_of(awaitable: Awaitable[Any], started: float) -> CallOutcome:
    try:
        result = await awaitable
        return _returned(result, perf_counter() - started)
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
            raise
        return _raised(error, perf_counter() - started)


def _is_being_cancelled() -> bool:
    """True if the node cancels the call; else the call has awaited something that was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _prepared(code: SealedCall, arguments: Sealed) -> CallOutcome | Callable[[], Any]:
    """Return the call with its arguments; or the outcome of any call, if the initializer has failed."""
    refusal = code.refusal()
    if refusal is not None:
        return refusal
    args, kwargs = arguments.open()
    return partial(code.open(), *args, **kwargs)


class Callers:
    """Wraps users' functions for a run, so that their outcomes are returned and never raised."""

    def __init__(self, initializer: Initializer | None) -> None:
        self._initializer = initializer
        #: By the identity of a function, since `begin`: what wraps it. The function is kept, so that no other has its identity.
        self._current: dict[int, tuple[Callable[..., object], Callable[..., object]]] = {}
        #: By what functions are encoded as: a function that is the same as before is the same code for the run, too.
        self._known: dict[tuple[bool, bytes, bool], Callable[..., object]] = {}

    def begin(self) -> None:
        """Take functions as they are now: what they capture may have changed."""
        self._current.clear()

    def caller_of(self, fn: Callable[..., object]) -> Callable[..., object]:
        """Return what a run is to call in place of `fn`. Raises SerializationError, and TypeError for a captured future."""
        current = self._current.get(id(fn))
        if current is None:
            check_captures(fn)
            current = self._current[id(fn)] = fn, self._wrapped(fn)
        return current[1]

    def _wrapped(self, fn: Callable[..., object]) -> Callable[..., object]:
        modules: set[str] = set()
        _, by_reference, encoded = encode_code(fn, modules=modules)
        key = by_reference, encoded, is_async(fn)
        known = self._known.get(key)
        if known is None:
            code = SealedCall(by_reference, encoded, self._initializer, sorted(modules))
            # A partial of a plain function is what the DAG checks fastest.
            known = UnchangingCode(call_async if is_async(fn) else call, code)
            if len(self._known) >= _CALLERS_KEPT:
                self._known.clear()
            if len(encoded) <= _NBYTES_KEPT:
                self._known[key] = known
        return known


def is_async(fn: Callable[..., object]) -> bool:
    """True if `fn` is a coroutine function, which an async worker runs."""
    if type(fn) is FunctionType and not fn.__dict__:
        # The answer of `is_coroutine_code`, in a tenth of the time: each call is asked for.
        return bool(fn.__code__.co_flags & CO_COROUTINE)
    return is_coroutine_code(fn)


def _returned(result: object, seconds: float) -> CallOutcome:
    if type(result) in _PLAIN:
        return Kind.PLAIN, result, seconds
    return Kind.SEALED, Sealed.of(result), seconds


def _raised(error: BaseException, seconds: float) -> CallOutcome:
    return Kind.RAISED, encode_exception(_users_own(error)), seconds


def attempt(step: Callable[[], T]) -> tuple[T, None] | tuple[None, BaseException]:
    """Run a step in the app; return its value, or the exception of a user's `__reduce__`, even SystemExit.

    That exception is the outcome of the future.
    """
    try:
        return step(), None
    except BaseException as error:  # noqa: BLE001 - see above
        return None, _users_own(error)


def _users_own(error: BaseException) -> BaseException:
    """Return the cause of a SerializationError; the error itself where it has advice about a missing module or guard."""
    if not isinstance(error, SerializationError) or isinstance(error.__cause__, ModuleNotFoundError):
        return error
    return refusal_behind(error) or error.__cause__ or error
